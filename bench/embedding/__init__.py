"""Benches of the worker: its rates, its memory, and its embeddings against references."""
