"""Where records live. A store swaps, the core interprets: no policy here."""
