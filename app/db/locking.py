"""Statements that need a lock which keeps others out, and transactions to be waited for."""

import time
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg.rows import scalar_row

from app.db import Connection, sql, translated
from app.db.connection import call
from app.errors import ConflictError

# A lock that must keep out searches or writers is waited for no longer than this at a time, since they queue behind it.
_LOCK_TIMEOUT = "150ms"


_LOCK_PAUSE = 0.35


def retry_on_lock(conn: Connection, function: LiteralString, *arguments: object, patience: float) -> object:
    """Call a SQL function that needs a lock which keeps others out; return its result.

    The call never waits for long: searches and writes would queue behind it. It is tried again until it gets the
    lock. The connection is in autocommit.

    Raises:
        ConflictError: others have held the lock for `patience` seconds; the message names them.
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
                    f"others have held what this change needs for {patience:g} s; try again when they are done: "
                    f"{_holders(conn)}"
                ) from error
        else:
            return row[0] if row else None
        time.sleep(_LOCK_PAUSE)


def _holders(conn: Connection) -> str:
    try:
        with conn.cursor(row_factory=scalar_row) as cursor:
            found = cursor.execute(sql.query("lock_holders")).fetchall()
    except psycopg.Error:
        found = []
    return ", ".join(map(str, found)) or "many short transactions"


def wait_for_older_writers(conn: Connection) -> None:
    """Wait for the transactions that wrote before now, and do not know of a space made since."""
    row = conn.execute(sql.query("snapshot")).fetchone()
    while row and (left := conn.execute(sql.query("writers_before"), {"snapshot": row[0]}).fetchone()) and left[0]:
        time.sleep(0.05)
