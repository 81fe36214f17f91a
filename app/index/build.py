"""Build, rebuild and cancel the ANN indexes of embedding spaces while searches and writes continue.

A build creates `<table>_<method>_new`. When that is valid, `<table>_<method>` is dropped and the new index takes its
name. The next build resumes an interrupted one from the indexes that it finds. A server continues a build if the client
is lost.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import errors as pg
from psycopg import sql as pgsql
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.errors import BuildRunningError, ConfigurationError, ConflictError, NotFoundError
from app.index.resources import Resources, check_disk, estimate_build, shortage
from app.index.running import Build, Progress, build_text, exclusive_build, report_progress, running_build
from app.index.target import Target, target, with_options
from app.store.spaces import Space
from app.types import Json

log = logging.getLogger(__name__)


_CANCEL_AGAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Index:
    """An ANN index of a space. One that is neither valid nor being built is left over from a failed build."""

    space: str
    active: bool
    name: str
    kind: str
    valid: bool
    building: bool
    bytes: int
    scans: int
    table_name: str
    serving: bool  # on the table that the space's searches go through
    m: int | None
    ef_construction: int | None
    lists: int | None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild made; `resumed` if it only finished what an earlier one had built."""

    index: Index
    bytes_before: int
    seconds: float
    resumed: bool


def list_indexes(conn: Connection, space: Space | None = None) -> list[Index]:
    """Return the ANN indexes of this space, or of all."""
    with translated(), conn.cursor(row_factory=class_row(Index)) as cursor:
        return cursor.execute(sql.query("ann_indexes"), {"space_id": space.id if space else None}).fetchall()


def build_index(
    conn: Connection, space: Space, *, resources: Resources | None = None, progress: Progress | None = None
) -> bool:
    """Build the space's index unless a valid one exists or its choice is exact; return whether it was built.

    The connection is in autocommit and busy until the end. Searches and writes continue. An interrupted build is
    finished or dropped first. Returns False if another session builds it.

    Raises:
        ConflictError, ConfigurationError: as `rebuild_index`.
    """
    wanted = target(space)
    if wanted.choice.method is None:
        return False
    try:
        with exclusive_build(conn, space):
            return build_if_missing(conn, wanted, resources=resources, progress=progress)
    except BuildRunningError as error:
        log.info("%s", error)
        return False


def build_if_missing(
    conn: Connection,
    wanted: Target,
    *,
    resources: Resources | None = None,
    progress: Progress | None = None,
    same: bool = False,
    force: bool = False,
) -> bool:
    """Build the index unless a valid one serves, with these options if `same`; return whether it was built.

    The caller holds `exclusive_build`.
    """
    _finish_interrupted(conn, wanted)
    here = [one for one in list_indexes(conn, wanted.space) if one.valid and one.table_name == wanted.table]
    if any(not same or (one.name == wanted.name and _same_options(one, wanted)) for one in here):
        return False
    _create(conn, wanted, resources or Resources(), progress, force=force)
    return True


