"""Monitor the streaming standbys that serve searches.

Lag is measured against the primary: the time since the primary was first seen at a WAL position that the standby has
not replayed. The age of the standby's last replayed commit cannot distinguish an idle primary from broken replication.
"""

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import class_row, scalar_row

from app import db
from app.config import Settings
from app.db import sql
from app.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    LookalikeError,
    NotFoundError,
    SchemaError,
    SpaceChangedError,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

_POLL_SECONDS = 1.0
# Searches skip a standby that has not responded for this long.
_UNRESPONSIVE_SECONDS = 4.0
_FIRST_POLL_SECONDS = 1.5
_REPLAY_POLL_SECONDS = 0.005
_SAMPLES = 3600


@dataclass(frozen=True, slots=True)
class Standby:
    """State of one standby. If it is not `fit`, `reason` says why searches skip it; `advice` says what to fix."""

    host: str
    fit: bool
    lag_seconds: float | None
    reason: str | None
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """One host of `read_database_url`, with a URL of its own."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class _ServerState:
    """State that a server reported; `at` is when, by this process's monotonic clock."""

    standby: bool
    system: int
    position: int
    feedback: bool
    since_replayed: float | None
    at: float = 0.0


@dataclass(slots=True)
class _HostRecord:
    """Last result of polling a host: its state or an error. `skipped` is None until it is first logged."""

    state: _ServerState | None = None
    error: str | None = None
    skipped: bool | None = None


def hosts(settings: Settings) -> list[Host]:
    """Return the hosts of `read_database_url`, in its order.

    Raises:
        ConfigurationError: it is not a libpq connection string.
    """
    if not settings.read_database_url:
        return []
    try:
        parts = conninfo_to_dict(settings.read_database_url)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"LOOKALIKE_READ_DATABASE_URL is not a connection string: {str(error).strip()}"
        ) from error
    lists = {name: str(parts.get(name) or "").split(",") for name in ("host", "hostaddr", "port")}
    count = max(len(lists["host"]), len(lists["hostaddr"]))
    for name, values in lists.items():
        if len(values) not in (1, count):
            raise ConfigurationError(
                f"LOOKALIKE_READ_DATABASE_URL has {count} hosts and {len(values)} values for {name}: "
                "give one for each host, or one for all"
            )
        if len(values) == 1:
            lists[name] = values * (count if name == "port" or values == [""] else 1)
    # The monitor chooses among the fit hosts, in place of these libpq parameters. The timeouts keep a dead host from
    # blocking a search.
    common = {
        name: value for name, value in parts.items() if name not in ("load_balance_hosts", "target_session_attrs")
    }
    common = {"connect_timeout": "2", "tcp_user_timeout": "4000", **common}
    found = []
    for host, address, port in zip_longest(*lists.values(), fillvalue=""):
        own = {"host": host or None, "hostaddr": address or None, "port": port or None}
        found.append(Host(f"{host or address or 'local'}:{port or 5432}", make_conninfo("", **{**common, **own})))
    return found


def load_balanced(settings: Settings) -> bool:
    """Return whether searches spread over all fit hosts (libpq's load_balance_hosts=random) or use the first one."""
    return conninfo_to_dict(settings.read_database_url or "").get("load_balance_hosts") == "random"


def accepts_primary(settings: Settings) -> bool:
    """Return whether a host may be a primary, as an explicit target_session_attrs=any allows."""
    return conninfo_to_dict(settings.read_database_url or "").get("target_session_attrs") == "any"


def wait_for_replay(conn: db.Connection, lsn: str, *, seconds: float) -> bool:
    """Wait up to `seconds` until this server has replayed the WAL position `lsn`; return whether it has."""
    end = time.monotonic() + seconds
    while True:
        with db.translated(), conn.cursor(row_factory=scalar_row) as cursor:
            if cursor.execute(sql.query("wal_replayed"), {"lsn": lsn}).fetchone():
                return True
        if time.monotonic() > end:
            return False
        time.sleep(_REPLAY_POLL_SECONDS)


def wal_position(conn: db.Connection) -> str:
    """Return the end of the primary's WAL. A server that has replayed it shows all that is committed now."""
    with db.translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return str(cursor.execute(sql.query("wal_position")).fetchone())


def _read_state(conn: db.Connection) -> _ServerState:
    with conn.cursor(row_factory=class_row(_ServerState)) as cursor:
        found = cursor.execute(sql.query("standby_state")).fetchone()
    if found is None:
        raise psycopg.OperationalError("the server returned no row")
    return replace(found, at=time.monotonic())


