"""PostgreSQL: connections, SQL files, the schema, standbys, retries and the embedded server."""

from app.db.connection import (
    MIN_SERVER,
    Connection,
    call,
    check_server,
    connect,
    database,
    open_pool,
    translate,
    translated,
)

__all__ = [
    "MIN_SERVER",
    "Connection",
    "call",
    "check_server",
    "connect",
    "database",
    "open_pool",
    "translate",
    "translated",
]
