"""The sample gallery and what `make demo` shows of it."""
