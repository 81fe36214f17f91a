"""The embedding worker: claims jobs, loads images, encodes them with timm and writes embeddings."""
