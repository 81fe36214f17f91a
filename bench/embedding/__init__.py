"""The worker: rates, memory, and its embeddings against references."""
