"""Where a search is answered: on a standby that is fit, else on the primary."""

import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from weakref import WeakSet

from psycopg.errors import QueryCanceled, SerializationFailure

from app.config import Settings
from app.db import Connection, replicas, sql
from app.db.replicas import Host, Standby, StandbyMonitor
from app.errors import DatabaseUnavailableError, LookalikeError, NotFoundError, SchemaError, SpaceChangedError
from app.search import functions
from app.web.pool import Database

T = TypeVar("T")

PRIMARY = "primary"
# A standby whose connections are all lent, or lost, is not waited for as long as the primary, which is there besides.
_PATIENCE = 0.1


class Reads:
    """The databases that searches go to; without LOOKALIKE_READ_DATABASE_URL the primary alone."""

    def __init__(self, settings: Settings, primary: Database) -> None:
        """Nothing is connected before the first search."""
        self._primary = primary
        self._wait = settings.read_wait
        self._balance = replicas.load_balanced(settings)
        self._monitor = StandbyMonitor(
            settings, primary.url, on_unresponsive=self._cut, on_recovery=lambda host: _warm(self._databases[host.name])
        )
        self._databases = {
            host.name: Database(host.url, size=settings.api_threads, timeout=settings.write_timeout, patience=_PATIENCE)
            for host in self._monitor.hosts
        }
        # Callers of the API need not know the hosts.
        self._names = {host: f"standby-{number}" for number, host in enumerate(self._monitor.hosts, start=1)}
        self._lent: dict[str, WeakSet[Connection]] = {host.name: WeakSet() for host in self._monitor.hosts}
        self._lock = threading.Lock()

    def run(
        self,
        act: Callable[[Connection], T],
        *,
        timeout: float | None = None,
        min_lsn: str | None = None,
        primary: Connection | None = None,
    ) -> tuple[T, str]:
        """Return what `act`, which only reads, answers, and who did: primary, standby-1 ...

        With `min_lsn` the answer shows all that was committed below this WAL position. Where a standby fails, or does
        not know what the primary may know by now (an image, a switch of the active space), the primary is asked,
        over the connection `primary` where the caller has one already.
        """
        for host in self._candidates():
            try:
                with self._lend(host, timeout) as conn:
                    if min_lsn is not None and not replicas.wait_for_replay(conn, min_lsn, seconds=self._wait):
                        break
                    return act(conn), self._names[host]
            except (NotFoundError, SchemaError, SpaceChangedError):
                break
            except DatabaseUnavailableError as error:
                if isinstance(error.__cause__, QueryCanceled):
                    raise  # it would take as long on any other
                if not isinstance(error.__cause__, SerializationFailure):  # cancelled for the replay: it is sound
                    self._monitor.mark_failed(host, error)
        if primary is not None:
            return act(primary), PRIMARY
        with self._primary.connection(timeout=timeout) as conn:
            return act(conn), PRIMARY

    def warm(self) -> None:
        """Open the connections that searches will want, and search once on each, so that no caller waits for that.

        A database that is down, or empty, is none of a start's concern.
        """
        for database in [self._databases[host.name] for host in self._candidates()] or [self._primary]:
            _warm(database)

    @property
    def replicated(self) -> bool:
        """Whether there are standbys to ask, fit or not."""
        return bool(self._monitor.hosts)

    def states(self) -> list[Standby]:
        """Return what is known of each standby; none where none is configured."""
        return self._monitor.states() if self.replicated else []

    def close(self) -> None:
        """End watching, and close this process's connections to standbys."""
        self._monitor.stop()
        for database in self._databases.values():
            database.close()

    def _candidates(self) -> list[Host]:
        if not self.replicated:
            return []
        fit = self._monitor.fit()
        return random.sample(fit, len(fit)) if self._balance else fit

    @contextmanager
    def _lend(self, host: Host, timeout: float | None) -> Iterator[Connection]:
        with self._databases[host.name].connection(timeout=timeout) as conn:
            with self._lock:
                self._lent[host.name].add(conn)
            try:
                yield conn
            finally:
                with self._lock:
                    self._lent[host.name].discard(conn)

    def _cut(self, host: Host) -> None:
        """End what is being asked of a host that is out: it may hang, and the primary can answer."""
        with self._lock:
            for conn in list(self._lent[host.name]):
                if not conn.closed:
                    with suppress(OSError), socket.socket(fileno=os.dup(conn.fileno())) as line:
                        line.shutdown(socket.SHUT_RDWR)


def _warm(database: Database) -> None:
    with suppress(LookalikeError):
        database.warm(_search_once)


def _search_once(conn: Connection) -> None:
    for (image_id,) in conn.execute(sql.query("first_embedded")).fetchall():
        functions.similar(conn, int(str(image_id)))
