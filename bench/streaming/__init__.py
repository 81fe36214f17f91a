"""Inserts and churn beside searches."""
