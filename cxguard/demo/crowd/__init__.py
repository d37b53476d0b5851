"""Shoppers over real HTTP, seeded: what each of them does, and a transcript of every word that each was told."""