def rebuild_index(
    conn: Connection,
    space: Space,
    *,
    m: int | None = None,
    ef_construction: int | None = None,
    resources: Resources | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> Rebuilt:
    """Build a new index beside the old one, which serves until the new one is valid and is dropped then.

    The space's index options record how the new index is built. The connection is in autocommit and busy until the end.
    In other sessions searches and writes continue. An interrupted rebuild is resumed.

    Raises:
        BuildRunningError: another session builds the index of this space.
        ConflictError: the build was cancelled, or the space is searched exactly.
        ConfigurationError: disk or shared memory do not suffice (`force` skips the estimate of the disk).
    """
    wanted = with_options(space, m, ef_construction)
    began = time.monotonic()
    with exclusive_build(conn, space):
        before = sum(
            index.bytes for index in list_indexes(conn, space) if index.valid and index.table_name == wanted.table
        )
        resumed = _finish_interrupted(conn, wanted)
        now = _serving(conn, wanted)
        if not (resumed and now and _same_options(now, wanted)):
            resumed = False
            _create(conn, wanted, resources or Resources(), progress, force=force)
            now = _serving(conn, wanted)
        _record(conn, wanted)
    if now is None:
        raise ConflictError(f"the new index of space {space.name} was dropped by another session; build it again")
    return Rebuilt(now, before, time.monotonic() - began, resumed)


def cancel_build(conn: Connection, space: Space, *, patience: float = 60) -> Build:
    """Stop the build of this space's index in whichever session runs it, drop what it left and return it.

    In autocommit.

    Raises:
        NotFoundError: no index of this space is being built.
        ConflictError: the build was started by hand, its index is ready, or it has not ended after `patience` seconds.
    """
    found = running_build(conn, space)
    if found is None:
        raise NotFoundError(f"no index of space {space.name} is being built")
    if not found.ours:
        raise ConflictError(
            f"{build_text(found)}, by hand; SELECT pg_cancel_backend({found.pid}) stops it, and the next "
            "lookalike index rebuild drops what it leaves"
        )
    now: Build | None = found
    end, again, asked = time.monotonic() + patience, 0.0, False
    while now is not None and now.pid == found.pid:
        if now.creating and time.monotonic() >= again:
            with translated():
                conn.execute("SELECT pg_cancel_backend(%s)", (found.pid,))
            again, asked = time.monotonic() + _CANCEL_AGAIN_SECONDS, True
        elif not asked and now.phase.startswith("dropping"):
            raise ConflictError(
                f"the new index of space {space.name} is ready and serves; only the old one is dropped yet"
            )
        if time.monotonic() > end:
            raise ConflictError(f"the build of space {space.name} is cancelled, but still {build_text(now)}")
        time.sleep(0.05)
        now = running_build(conn, space)
    if not asked:
        raise ConflictError(f"the build of space {space.name} ended by itself")
    try:
        with exclusive_build(conn, space):
            _finish_interrupted(conn, target(space))  # in place of a builder that could not
    except BuildRunningError as error:
        log.info("%s", error)
    return found


def _serving(conn: Connection, wanted: Target) -> Index | None:
    return next(
        (index for index in list_indexes(conn, wanted.space) if index.name == wanted.name and index.valid), None
    )


def _same_options(index: Index, wanted: Target) -> bool:
    choice = wanted.choice
    return (index.m, index.ef_construction, index.lists or None) == (choice.m, choice.ef_construction, choice.lists)


def _finish_interrupted(conn: Connection, wanted: Target) -> bool:
    """Drop invalid indexes. If a new index is ready, put it in the old one's place and return True."""
    _sweep(conn, wanted)
    here = {index.name: index for index in list_indexes(conn, wanted.space)}
    new = here.get(f"{wanted.name}_new")
    if new is None:
        return False
    if wanted.name in here:
        drop_index(conn, wanted.name)
    with conn.transaction():
        conn.execute(
            pgsql.SQL("ALTER INDEX {} RENAME TO {}").format(
                pgsql.Identifier("lookalike", new.name), pgsql.Identifier(wanted.name)
            )
        )
        rows = pgsql.SQL("SELECT lookalike.count_about({}, 100000)").format(pgsql.Literal(wanted.table))
        built = {"built": {"at": datetime.now(UTC).isoformat(), "rows": (conn.execute(rows).fetchone() or (0,))[0]}}
        # lookalike.index_built reads this comment.
        conn.execute(
            pgsql.SQL("COMMENT ON INDEX {} IS {}").format(
                pgsql.Identifier("lookalike", wanted.name), pgsql.Literal(json.dumps(built))
            )
        )
        if wanted.name == target(wanted.space).name:
            options = {"m": new.m, "ef_construction": new.ef_construction, "lists": new.lists}
            _store(conn, wanted.space, {name: value for name, value in options.items() if value is not None})
    return True


def _record(conn: Connection, wanted: Target) -> None:
    options = wanted.choice.options()
    _store(conn, wanted.space, {name: options[name] for name in ("m", "ef_construction", "lists") if name in options})


def _store(conn: Connection, space: Space, options: Json) -> None:
    conn.execute(sql.query("record_index"), {"space_id": space.id, "options": Jsonb(options)})


def _sweep(conn: Connection, wanted: Target) -> None:
    with conn.cursor(row_factory=scalar_row) as cursor:
        left = cursor.execute(sql.query("index_leftovers"), {"table_name": wanted.table}).fetchall()
    for name in left:
        log.warning("dropping %s, left invalid by an interrupted build", name)
        drop_index(conn, name)


def drop_index(conn: Connection, name: str) -> None:
    """Drop an index without blocking anybody. In autocommit."""
    conn.execute(pgsql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(pgsql.Identifier("lookalike", name)))


def _create(conn: Connection, wanted: Target, resources: Resources, progress: Progress | None, *, force: bool) -> None:
    space = wanted.space
    needs = estimate_build(conn, wanted, resources=resources)
    if not force:
        check_disk(needs)
    if short := shortage(needs):
        log.warning("%s", short)
    values = {
        "maintenance_work_mem": f"{needs.memory // 1024}kB",
        "max_parallel_maintenance_workers": str(needs.workers),
    }
    for setting, value in values.items():
        conn.execute("SELECT set_config(%s, %s, false)", (setting, value))
    column, operators = wanted.column
    choice = wanted.choice.for_rows(needs.rows)
    options = choice.access.with_options(choice.values) if choice.access else ""
    statement = pgsql.SQL("CREATE INDEX CONCURRENTLY {} ON {} USING {} ({} {}) WITH (" + options + ")").format(
        pgsql.Identifier(f"{wanted.name}_new"),
        pgsql.Identifier("lookalike", wanted.table),
        pgsql.Identifier(str(choice.method)),
        pgsql.Identifier(column),
        pgsql.Identifier(operators),
    )
    try:
        with _notices_logged(conn), report_progress(conn, progress):
            conn.execute(statement)
    except (psycopg.Error, KeyboardInterrupt) as error:
        # After a lost server or a killed client, the next build cleans up.
        if conn.info.transaction_status == TransactionStatus.IDLE:
            _sweep(conn, wanted)
        if isinstance(error, pg.QueryCanceled):
            raise ConflictError(
                f"the build of space {space.name}'s index was cancelled; nothing of it is left, and searches use what "
                "they used before"
            ) from error
        if isinstance(error, pg.DiskFull):
            raise ConfigurationError(
                f"{str(error).strip()}; if shared memory is short, build without it (--workers 0), give "
                "the server more (docker: --shm-size), or the build less (--memory)"
            ) from error
        raise
    _finish_interrupted(conn, wanted)


@contextmanager
def _notices_logged(conn: Connection) -> Iterator[None]:
    def log_notice(notice: psycopg.errors.Diagnostic) -> None:
        log.warning("%s", ". ".join(part.rstrip(".") for part in (notice.message_primary, notice.message_hint) if part))

    conn.add_notice_handler(log_notice)
    try:
        yield
    finally:
        conn.remove_notice_handler(log_notice)
