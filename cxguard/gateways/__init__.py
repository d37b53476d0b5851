"""Payment gateways: each turns what its provider answers into an outcome. No policy here."""
