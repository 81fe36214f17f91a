"""Find images in folders, manifests and videos, watch for new ones, and register them in the database."""
