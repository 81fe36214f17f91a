"""List, create, backfill, activate, roll back and drop embedding spaces."""

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

# A batch takes 0.12 s on two busy cores (15,000 images: 0.36 s), mostly for the foreign keys of the jobs. It must stay
# below a second on slower machines too, because its transaction holds back vacuum.
_BACKFILL_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Space:
    """A row of `lookalike.embedding_spaces`. `encoded_dimensions` are the model's, if a transform reduces them."""

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
    """The active space that `pin_active` pinned."""

    id: int
    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class SpaceCounts:
    """Exact counts: all images, those embedded, queued and failed in a space, and the live workers that serve it."""

    images: int
    embedded: int
    queued: int
    failed: int
    live_workers: int


@dataclass(frozen=True, slots=True)
class MissingImages:
    """What searches would lose by switching to a space.

    `missing` are the images that searches find now and that have no embedding in it, of which some are `queued` or
    `failed`.
    """

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
    """Return the space of this name.

    Raises:
        NotFoundError: there is no such space; the message lists the spaces.
    """
    found = _read(conn, name=name)
    if not found:
        known = ", ".join(space.name for space in _read(conn)) or "none yet"
        raise NotFoundError(f'there is no embedding space "{name}"; there are: {known}')
    return found[0]


def active(conn: Connection) -> Space:
    """Return the active space.

    Raises:
        SchemaError: no space is active.
    """
    found = _read(conn, active_only=True)
    if not found:
        raise SchemaError('no embedding space is active; the first "lookalike worker" creates one')
    return found[0]


def pin_active(conn: Connection, *, expected: int | None = None) -> PinnedSpace:
    """Return the active space, and keep it active until the caller's transaction ends.

    Raises:
        SpaceChangedError: it is not `expected`, the id of the space that a query was embedded in.
        SchemaError: no space is active.
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
    """Create a space and queue all existing images. The first space of a database becomes the active one.

    The connection is in autocommit; this runs several transactions. Before the backfill it waits for writers that
    cannot see the space yet, because their triggers queue nothing for it.

    Raises:
        ConflictError: the name or the fingerprint is in use, or a transaction blocked this for `patience` seconds.
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

    Call it again after an interruption; it skips images that are embedded, queued or failed. `progress` gets the
    number queued so far. It retries images whose rows another transaction has locked, for `patience` seconds in all;
    workers queue the rest later.
    """
    queued, after, given_up = 0, 0, time.monotonic() + patience
    while True:
        try:
            with translated():
                row = call(conn, "backfill_space", space.id, after, _BACKFILL_BATCH).fetchone()
        except LookalikeError as error:
            # A deadlock with a writer of several images rolled this batch back.
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
    """Return exact counts of a space; a long queue takes long to count.

    Raises:
        NotFoundError: the space was dropped.
    """
    with translated(), conn.cursor(row_factory=class_row(SpaceCounts)) as cursor:
        found = cursor.execute(sql.query("space_counts"), {"name": space.name}).fetchone()
    if found is None:
        raise NotFoundError(f"the embedding space {space.name} was dropped meanwhile")
    return found


def missing(conn: Connection, name: str) -> MissingImages:
    """Return what searches would lose if the space of this name became the active one."""
    with translated(), conn.cursor(row_factory=class_row(MissingImages)) as cursor:
        found = call(cursor, "space_missing", name).fetchone()
    return found or MissingImages(0, 0, 0, index_missing=False)


def activate(conn: Connection, name: str, *, force: bool = False, patience: float = 30) -> None:
    """Make the space of this name the active one, in one transaction that waits for running searches. In autocommit.

    Searches that start meanwhile wait for fractions of a second.

    Raises:
        ConflictError: the space lacks images or an index (unless `force`), or a transaction blocked this for `patience`
            seconds.
    """
    retry_on_lock(conn, "activate_space", name, force, patience=patience)


def rollback(conn: Connection, *, patience: float = 30) -> str:
    """Activate the space that was active before the last switch; return its name. Locks as `activate` does."""
    return str(retry_on_lock(conn, "rollback_space", patience=patience))


def drop(conn: Connection, name: str, *, patience: float = 30) -> None:
    """Drop a space that is not active: its jobs in batches, then the rest in one transaction. In autocommit.

    Raises:
        ConflictError: the space is active, a user's view depends on its table, or a transaction blocked this for
            `patience` seconds.
    """
    space = get(conn, name)
    if not space.active:
        values = {"space_id": space.id, "most": _BACKFILL_BATCH}
        with translated(), conn.cursor(row_factory=scalar_row) as cursor:
            while cursor.execute(sql.query("forget_jobs"), values).fetchone() == _BACKFILL_BATCH:
                pass
    retry_on_lock(conn, "drop_space", name, patience=patience)
