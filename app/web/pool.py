"""The connection pool of an API process."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from app import db
from app.errors import DatabaseUnavailableError

_TIMEOUT = 3.0
# After a failure, requests wait less, because the database is probably still down.
_DOWN_SECONDS = 5.0
_DOWN_TIMEOUT = 0.5


class Database:
    """A pool that each process opens at its first use, because the server forks after it has made the application."""

    def __init__(self, url: str, *, size: int, timeout: float, patience: float = _TIMEOUT) -> None:
        """`timeout`: seconds per statement; `patience`: seconds to wait for a free connection."""
        options = " ".join(
            filter(
                None,
                (
                    str(conninfo_to_dict(url).get("options") or ""),
                    f"-c statement_timeout={timeout * 1000:.0f} -c TimeZone=UTC",
                ),
            )
        )
        self.url = make_conninfo(url, options=options, connect_timeout=conninfo_to_dict(url).get("connect_timeout", 3))
        self._size = size
        self._timeout = timeout
        self._patience = patience
        # Connections whose statement_timeout is not the default; it is set again when a caller needs another.
        self._timeouts: WeakKeyDictionary[db.Connection, float] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._pool: ConnectionPool[db.Connection] | None = None
        self._process = 0
        self._failed_at = float("-inf")

    @contextmanager
    def connection(self, *, timeout: float | None = None) -> Iterator[db.Connection]:
        """Yield an autocommit connection, with errors translated; `timeout` overrides the seconds per statement.

        Raises:
            DatabaseUnavailableError: no connection was free in time.
        """
        down = time.monotonic() - self._failed_at < _DOWN_SECONDS
        with db.translated():
            pool = self._opened()
            try:
                connection = pool.getconn(timeout=min(_DOWN_TIMEOUT, self._patience) if down else self._patience)
            except PoolTimeout as error:
                self._failed_at = time.monotonic()
                raise DatabaseUnavailableError(
                    "the database does not answer, or all connections are busy; try again in a moment"
                ) from error
            self._failed_at = float("-inf")
            try:
                # Autocommit: nothing to commit here, and the pool rolls back a transaction that was left open.
                self._set_timeout(connection, timeout or self._timeout)
                yield connection
            finally:
                pool.putconn(connection)

    def warm(self, act: Callable[[db.Connection], object]) -> None:
        """Open all connections, and call `act` with each.

        Raises:
            DatabaseUnavailableError: the connections could not be opened in time.
        """
        with ExitStack() as stack:
            for _ in range(self._size):
                act(stack.enter_context(self.connection()))

    def _set_timeout(self, connection: db.Connection, seconds: float) -> None:
        if self._timeouts.get(connection, self._timeout) != seconds:
            connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{seconds * 1000:.0f}",))
            self._timeouts[connection] = seconds

    def close(self) -> None:
        """Close this process's pool, if it has one."""
        with self._lock:
            if self._pool is not None and self._process == os.getpid():
                self._pool.close()
            self._pool = None

    def _opened(self) -> "ConnectionPool[db.Connection]":
        with self._lock:
            if self._pool is None or self._process != os.getpid():
                self._pool = db.open_pool(self.url, size=self._size, application="lookalike api")
                self._process = os.getpid()
            return self._pool
