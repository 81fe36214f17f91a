"""Lookalike: image retrieval inside PostgreSQL. Imports nothing of `workers`, torch or timm, anywhere below."""
