"""The embedded PostgreSQL server of a home folder, for demos, tests and laptops."""

from app.db.embedded.server import EmbeddedServer, running, stop

__all__ = ["EmbeddedServer", "running", "stop"]
