"""Rows: images, embedding spaces, jobs, query images and API keys."""
