"""Kills workers, API and PostgreSQL at random moments under load, and then looks whether anything was lost.

`python -m bench.chaos`; see bench/README.md. `check` alone knows what must hold, and is tested by tests/bench/test_chaos.py.
"""
