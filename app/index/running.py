"""Running builds of indexes: who runs them, how far they are, and the lock that allows one at a time."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql as pgsql
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row, scalar_row

from app.db import Connection, sql, translated
from app.errors import BuildRunningError, LookalikeError
from app.store.spaces import Space

log = logging.getLogger(__name__)

# One build a space at a time, whoever starts it; the second key is the space's id.
_LOCK_CLASS = 0x100CA11
# Settings of the session that a build changes.
CHANGED_SETTINGS = (
    "statement_timeout",
    "lock_timeout",
    "client_connection_check_interval",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
)
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Build:
    """A running index build. `done` is the share of this phase, 0 to 1.

    `ours` is false if somebody started it by hand. `waits_for` is the session that it waits for.
    """

    space: str
    pid: int
    ours: bool
    application: str
    phase: str
    creating: bool
    done: float
    seconds: float
    seconds_left: float | None
    waits_for: str | None


# Called twice a second, in its own thread.
Progress = Callable[[Build], None]


def running_builds(conn: Connection) -> list[Build]:
    """Return the running builds, ours and those started by hand."""
    with translated(), conn.cursor(row_factory=class_row(Build)) as cursor:
        return cursor.execute(sql.query("builds"), {"lock_class": _LOCK_CLASS}).fetchall()


def running_build(conn: Connection, space: Space) -> Build | None:
    """Return another session's build of this space's index; ours come before those by hand."""
    others = [one for one in running_builds(conn) if one.space == space.name and one.pid != conn.info.backend_pid]
    return max(others, key=lambda one: one.ours, default=None)


def build_text(running: Build) -> str:
    """Return a clause for messages: who builds what, the phase, and how far it is."""
    state = f", {running.done:.0%}" if running.creating else ""
    if running.waits_for:
        state = f", waiting for {running.waits_for}"
    who = f"{running.application} (pid {running.pid})"
    return f"{who} is building the index of space {running.space}: {running.phase}{state}, for {running.seconds:.0f} s"


@contextmanager
def exclusive_build(conn: Connection, space: Space) -> Iterator[None]:
    """Hold the lock of builds on this space, and suspend time limits that are meant for queries.

    Raises:
        BuildRunningError: another session builds the index of this space.
    """
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        # Does not wait, because a waiting session holds a snapshot, for which the build would wait in turn.
        held = cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCK_CLASS, space.id)).fetchone()
        try:
            other = running_build(conn, space)
            if not held or other:
                running = build_text(other) if other else f"another session is building the index of space {space.name}"
                raise BuildRunningError(f"{running}; lookalike index status, lookalike index cancel")
            for name in ("statement_timeout", "lock_timeout", "client_connection_check_interval"):
                conn.execute(pgsql.SQL("SET {} = 0").format(pgsql.Identifier(name)))
            yield
        finally:
            if held and conn.info.transaction_status == TransactionStatus.IDLE:
                for name in CHANGED_SETTINGS:
                    conn.execute(pgsql.SQL("RESET {}").format(pgsql.Identifier(name)))
                conn.execute("SELECT pg_advisory_unlock(%s, %s)", (_LOCK_CLASS, space.id))


@contextmanager
def report_progress(conn: Connection, progress: Progress | None) -> Iterator[None]:
    """Call `progress` with the build of this connection's session, from a thread with a connection of its own."""
    if progress is None:
        yield
        return
    done = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(conn.info.dsn, conn.info.password, conn.info.backend_pid, progress, done), daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(dsn: str, password: str, pid: int, progress: Progress, done: threading.Event) -> None:
    """Report progress from another connection until `done`; if that is lost, only the reports end."""
    try:
        with psycopg.connect(dsn, password=password, autocommit=True, application_name="lookalike progress") as conn:
            while not done.wait(_POLL_SECONDS):
                for one in running_builds(conn):
                    if one.pid == pid:
                        progress(one)
    except (psycopg.Error, LookalikeError) as error:
        log.warning("the progress of the index build cannot be shown: %s", error)
