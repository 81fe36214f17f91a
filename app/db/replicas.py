"""Standbys that searches may go to: which there are, and which of them are fit.

Lag is measured against the primary: how long ago was the primary seen to be where the standby is not yet. A standby's
own word (the time of its last commit) says nothing where nothing is written, or where it receives nothing any more.
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
# A standby that has not answered for so long is out, whatever hangs.
_UNRESPONSIVE_SECONDS = 4.0
_FIRST_POLL_SECONDS = 1.5
_REPLAY_POLL_SECONDS = 0.005
_SAMPLES = 3600


@dataclass(frozen=True, slots=True)
class Standby:
    """A server that searches may go to: whether they do, how far it is behind, why they do not; what to mend."""

    host: str
    fit: bool
    lag_seconds: float | None
    reason: str | None
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """One host of `read_database_url`, by itself."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class _ServerState:
    """What a host said of itself; `at` is our own clock."""

    standby: bool
    system: int
    position: int
    feedback: bool
    since_replayed: float | None
    at: float = 0.0


@dataclass(slots=True)
class _HostRecord:
    """The last that is known of a host: what it said, or why it could not be asked."""

    look: _ServerState | None = None
    error: str | None = None
    out: bool | None = None


def hosts(settings: Settings) -> list[Host]:
    """Return the hosts of `read_database_url`, in its order; ConfigurationError where it is none of libpq's."""
    if not settings.read_database_url:
        return []
    try:
        parts = conninfo_to_dict(settings.read_database_url)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"LOOKALIKE_READ_DATABASE_URL is no connection string: {str(error).strip()}"
        ) from error
    lists = {name: str(parts.get(name) or "").split(",") for name in ("host", "hostaddr", "port")}
    count = max(len(lists["host"]), len(lists["hostaddr"]))
    for name, values in lists.items():
        if len(values) not in (1, count):
            raise ConfigurationError(
                f"LOOKALIKE_READ_DATABASE_URL has {count} hosts and {len(values)} of {name}: give one each, or for all"
            )
        if len(values) == 1:
            lists[name] = values * (count if name == "port" or values == [""] else 1)
    # What libpq would choose by is chosen by here, over the hosts that are fit; a dead one must not be waited for.
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
    """Whether searches are spread over the hosts (libpq's load_balance_hosts=random); else the first fit has all."""
    return conninfo_to_dict(settings.read_database_url or "").get("load_balance_hosts") == "random"


def accepts_primary(settings: Settings) -> bool:
    """Whether a host may also be no standby: libpq's target_session_attrs, with `any` said outright."""
    return conninfo_to_dict(settings.read_database_url or "").get("target_session_attrs") == "any"


def wait_for_replay(conn: db.Connection, lsn: str, *, seconds: float) -> bool:
    """Wait until this server shows what lies below the WAL position `lsn`; return whether it does, in time."""
    end = time.monotonic() + seconds
    while True:
        with db.translated(), conn.cursor(row_factory=scalar_row) as cursor:
            if cursor.execute(sql.query("wal_replayed"), {"lsn": lsn}).fetchone():
                return True
        if time.monotonic() > end:
            return False
        time.sleep(_REPLAY_POLL_SECONDS)


def wal_position(conn: db.Connection) -> str:
    """Return where the primary's WAL ends: a search with it as its least position sees all that was committed."""
    with db.translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return str(cursor.execute(sql.query("wal_position")).fetchone())


def _read_state(conn: db.Connection) -> _ServerState:
    with conn.cursor(row_factory=class_row(_ServerState)) as cursor:
        found = cursor.execute(sql.query("standby_state")).fetchone()
    if found is None:
        raise psycopg.OperationalError("no answer")
    return replace(found, at=time.monotonic())


