"""Export images with their embeddings to Parquet or numpy files, and import them again without loss."""
