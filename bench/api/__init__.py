"""The HTTP API and triggers under load."""