class StandbyMonitor:
    """Looks at the primary and at each host, every second, in threads of its own; says who is fit for searches.

    Started by the first question in a process, since servers fork. What it finds to change is logged, once.
    """

    def __init__(
        self,
        settings: Settings,
        primary: str,
        *,
        on_unresponsive: Callable[[Host], None] = lambda _: None,
        on_recovery: Callable[[Host], None] = lambda _: None,
    ) -> None:
        """`on_unresponsive` is called, in a thread of this watch, with a host that is out since it does not answer;
        `on_recovery` with one that answers again, before searches go there.
        """
        self.hosts = hosts(settings)
        self._primary = primary
        self._max_lag = settings.read_max_lag
        self._any = accepts_primary(settings)
        self._on_unresponsive = on_unresponsive
        self._on_recovery = on_recovery
        self._lock = threading.Lock()
        self._process = 0
        self._ended = threading.Event()
        self._reset()

    def _reset(self) -> None:
        self._known = {host.name: _HostRecord() for host in self.hosts}
        # When the primary was seen where: one a second.
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._system: int | None = None
        self._ended = threading.Event()

    def fit(self) -> list[Host]:
        """Return the hosts that searches may go to now, in the order of the URL."""
        self._start()
        return [host for host in self.hosts if self._reason(host) is None]

    def states(self) -> list[Standby]:
        """Return what is known of each host."""
        self._start()
        return [self._state(host) for host in self.hosts]

    def mark_failed(self, host: Host, error: Exception) -> None:
        """Leave a host out, on which a search has just failed, until it is seen to answer."""
        with self._lock:
            known = self._known[host.name]
            if not known.out:
                known.look, known.error = None, str(error)

    def stop(self) -> None:
        """End the threads; a later question would start them anew."""
        self._ended.set()
        with self._lock:
            self._process = 0

    def _start(self) -> None:
        with self._lock:
            if self._process == os.getpid():
                return
            self._process = os.getpid()
            self._reset()
        targets = [lambda: self._watch(None), *(lambda host=host: self._watch(host) for host in self.hosts)]
        for number, target in enumerate(targets):
            threading.Thread(target=target, name=f"standby watch {number}", daemon=True).start()
        end = time.monotonic() + _FIRST_POLL_SECONDS
        while time.monotonic() < end and not all(one.look or one.error for one in self._known.values()):
            time.sleep(0.01)
        self._log_changes()

    def _watch(self, host: Host | None) -> None:
        """Look at one server, again and again, over one connection while it lasts."""
        ended, conn = self._ended, None
        while not ended.is_set():
            try:
                conn = conn or db.connect(
                    host.url if host else self._primary, autocommit=True, application="lookalike standby watch"
                )
                seen = _read_state(conn)
                if host is not None and self._known[host.name].error is not None:
                    self._on_recovery(host)
                    seen = _read_state(conn)
                self._note(host, seen, None)
            except (LookalikeError, psycopg.Error) as error:
                self._note(host, None, str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
                if conn is not None:
                    conn.close()
                conn = None
            if host is None:
                self._log_changes()
            ended.wait(_POLL_SECONDS)
        if conn is not None:
            conn.close()

    def _note(self, host: Host | None, look: _ServerState | None, error: str | None) -> None:
        with self._lock:
            if host is not None:
                known = self._known[host.name]
                known.look, known.error = look, error
            elif look is not None:
                self._system = look.system
                self._samples.append((look.at, look.position))

    def _log_changes(self) -> None:
        """Log who is out from now on, and who is in again."""
        for host in self.hosts:
            reason, known = self._reason(host), self._known[host.name]
            if known.out is (reason is not None) or (known.look is None and known.error is None):
                continue
            before, known.out = known.out, reason is not None
            if reason is not None:
                log.warning("standby %s is left out: %s", host.name, reason)
                if self._is_unresponsive(known.look):
                    self._on_unresponsive(host)
            elif before is not None:
                log.info("standby %s has searches again", host.name)

    @staticmethod
    def _is_unresponsive(look: _ServerState | None) -> bool:
        return look is None or time.monotonic() - look.at > _UNRESPONSIVE_SECONDS

    def _state(self, host: Host) -> Standby:
        reason = self._reason(host)
        with self._lock:
            look = self._known[host.name].look
            lag = None if look is None else self._lag(look)
        return Standby(host.name, fit=reason is None, lag_seconds=lag, reason=reason, advice=_advice(look))

    def _reason(self, host: Host) -> str | None:
        """Why a host is out, or None."""
        with self._lock:
            known = self._known[host.name]
            look = known.look
            if look is None:
                return known.error or "it has not answered yet"
            if self._is_unresponsive(look):
                return f"it has not answered for {time.monotonic() - look.at:.0f} s"
            return unfit_reason(
                look.standby, look.system, self._system, self._lag(look), self._max_lag, accept_primary=self._any
            )

    def _lag(self, look: _ServerState) -> float:
        """Seconds since the primary was first seen beyond where the standby is. The caller holds the lock."""
        ahead = None
        for at, position in reversed(self._samples):
            if position <= look.position:
                break
            ahead = at
        if ahead is None or not look.standby:
            return 0.0
        lag = max(look.at - ahead, 0.0)
        # Behind from the first on: since when, only the standby itself can tell.
        return max(lag, look.since_replayed or 0.0) if ahead == self._samples[0][0] else lag


def _advice(look: _ServerState | None) -> str | None:
    if look is None or not look.standby or look.feedback:
        return None
    return "set hot_standby_feedback = on there: its searches hold up its replay, and are cancelled for it"


def unfit_reason(
    standby: bool, system: int, wanted: int | None, lag: float, max_lag: float, *, accept_primary: bool
) -> str | None:
    """Say why a server that answers is not to be searched, or return None."""
    if wanted is not None and system != wanted:
        return "it belongs to another cluster than LOOKALIKE_DATABASE_URL"
    if not standby and not accept_primary:
        return "it is no standby: promoted, or the primary itself"
    if lag > max_lag:
        return f"it is {lag:.1f} s behind the primary (LOOKALIKE_READ_MAX_LAG {max_lag:g})"
    return None


def check_standbys(settings: Settings, primary: db.Connection) -> list[Standby]:
    """Look at each host once, for a command; behind is who does not, within a moment, get where the primary is."""
    if not settings.read_database_url:
        return []
    at, lsn = _read_state(primary), wal_position(primary)
    found = []
    for host in hosts(settings):
        with _checked(settings, host, at, lsn) as (state, _):
            found.append(state)
    return found


def run_on_standby(
    settings: Settings, primary: db.Connection, act: Callable[[db.Connection], T], *, fresh: bool = False
) -> T:
    """Return what `act`, which only reads, answers on the first standby that is fit, else on the primary.

    With `fresh` the answer shows all that was committed before. The primary is asked too where the standby fails, or
    does not know what the primary may know by now: an image, a switch of the active space.
    """
    wanted = hosts(settings)
    if wanted:
        at, lsn = _read_state(primary), wal_position(primary)
        for host in random.sample(wanted, len(wanted)) if load_balanced(settings) else wanted:
            with _checked(settings, host, at, lsn) as (state, conn):
                if conn is None or not state.fit:
                    log.warning("standby %s is left out: %s", host.name, state.reason)
                    continue
                try:
                    if not fresh or wait_for_replay(conn, lsn, seconds=settings.read_wait):
                        return act(conn)
                except (NotFoundError, SchemaError, SpaceChangedError, DatabaseUnavailableError) as error:
                    log.info("standby %s: %s; the primary is asked", host.name, error)
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
            level = not first.standby or wait_for_replay(conn, lsn, seconds=0.5)
            lag = 0.0 if level else _read_state(conn).since_replayed or 0.0
            any_ = accepts_primary(settings)
            reason = unfit_reason(
                first.standby, first.system, primary.system, lag, settings.read_max_lag, accept_primary=any_
            )
            state = Standby(host.name, fit=reason is None, lag_seconds=lag, reason=reason, advice=_advice(first))
        except (LookalikeError, psycopg.Error) as error:
            state = Standby(host.name, fit=False, lag_seconds=None, reason=str(error).strip().splitlines()[0])
        yield state, conn
