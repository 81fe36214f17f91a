"""Benches of the HTTP API and of the triggers under load."""
