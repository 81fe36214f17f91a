"""Embeddings and metadata go out to files and come back, to the bit."""
