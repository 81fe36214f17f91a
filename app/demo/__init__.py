"""The sample gallery and what `make demo` shows of it. May import the domain and `rich`; never `workers`."""
