"""ANN indexes of embedding spaces, built CONCURRENTLY. Imports `db`, `records` and `sql`."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql as pgsql

from app import sql
from app.db import Connection, translated
from app.errors import InvalidInputError
from app.records import Space

log = logging.getLogger(__name__)

# Called with the phase that PostgreSQL names and the share of the table done, 0 to 1.
Progress = Callable[[str, float], None]

# One build a space at a time, whoever starts it; the second key is the space's id.
_LOCK_CLASS = 0x100CA11

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Index:
    """An ANN index of a space, valid or left over from a build that failed."""

    name: str
    valid: bool
    bytes: int


def ls(conn: Connection, space: Space) -> list[Index]:
    """Return the ANN indexes of this space's table."""
    with translated():
        rows = conn.execute(sql.query("index_state"), {"table_name": space.table_name}).fetchall()
    return [Index(str(name), bool(valid), int(str(size))) for name, valid, size in rows]


def build(conn: Connection, space: Space, *, progress: Progress | None = None) -> bool:
    """Build the space's HNSW index unless a valid one is there; return whether it was built.

    The connection is in autocommit and busy until the end. Searches and writes go on meanwhile. Leftovers of a build
    that failed are dropped first. False, too, where another session is at it.
    """
    with translated():
        locked = conn.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCK_CLASS, space.id)).fetchone()
        if not (locked and locked[0]):
            log.info("another session is building the index of space %s", space.name)
            return False
        try:
            return _build(conn, space, progress)
        finally:
            if not conn.broken:
                conn.execute("SELECT pg_advisory_unlock(%s, %s)", (_LOCK_CLASS, space.id))


def _build(conn: Connection, space: Space, progress: Progress | None) -> bool:
    present = ls(conn, space)
    if any(index.valid for index in present):
        return False
    for leftover in present:
        log.warning("dropping %s, left invalid by a build that failed", leftover.name)
        conn.execute(pgsql.SQL("DROP INDEX CONCURRENTLY {}").format(pgsql.Identifier("lookalike", leftover.name)))
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(conn.info.dsn, conn.info.password, space, progress, done))
    if progress:
        watcher.start()
    try:
        conn.execute(_create_statement(space))
    finally:
        done.set()
        if progress:
            watcher.join()
    return True


def _create_statement(space: Space) -> pgsql.Composed:
    options = space.index_options
    if options.get("kind") != "hnsw":
        raise InvalidInputError(f'space {space.name} asks for an index of kind "{options.get("kind")}"; known: hnsw')
    return pgsql.SQL(
        "CREATE INDEX CONCURRENTLY {} ON {} USING hnsw (embedding halfvec_l2_ops) WITH (m = {}, ef_construction = {})"
    ).format(
        pgsql.Identifier(f"{space.table_name}_hnsw"),
        pgsql.Identifier("lookalike", space.table_name),
        pgsql.Literal(int(options["m"])),
        pgsql.Literal(int(options["ef_construction"])),
    )


def _watch(dsn: str, password: str, space: Space, progress: Progress, done: threading.Event) -> None:
    """Report progress from a connection of its own, until `done`; a lost connection only ends the reports."""
    try:
        with psycopg.connect(dsn, password=password, autocommit=True) as conn:
            while not done.wait(_POLL_SECONDS):
                row = conn.execute(sql.query("index_progress"), {"table_name": space.table_name}).fetchone()
                if row:
                    progress(str(row[0]), float(str(row[1])))
    except psycopg.OperationalError as error:
        log.warning("no progress of the index build to show: %s", error)
