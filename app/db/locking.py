"""Retry statements that need an exclusive lock, and wait for older transactions."""

import time
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg.rows import scalar_row

from app.db import Connection, sql, translated
from app.db.connection import call
from app.errors import ConflictError

# Short, because searches and writes queue behind a lock that blocks them.
_LOCK_TIMEOUT = "150ms"
_LOCK_PAUSE_SECONDS = 0.35


def retry_on_lock(conn: Connection, function: LiteralString, *arguments: object, patience: float) -> object:
    """Call a SQL function that needs a lock which blocks others, and retry until it gets it; return its result.

    Each attempt waits briefly, because searches and writes queue behind it. The connection is in autocommit.

    Raises:
        ConflictError: other sessions held the lock for `patience` seconds; the message names them.
    """
    end = time.monotonic() + patience
    while True:
        try:
            with translated(), conn.transaction():
                conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                row = call(conn, function, *arguments).fetchone()
        except Exception as error:
            if not isinstance(error.__cause__, pg.LockNotAvailable | pg.DeadlockDetected):
                raise
            if time.monotonic() > end:
                raise ConflictError(
                    f"other sessions held a lock that this change needs for {patience:g} s; "
                    f"try again when they are done: {_holders(conn)}"
                ) from error
        else:
            return row[0] if row else None
        time.sleep(_LOCK_PAUSE_SECONDS)


def _holders(conn: Connection) -> str:
    try:
        with conn.cursor(row_factory=scalar_row) as cursor:
            found = cursor.execute(sql.query("lock_holders")).fetchall()
    except psycopg.Error:
        found = []
    return ", ".join(map(str, found)) or "many short transactions"


def wait_for_older_writers(conn: Connection) -> None:
    """Wait until all transactions that run now have ended; they cannot see a space created meanwhile."""
    row = conn.execute(sql.query("snapshot")).fetchone()
    while row and (left := conn.execute(sql.query("writers_before"), {"snapshot": row[0]}).fetchone()) and left[0]:
        time.sleep(0.05)
