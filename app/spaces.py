"""Embedding spaces: list, create. Imports `db`, `errors`, `records` and `sql`."""

import time

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from app import sql
from app.db import Connection, translated
from app.errors import NotFoundError, SchemaError
from app.records import Json, Space


def _read(conn: Connection, *, name: str | None = None, active_only: bool = False) -> list[Space]:
    with translated(), conn.cursor(row_factory=class_row(Space)) as cursor:
        return cursor.execute(sql.query("spaces"), {"name": name, "active_only": active_only}).fetchall()


def ls(conn: Connection) -> list[Space]:
    """Return all spaces, oldest first."""
    return _read(conn)


def get(conn: Connection, name: str) -> Space:
    """Return the space of this name, or raise NotFoundError that lists those there are."""
    found = _read(conn, name=name)
    if not found:
        known = ", ".join(space.name for space in _read(conn)) or "none yet"
        raise NotFoundError(f'there is no embedding space "{name}"; there are: {known}')
    return found[0]


def active(conn: Connection) -> Space:
    """Return the active space, or raise SchemaError where none is."""
    found = _read(conn, active_only=True)
    if not found:
        raise SchemaError('no embedding space is active; the first "lookalike worker" creates one')
    return found[0]


def create(
    conn: Connection,
    *,
    name: str,
    model: str,
    weights: str | None,
    dimensions: int,
    preprocessing: Json,
    fingerprint: str,
    index_options: Json | None = None,
) -> Space:
    """Create a space and queue the images already there. The connection is in autocommit: two transactions.

    Between them it waits for writers that began before the space was seen: their triggers queue nothing for it, and
    their images show only when they commit. The first space of a database becomes the active one.
    """
    with translated():
        conn.execute(
            sql.query("create_space"),
            {
                "name": name,
                "model": model,
                "weights": weights,
                "dimensions": dimensions,
                "preprocessing": Jsonb(preprocessing),
                "fingerprint": fingerprint,
                "index_options": None if index_options is None else Jsonb(index_options),
            },
        )
        _wait_for_older_writers(conn)
        space = get(conn, name)
        conn.execute(sql.query("enqueue_missing"), {"space_id": space.id, "most": 2**31 - 1})
    return space


def enqueue_missing(conn: Connection, space: Space, *, most: int = 100_000) -> int:
    """Queue up to `most` images that this space lacks altogether; return how many."""
    with translated():
        row = conn.execute(sql.query("enqueue_missing"), {"space_id": space.id, "most": most}).fetchone()
    return int(str(row[0])) if row else 0


def _wait_for_older_writers(conn: Connection) -> None:
    row = conn.execute(sql.query("snapshot")).fetchone()
    while row and (left := conn.execute(sql.query("writers_before"), {"snapshot": row[0]}).fetchone()) and left[0]:
        time.sleep(0.05)
