"""Searches without pause while everything is changed: index, model, schema, workers, API. `python -m bench.soak`; see
bench/README.md."""
