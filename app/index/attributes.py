"""Attribute indexes: one expression index per attribute and type, which filters use."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql as pgsql

from app import db
from app.db import sql
from app.errors import ConflictError, NotFoundError

TYPES = ("numeric", "text", "boolean", "timestamp", "text[]")


@dataclass(frozen=True)
class AttributeIndex:
    """One attribute index. `name` is as in filters; `valid` is false during a build and after a failed one."""

    name: str
    type: str
    index: str
    valid: bool
    size_bytes: int
    scans: int


def add(connection: db.Connection, name: str, type: str) -> AttributeIndex:  # noqa: A002 - the word of the CLI
    """Build the index of attribute `name` as `type` (one of TYPES) while others read and write, then its statistics.

    The connection is in autocommit, because the build is CONCURRENTLY; it waits for older transactions. An invalid
    index of an interrupted build is dropped first. A valid one is kept, and only its statistics are updated. The index
    leaves out values of another type.

    Raises:
        InvalidInputError: the name or the type is not valid.
        ConflictError: another session builds or drops an attribute index.
    """
    with db.translated(), _exclusive(connection):
        statement = _text(connection, "SELECT lookalike.attribute_index_ddl(%s, %s)", name, type)
        index = _text(connection, "SELECT lookalike.attribute_index_name(lookalike.attribute_path(%s), %s)", name, type)
        found = _find(connection, index)
        if found is not None and not found.valid:
            _drop_index(connection, index)
            found = None
        if found is None:
            # The database quotes it: see lookalike.attribute_index_ddl.
            connection.execute(statement)
        # The whole table, because ANALYZE with a list of columns skips the expressions of indexes.
        connection.execute("ANALYZE lookalike.images")
        found = _find(connection, index)
    if found is None:
        raise ConflictError(f"the index {index} of attribute {name!r} was dropped while it was built; add it again")
    return found


def ls(connection: db.Connection) -> list[AttributeIndex]:
    """Return the attribute indexes, finished or not, by name and type."""
    with db.translated():
        return _read(connection)


def drop(connection: db.Connection, name: str) -> list[AttributeIndex]:
    """Drop the indexes of attribute `name`, of every type, finished or not, and return them.

    The connection is in autocommit. Filters return the same without the index, only slower.

    Raises:
        NotFoundError: the attribute has no index.
        ConflictError: another session builds or drops an attribute index.
    """
    with db.translated(), _exclusive(connection):
        dropped = _read(connection, name)
        for one in dropped:
            _drop_index(connection, one.index)
    if not dropped:
        raise NotFoundError(f'attribute {name!r} has no index; "lookalike attribute ls" lists the existing ones')
    return dropped


def _read(connection: db.Connection, name: str | None = None) -> list[AttributeIndex]:
    rows = connection.execute(sql.query("attribute_indexes"), {"name": name}).fetchall()
    return [_record(row) for row in rows]


@contextmanager
def _exclusive(connection: db.Connection) -> Iterator[None]:
    # Does not wait, because a waiting session holds a snapshot, for which a CONCURRENTLY build would wait in turn.
    key: LiteralString = "hashtextextended('lookalike.attribute_indexes', 0)"
    row = connection.execute(pgsql.SQL("SELECT pg_try_advisory_lock({})").format(pgsql.SQL(key))).fetchone()
    if row is None or not row[0]:
        raise ConflictError("another session is building or dropping an attribute index; try again when it is done")
    try:
        # A time limit meant for queries would end every build of a large table.
        connection.execute("SET statement_timeout = 0")
        yield
    finally:
        if not connection.closed:
            connection.execute("RESET statement_timeout")
            connection.execute(pgsql.SQL("SELECT pg_advisory_unlock({})").format(pgsql.SQL(key)))


def _find(connection: db.Connection, index: str) -> AttributeIndex | None:
    return next((one for one in ls(connection) if one.index == index), None)


def _drop_index(connection: db.Connection, index: str) -> None:
    connection.execute(pgsql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(pgsql.Identifier("lookalike", index)))


def _text(connection: db.Connection, query: LiteralString, *parameters: str) -> str:
    row = connection.execute(query, parameters).fetchone()
    return str(row[0]) if row else ""


def _record(row: tuple[object, ...]) -> AttributeIndex:
    name, kind, index, valid, size, scans = row
    return AttributeIndex(
        name=str(name),
        type=str(kind),
        index=str(index),
        valid=bool(valid),
        size_bytes=int(str(size)),
        scans=int(str(scans)),
    )
