"""Measure index specs on a sample of the data in a scratch database, and pick one by a goal."""
