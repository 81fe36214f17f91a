"""The embedded PostgreSQL of a home folder, for demo, tests and laptop."""

from app.db.embedded.server import EmbeddedServer, running, stop

__all__ = ["EmbeddedServer", "running", "stop"]
