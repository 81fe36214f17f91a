"""Run revisions beside searches and writes: one migration at a time, with short lock waits that block nobody for long.

If a revision cannot get a lock, or blocks a search or a write, it is rolled back and retried later. Its work outside a
transaction (`sources.concurrently`) stays, so that part must be repeatable.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError

from app.db.retry import backoff
from app.errors import ConflictError

log = logging.getLogger(__name__)

# Seconds after which a blocked revision is given up.
PATIENCE = 60.0
# Short, because searches and writes queue behind a waiting lock.
LOCK_TIMEOUT = "150ms"
# Seconds that a search or a write may wait before the guard cancels the revision; with the rollback, under a second.
_MAX_WAIT = 0.4
_POLL_SECONDS = 0.1
_LOCK_KEY = "hashtextextended('lookalike migrate', 0)"

# Searches (relation locks) and writes (row locks too) that wait behind this backend. Other DDL, and an index build that
# waits for old snapshots, may wait.
_BLOCKED = """
SELECT count(*) > 0 FROM pg_locks l
WHERE NOT l.granted AND l.pid <> %(pid)s AND clock_timestamp() - l.waitstart > make_interval(secs => %(most)s)
  AND (l.locktype IN ('transactionid', 'tuple')
       OR l.locktype = 'relation' AND l.mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))
  AND %(pid)s = ANY (pg_blocking_pids(l.pid))
"""
_HOLDERS = """
SELECT format('%%s (pid %%s, %%s, transaction of %%s s)', coalesce(nullif(a.application_name, ''), 'a session'), a.pid,
              coalesce(a.state, a.backend_type), round(extract(epoch FROM clock_timestamp() - a.xact_start)))
FROM pg_stat_activity a WHERE a.pid = ANY (pg_blocking_pids(%(pid)s)) ORDER BY a.xact_start LIMIT 5
"""
_OTHER_MIGRATION = f"""
SELECT format('pid %%s of %%s', a.pid, coalesce(a.client_hostname, host(a.client_addr), 'this machine'))
FROM pg_locks l JOIN pg_stat_activity a USING (pid), {_LOCK_KEY} AS wanted (key)
WHERE l.locktype = 'advisory' AND l.granted
  AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = wanted.key AND l.objsubid = 1
"""  # noqa: S608 — our own key


class Guard:
    """Cancels a running revision if it blocks searches or writes. Its session holds the migrations' advisory lock."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Take a connection in autocommit that nothing else uses."""
        self._connection = connection
        self._lock = threading.Lock()
        self.holders: list[str] = []
        self.blocked_others = False

    @contextmanager
    def watching(self, pid: int) -> Iterator[None]:
        """Watch backend `pid` within the block, and cancel its statement if others wait for it too long."""
        self.holders, self.blocked_others = [], False
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(pid, done), name="migration guard", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, pid: int, done: threading.Event) -> None:
        while not done.wait(_POLL_SECONDS):
            try:
                values = {"pid": pid, "most": _MAX_WAIT}
                # Read the holders now, because the revision's lock wait ends at its lock_timeout.
                self.holders = [str(row[0]) for row in self._connection.execute(_HOLDERS, values)] or self.holders
                if self._connection.execute(_BLOCKED, values).fetchone() == (True,):
                    self.blocked_others = True
                    self._connection.execute("SELECT pg_cancel_backend(%s)", (pid,))
            except psycopg.Error as error:
                log.warning("cannot watch any more for sessions that this migration blocks: %s", error)
                return


@contextmanager
def exclusive_migration(url: str, *, patience: float) -> Iterator[Guard]:
    """Hold the lock of this database's migrations within the block.

    Raises:
        ConflictError: another migration held it for `patience` seconds.
    """
    with psycopg.connect(url, autocommit=True, application_name="lookalike migrate guard") as connection:
        end, logged = time.monotonic() + patience, False
        # Poll, because a statement that waits in the server holds a snapshot, and an index build of the other migration
        # would wait for that snapshot.
        while connection.execute(f"SELECT pg_try_advisory_lock({_LOCK_KEY})").fetchone() != (True,):
            found = connection.execute(_OTHER_MIGRATION, {}).fetchone()
            other = str(found[0]) if found else "which has just ended"
            if time.monotonic() > end:
                raise ConflictError(f"another migration of this database is running ({other}); wait until it ends")
            if not logged:
                log.info("another migration is running (%s): waiting for it", other)
                logged = True
            time.sleep(0.2)
        yield Guard(connection)


def retry_while_blocked(attempt: Callable[[], None], guard: Guard, *, patience: float) -> None:
    """Call `attempt`, and retry it with backoff while locks block it or it blocks others.

    Raises:
        ConflictError: it did not succeed within `patience` seconds.
    """
    end, tries = time.monotonic() + patience, 0
    while True:
        try:
            attempt()
        except (DBAPIError, psycopg.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if not isinstance(cause, psycopg.Error) or not _is_transient(cause, guard):
                raise
            tries += 1
            why = (
                "it kept searches or writes waiting"
                if guard.blocked_others
                else f"waited for {', '.join(guard.holders) or 'others, in short transactions'}"
            )
            if time.monotonic() > end:
                raise ConflictError(
                    f"the revision could not run within {patience:g} s without blocking others and is rolled back: "
                    f"{why}; end what blocks it, or give it longer: lookalike migrate --wait SECONDS"
                ) from error
        else:
            return
        pause = min(backoff(tries, first=0.4, most=5), max(end - time.monotonic(), 0.1))
        log.info("rolled back, next try in %.1f s: %s", pause, why)
        time.sleep(pause)


def _is_transient(error: psycopg.Error, guard: Guard) -> bool:
    """Return whether a retry may succeed: after a lock timeout, a deadlock or a cancellation by the guard."""
    if isinstance(error, pg.QueryCanceled):
        return guard.blocked_others
    # GRANT and COMMENT take no lock that makes concurrent ones wait, so they may collide.
    collided = isinstance(error, pg.InternalError_) and "tuple concurrently" in str(error)
    return collided or isinstance(error, pg.LockNotAvailable | pg.DeadlockDetected)
