"""Read and write rows: images, embedding spaces, jobs, query images and API keys."""