class StandbyMonitor:
    """Polls the primary and each host every second, in threads of its own, and logs each change once.

    The first call of `fit` or `states` in a process starts the threads, because servers fork.
    """

    def __init__(
        self,
        settings: Settings,
        primary: str,
        *,
        on_unresponsive: Callable[[Host], None] = lambda _: None,
        on_recovery: Callable[[Host], None] = lambda _: None,
    ) -> None:
        """Prepare the monitor; its threads call `on_unresponsive` and `on_recovery`.

        `on_recovery` runs before searches go to the host again.
        """
        self.hosts = hosts(settings)
        self._primary = primary
        self._max_lag = settings.read_max_lag
        self._accept_primary = accepts_primary(settings)
        self._on_unresponsive = on_unresponsive
        self._on_recovery = on_recovery
        self._lock = threading.Lock()
        self._process = 0
        self._ended = threading.Event()
        self._reset()

    def _reset(self) -> None:
        self._records = {host.name: _HostRecord() for host in self.hosts}
        # (time, WAL position) of the primary, one sample per poll.
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._system: int | None = None
        self._ended = threading.Event()

    def fit(self) -> list[Host]:
        """Return the hosts that can serve searches now, in the order of the URL."""
        self._start()
        return [host for host in self.hosts if self._reason(host) is None]

    def states(self) -> list[Standby]:
        """Return the state of each host."""
        self._start()
        return [self._state(host) for host in self.hosts]

    def mark_failed(self, host: Host, error: Exception) -> None:
        """Skip a host on which a search failed, until a poll succeeds."""
        with self._lock:
            record = self._records[host.name]
            if not record.skipped:
                record.state, record.error = None, str(error)

    def stop(self) -> None:
        """Stop the threads; a later call of `fit` or `states` starts them again."""
        self._ended.set()
        with self._lock:
            self._process = 0

    def _start(self) -> None:
        with self._lock:
            if self._process == os.getpid():
                return
            self._process = os.getpid()
            self._reset()
        targets = [lambda: self._poll(None), *(lambda host=host: self._poll(host) for host in self.hosts)]
        for number, target in enumerate(targets):
            threading.Thread(target=target, name=f"standby watch {number}", daemon=True).start()
        end = time.monotonic() + _FIRST_POLL_SECONDS
        while time.monotonic() < end and not all(one.state or one.error for one in self._records.values()):
            time.sleep(0.01)
        self._log_changes()

    def _poll(self, host: Host | None) -> None:
        """Poll a host (None: the primary) until the monitor stops, over one connection while it lasts."""
        ended, conn = self._ended, None
        while not ended.is_set():
            try:
                conn = conn or db.connect(
                    host.url if host else self._primary, autocommit=True, application="lookalike standby watch"
                )
                state = _read_state(conn)
                if host is not None and self._records[host.name].error is not None:
                    self._on_recovery(host)
                    state = _read_state(conn)
                self._record(host, state, None)
            except (LookalikeError, psycopg.Error) as error:
                self._record(host, None, str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
                if conn is not None:
                    conn.close()
                conn = None
            if host is None:
                self._log_changes()
            ended.wait(_POLL_SECONDS)
        if conn is not None:
            conn.close()

    def _record(self, host: Host | None, state: _ServerState | None, error: str | None) -> None:
        with self._lock:
            if host is not None:
                record = self._records[host.name]
                record.state, record.error = state, error
            elif state is not None:
                self._system = state.system
                self._samples.append((state.at, state.position))

    def _log_changes(self) -> None:
        """Log the hosts that searches skip from now on, and those that serve searches again."""
        for host in self.hosts:
            reason, record = self._reason(host), self._records[host.name]
            if record.skipped is (reason is not None) or (record.state is None and record.error is None):
                continue
            before, record.skipped = record.skipped, reason is not None
            if reason is not None:
                log.warning("standby %s is skipped: %s", host.name, reason)
                if self._is_unresponsive(record.state):
                    self._on_unresponsive(host)
            elif before is not None:
                log.info("standby %s serves searches again", host.name)

    @staticmethod
    def _is_unresponsive(state: _ServerState | None) -> bool:
        return state is None or time.monotonic() - state.at > _UNRESPONSIVE_SECONDS

    def _state(self, host: Host) -> Standby:
        reason = self._reason(host)
        with self._lock:
            state = self._records[host.name].state
            lag = None if state is None else self._lag(state)
        return Standby(host.name, fit=reason is None, lag_seconds=lag, reason=reason, advice=_advice(state))

    def _reason(self, host: Host) -> str | None:
        """Return why searches skip a host, or None."""
        with self._lock:
            record = self._records[host.name]
            state = record.state
            if state is None:
                return record.error or "it has not answered yet"
            if self._is_unresponsive(state):
                return f"it has not answered for {time.monotonic() - state.at:.0f} s"
            lag = self._lag(state)
            return unfit_reason(
                state.standby, state.system, self._system, lag, self._max_lag, accept_primary=self._accept_primary
            )

    def _lag(self, state: _ServerState) -> float:
        """Return the seconds since the primary was first seen ahead of the standby. The caller holds the lock."""
        ahead = None
        for at, position in reversed(self._samples):
            if position <= state.position:
                break
            ahead = at
        if ahead is None or not state.standby:
            return 0.0
        lag = max(state.at - ahead, 0.0)
        # If it is behind even the oldest sample, only the standby's own figure covers the time before.
        return max(lag, state.since_replayed or 0.0) if ahead == self._samples[0][0] else lag


def _advice(state: _ServerState | None) -> str | None:
    if state is None or not state.standby or state.feedback:
        return None
    return "set hot_standby_feedback = on there: without it, searches delay its replay and are cancelled by it"


def unfit_reason(
    standby: bool, system: int, wanted: int | None, lag: float, max_lag: float, *, accept_primary: bool
) -> str | None:
    """Return why a server that answers must not serve searches, or None.

    `system` and `wanted` are the cluster's system identifiers on this server and on the primary.
    """
    if wanted is not None and system != wanted:
        return "it belongs to another cluster than LOOKALIKE_DATABASE_URL"
    if not standby and not accept_primary:
        return "it is not a standby: it was promoted, or is the primary itself"
    if lag > max_lag:
        return f"it is {lag:.1f} s behind the primary (LOOKALIKE_READ_MAX_LAG {max_lag:g})"
    return None


def check_standbys(settings: Settings, primary: db.Connection) -> list[Standby]:
    """Return the state of each host, checked once. A standby lags if it does not catch up within half a second."""
    if not settings.read_database_url:
        return []
    current, lsn = _read_state(primary), wal_position(primary)
    found = []
    for host in hosts(settings):
        with _checked(settings, host, current, lsn) as (state, _):
            found.append(state)
    return found


def run_on_standby(
    settings: Settings, primary: db.Connection, act: Callable[[db.Connection], T], *, fresh: bool = False
) -> T:
    """Return the result of `act`, which only reads, on the first fit standby, or on the primary if there is none.

    With `fresh` the standby first replays all that is committed now. `act` runs on the primary if the standby fails,
    or lacks something that the primary may have by now, such as an image or a switch of the active space.
    """
    candidates = hosts(settings)
    if candidates:
        current, lsn = _read_state(primary), wal_position(primary)
        for host in random.sample(candidates, len(candidates)) if load_balanced(settings) else candidates:
            with _checked(settings, host, current, lsn) as (state, conn):
                if conn is None or not state.fit:
                    log.warning("standby %s is skipped: %s", host.name, state.reason)
                    continue
                try:
                    if not fresh or wait_for_replay(conn, lsn, seconds=settings.read_wait):
                        return act(conn)
                except (NotFoundError, SchemaError, SpaceChangedError, DatabaseUnavailableError) as error:
                    log.info("standby %s: %s; using the primary", host.name, error)
            break
    return act(primary)


@contextmanager
def _checked(
    settings: Settings, host: Host, primary: _ServerState, lsn: str
) -> Iterator[tuple[Standby, db.Connection | None]]:
    try:
        conn = db.connect(host.url, autocommit=True, application="lookalike cli")
    except LookalikeError as error:
        yield Standby(host.name, fit=False, lag_seconds=None, reason=str(error).strip().splitlines()[0]), None
        return
    with closing(conn):
        try:
            first = _read_state(conn)
            caught_up = not first.standby or wait_for_replay(conn, lsn, seconds=0.5)
            lag = 0.0 if caught_up else _read_state(conn).since_replayed or 0.0
            accepted = accepts_primary(settings)
            reason = unfit_reason(
                first.standby, first.system, primary.system, lag, settings.read_max_lag, accept_primary=accepted
            )
            state = Standby(host.name, fit=reason is None, lag_seconds=lag, reason=reason, advice=_advice(first))
        except (LookalikeError, psycopg.Error) as error:
            state = Standby(host.name, fit=False, lag_seconds=None, reason=str(error).strip().splitlines()[0])
        yield state, conn
