"""The sample gallery, and `make demo` on it."""
