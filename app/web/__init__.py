"""The HTTP API: Flask over the SQL functions."""

from app.web.factory import create_app

__all__ = ["create_app"]
