"""Lookalike: image retrieval inside PostgreSQL."""
