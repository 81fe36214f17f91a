"""One module with a blueprint per group of paths."""
