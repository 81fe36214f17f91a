"""The HTTP API: Flask over the SQL functions. Imports the domain modules; no worker, no torch."""

from app.web.factory import create_app

__all__ = ["create_app"]
