"""Searches without a pause while index, model, schema, workers and API change: `python -m bench.soak`.

See bench/README.md.
"""
