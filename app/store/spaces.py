"""Embedding spaces: list, create, backfill, activate, roll back, drop."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from psycopg import errors as pg
from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from app.db import Connection, call, sql, translated
from app.db.locking import retry_on_lock, wait_for_older_writers
from app.errors import LookalikeError, NotFoundError, SchemaError
from app.types import Json

# 0.12 s on two busy cores (15,000: 0.36 s), most of it for the foreign keys of the jobs. A transaction holds back
# vacuum, which it must not do for a second, on a slower machine either.
_BACKFILL_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Space:
    """A row of `lookalike.embedding_spaces`; `encoded_dimensions`: the model's, where it is reduced."""

    id: int
    name: str
    model: str
    weights: str | None
    preprocessing: Json
    fingerprint: str
    dimensions: int
    index_options: Json
    table_name: str
    active: bool
    created_at: datetime
    encoded_dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class PinnedSpace:
    """The active space, as `pin_active` returns it."""

    id: int
    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class SpaceCounts:
    """How far a space is: all images, and those embedded, queued and failed in it; workers that serve it."""

    images: int
    embedded: int
    queued: int
    failed: int
    live_workers: int


@dataclass(frozen=True, slots=True)
class MissingImages:
    """What searches would lose by a space: images found now and not embedded in it (queued, failed), its index."""

    missing: int
    queued: int
    failed: int
    index_missing: bool


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


def pin_active(conn: Connection, *, expected: int | None = None) -> PinnedSpace:
    """Return the active space, which stays the active one until the caller's transaction ends.

    SpaceChangedError where `expected`, the id of the space that a query was embedded in, is another one.
    """
    with translated(), conn.cursor(row_factory=class_row(PinnedSpace)) as cursor:
        found = cursor.execute(sql.query("hold_space"), {"in_space": expected}).fetchone()
    if found is None:
        raise SchemaError("no embedding space is active")
    return found


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
    patience: float = 60,
) -> Space:
    """Create a space and queue the images already there. The connection is in autocommit: several transactions.

    Between them it waits for writers that began before the space was seen: their triggers queue nothing for it, and
    their images show only when they commit. The first space of a database becomes the active one. ConflictError where
    the name is taken, a space of the same fingerprint exists, or a long transaction is in the way for `patience` s.
    """
    retry_on_lock(
        conn,
        "create_space",
        name,
        model,
        dimensions,
        Jsonb(preprocessing),
        fingerprint,
        weights,
        None if index_options is None else Jsonb(index_options),
        patience=patience,
    )
    with translated():
        wait_for_older_writers(conn)
    space = get(conn, name)
    backfill(conn, space)
    return space


def backfill(
    conn: Connection, space: Space, *, progress: Callable[[int], None] | None = None, patience: float = 2
) -> int:
    """Queue every image that this space lacks, in short transactions; return how many. In autocommit.

    Interrupted, it is simply called again: what is embedded, queued or failed is passed over. `progress` is called with
    the number queued so far. Images whose rows another transaction holds are looked at again for `patience` seconds in
    all; one held for longer is left to a worker's next look around.
    """
    queued, after, given_up = 0, 0, time.monotonic() + patience
    while True:
        try:
            with translated():
                row = call(conn, "backfill_space", space.id, after, _BACKFILL_BATCH).fetchone()
        except LookalikeError as error:
            # With a writer of several images: nothing was done of this part.
            if not isinstance(error.__cause__, pg.DeadlockDetected) or time.monotonic() > given_up:
                raise
            time.sleep(0.05)
            continue
        if row is None or row[2] is None:
            return queued
        queued += int(str(row[0]))
        if progress:
            progress(queued)
        if row[1] and time.monotonic() < given_up:
            time.sleep(0.05)
        else:
            after = int(str(row[2]))


def counts(conn: Connection, space: Space) -> SpaceCounts:
    """Return how far a space is, counted exactly: as slow as its queue is long."""
    with translated(), conn.cursor(row_factory=class_row(SpaceCounts)) as cursor:
        found = cursor.execute(sql.query("space_counts"), {"name": space.name}).fetchone()
    if found is None:
        raise NotFoundError(f"the embedding space {space.name} was dropped meanwhile")
    return found


def missing(conn: Connection, name: str) -> MissingImages:
    """Return what searches would lose if the space of this name were the active one."""
    with translated(), conn.cursor(row_factory=class_row(MissingImages)) as cursor:
        found = call(cursor, "space_missing", name).fetchone()
    return found or MissingImages(0, 0, 0, index_missing=False)


def activate(conn: Connection, name: str, *, force: bool = False, patience: float = 30) -> None:
    """Make the space of this name the active one, in one transaction, which waits for searches that run.

    ConflictError where the space lacks images or an index (unless `force`), or where a long transaction has been in
    the way for `patience` seconds; searches that come meanwhile wait for fractions of a second. In autocommit.
    """
    retry_on_lock(conn, "activate_space", name, force, patience=patience)


def rollback(conn: Connection, *, patience: float = 30) -> str:
    """Make the space active again that was it before the last switch; return its name. Waits as `activate` does."""
    return str(retry_on_lock(conn, "rollback_space", patience=patience))


def drop(conn: Connection, name: str, *, patience: float = 30) -> None:
    """Drop a space that is not active: jobs in parts, then the rest in one transaction. In autocommit.

    ConflictError for the active space, for a table that a user's view hangs on, and where a long transaction has been
    in the way for `patience` seconds.
    """
    space = get(conn, name)
    if not space.active:
        values = {"space_id": space.id, "most": _BACKFILL_BATCH}
        with translated(), conn.cursor(row_factory=scalar_row) as cursor:
            while cursor.execute(sql.query("forget_jobs"), values).fetchone() == _BACKFILL_BATCH:
                pass
    retry_on_lock(conn, "drop_space", name, patience=patience)
