"""Kills workers, API and PostgreSQL at random moments under load, then checks whether anything was lost.

`python -m bench.chaos`; see bench/README.md. `check` alone defines what must hold; tests/bench/test_chaos.py tests it.
"""
