"""Routes searches to a fit standby, else to the primary."""

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
# Seconds to wait for a standby's connection; short, because the primary can answer instead.
_PATIENCE = 0.1


class ReplicaRouter:
    """Chooses the database of each search; without LOOKALIKE_READ_DATABASE_URL, always the primary."""

    def __init__(self, settings: Settings, primary: Database) -> None:
        """Connect to nothing before the first search."""
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
        # Clients of the API see these names, because host names are internal.
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
        """Return the result of `act`, which only reads, and the name of the database: primary, standby-1, ...

        With `min_lsn` the result includes everything committed before this WAL position. If a standby fails or lags
        (an image or a switch of the active space has not arrived), the primary answers, over the connection `primary`
        if the caller has one.
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
                    raise  # the query would time out on any database
                if not isinstance(error.__cause__, SerializationFailure):  # a replay conflict: the standby is healthy
                    self._monitor.mark_failed(host, error)
        if primary is not None:
            return act(primary), PRIMARY
        with self._primary.connection(timeout=timeout) as conn:
            return act(conn), PRIMARY

    def warm(self) -> None:
        """Open the connections for searches, and run one search on each, so that no client waits for that.

        Errors are ignored: a database may be down or empty at the start.
        """
        for database in [self._databases[host.name] for host in self._candidates()] or [self._primary]:
            _warm(database)

    @property
    def replicated(self) -> bool:
        """Whether standbys are configured, fit or not."""
        return bool(self._monitor.hosts)

    def states(self) -> list[Standby]:
        """Return the state of each configured standby."""
        return self._monitor.states() if self.replicated else []

    def close(self) -> None:
        """Stop the watch, and close this process's connections to standbys."""
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
        """Cut the connections of searches on a host that is out: they may hang, and the primary can answer."""
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
