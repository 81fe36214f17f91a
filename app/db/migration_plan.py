"""Plan pending revisions: their SQL, the locks they take, and the tables they read and rewrite.

The revisions run in a scratch database on the same server. It starts at the real database's revision and gets the
tables of its spaces, so locks, reads and rewrites are observed after each statement. Only the duration is an estimate,
from the bytes read or rewritten and the measured speed of this server.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql as pgsql
from psycopg.conninfo import make_conninfo

from app.db import schema
from app.errors import ConfigurationError

# Weak to strong. Searches and writes continue under modes weaker than SHARE.
MODES = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
# Amount of the speed test of the server's disk: a second at most on current hardware.
_SAMPLE_BYTES = 2**25
_BLOCKS_WRITES, _BLOCKS_SEARCHES = MODES[4:7], MODES[7:]

_TABLES = """
SELECT c.oid::bigint, c.oid::regclass::text FROM pg_class c
WHERE c.relnamespace = to_regnamespace('lookalike') AND c.relkind IN ('r', 'p', 'v', 'm')
  AND c.relname <> 'alembic_version'
"""
_STATE = """
SELECT c.oid::bigint, c.relfilenode::bigint, coalesce(s.seq_scan, 0),
       (SELECT array_agg(l.mode) FROM pg_locks l
        WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.relation = c.oid AND l.granted)
FROM pg_class c LEFT JOIN pg_stat_xact_all_tables s ON s.relid = c.oid
WHERE c.oid = ANY (%s::oid[])
"""
_SIZES = """
SELECT c.oid::regclass::text, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)
FROM pg_class c WHERE c.relnamespace = to_regnamespace('lookalike') AND c.relkind = 'r'
"""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a revision.

    `locks` are the existing relations that it locks, or locks more strongly than before, each with the mode. `reads`
    and `rewrites` are the tables that it scans whole and rewrites.
    """

    sql: str
    locks: dict[str, str]
    reads: list[str]
    rewrites: list[str]


@dataclass(slots=True)
class Step:
    """One revision: its statements, and its duration in seconds on empty tables.

    `serves` is the oldest revision whose code works during and after it.
    """

    revision: str
    title: str
    serves: str
    statements: list[Statement] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def locks(self) -> dict[str, str]:
        """Strongest lock mode on each relation."""
        found: dict[str, str] = {}
        for statement in self.statements:
            for name, mode in statement.locks.items():
                found[name] = max(found.get(name, mode), mode, key=MODES.index)
        return found


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured speed at which this server reads and writes a table, in bytes per second."""

    read: float = float("inf")
    write: float = float("inf")


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps to the newest revision. `sizes` holds (estimated rows, bytes) for each table of the real database."""

    current: str | None
    steps: list[Step]
    sizes: dict[str, tuple[int, int]]
    rates: Rates = Rates()

    def seconds(self, step: Step) -> float:
        """Return the estimated seconds of a step: its time on empty tables, plus the time for the bytes it handles."""
        read = sum(self.sizes.get(name, (0, 0))[1] for one in step.statements for name in one.reads)
        written = sum(self.sizes.get(name, (0, 0))[1] for one in step.statements for name in one.rewrites)
        return step.seconds + read / self.rates.read + written / self.rates.write


def blocked_by(mode: str) -> str:
    """Return what a lock of this mode blocks while it is held."""
    if mode in _BLOCKS_SEARCHES:
        return "searches and writes"
    return "writes" if mode in _BLOCKS_WRITES else "nobody"


def make(url: str) -> Plan:
    """Return the plan of `schema.upgrade`; the database itself is only read.

    Raises:
        ConfigurationError: the role may not create the scratch database.
        SchemaError: code and database do not fit.
    """
    from alembic import command
    from alembic.script import ScriptDirectory

    with psycopg.connect(url, autocommit=True) as conn:
        current = schema.current(conn)
        if current == schema.head() or (current is not None and current not in schema.revisions()):
            schema.check(conn)
            return Plan(current, [], {})
        sizes = {str(name): (int(rows), int(size)) for name, rows, size in conn.execute(_SIZES)}
        spaces = (
            conn.execute("SELECT id, name, dimensions FROM lookalike.embedding_spaces ORDER BY id").fetchall()
            if current
            else []
        )
    scripts = {one.revision: one for one in ScriptDirectory.from_config(schema.config("")).walk_revisions()}
    with _scratch(url) as scratch:
        if current:
            schema.upgrade(scratch, current)
            _copy_spaces(scratch, spaces)
        steps = []
        for revision in schema.revisions()[schema.revisions().index(current) + 1 if current else 0 :]:
            script = scripts[revision]
            step = Step(revision, script.doc, getattr(script.module, "serves", revision))
            began = time.monotonic()
            command.upgrade(schema.config(scratch, cursor=recording(scratch, step.statements)), revision)
            step.seconds = time.monotonic() - began
            steps.append(step)
        touched = {name for step in steps for one in step.statements for name in (*one.reads, *one.rewrites)}
        return Plan(current, steps, sizes, _rates(url, scratch, {name: sizes.get(name, (0, 0))[1] for name in touched}))


def _rates(url: str, scratch: str, sizes: dict[str, int]) -> Rates:
    """Measure the server's speed: read a part of the largest of these tables, and write a scratch table."""
    largest = max(sizes, key=lambda name: sizes[name], default=None)
    if largest is None or not sizes[largest]:
        return Rates()
    share = min(1.0, _SAMPLE_BYTES / sizes[largest])
    sampled = pgsql.SQL("SELECT count(*) FROM {} TABLESAMPLE SYSTEM ({})").format(
        pgsql.Identifier(*largest.split(".")), pgsql.Literal(100 * share)
    )
    written = "CREATE TABLE public.rate AS SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, %s) n"
    with psycopg.connect(url, autocommit=True) as conn, psycopg.connect(scratch, autocommit=True) as empty:
        reading = _timed(lambda: conn.execute(sampled))
        writing = _timed(lambda: empty.execute(written, (_SAMPLE_BYTES // 1000,)))
    return Rates(sizes[largest] * share / reading, _SAMPLE_BYTES / writing)


def _timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return max(time.monotonic() - began, 1e-6)


def _copy_spaces(scratch: str, spaces: list[tuple[Any, ...]]) -> None:
    with psycopg.connect(scratch, autocommit=True) as conn:
        for number, name, dimensions in spaces:
            restart = pgsql.SQL("ALTER TABLE lookalike.embedding_spaces ALTER COLUMN id RESTART WITH {}")
            conn.execute(restart.format(number))
            conn.execute("SELECT lookalike.create_space(%s, 'planned', %s, '{}', %s)", (name, dimensions, name))


@contextmanager
def _scratch(url: str) -> Iterator[str]:
    """Yield the URL of an empty database on the same server. Drop it at the end, with the roles created meanwhile."""
    name = pgsql.Identifier(f"lookalike_plan_{uuid.uuid4().hex[:8]}")
    with psycopg.connect(url, autocommit=True) as conn:
        before = _roles(conn)
        try:
            conn.execute(pgsql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigurationError(
                f"--plan runs the revisions in a scratch database, and role {conn.info.user} may not create one: run it"
                ' as a role with CREATEDB, or read the SQL alone: "alembic upgrade CURRENT:head --sql"'
            ) from error
        try:
            yield make_conninfo(url, dbname=name.as_string(conn).strip('"'))
        finally:
            conn.execute(pgsql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            for role in sorted(_roles(conn) - before):
                # A migration of another database may use the role by now.
                with suppress(psycopg.errors.DependentObjectsStillExist):
                    conn.execute(pgsql.SQL("DROP ROLE {}").format(pgsql.Identifier(role)))


def _roles(conn: "psycopg.Connection[Any]") -> set[str]:
    found = conn.execute(r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'lookalike\_%'").fetchall()
    return {str(role) for (role,) in found}


def recording(scratch: str, statements: list[Statement]) -> type[psycopg.Cursor[Any]]:
    """Return a cursor class that appends each statement of a revision to `statements`, with its effect on relations.

    Pass it to `schema.config(url, cursor=...)`. It executes the statements, so it migrates the database.
    """
    with psycopg.connect(scratch, autocommit=True) as conn:
        names: dict[int, str] = {int(oid): str(name) for oid, name in conn.execute(_TABLES)}

    class Recording(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> "Recording":  # noqa: ANN401
            text = query if isinstance(query, str) else str(query)
            if not _of_revision(text):
                super().execute(query, params, **options)
                return self
            if self.connection.autocommit:
                super().execute(query, params, **options)
                statements.append(_nontransactional(text, names))
                return self
            before = self._state()
            super().execute(query, params, **options)
            after = self._state()
            locks, reads, rewrites = {}, [], []
            for oid, (node, scans, modes) in after.items():
                node_before, scans_before, modes_before = before[oid]
                strongest = max((MODES.index(mode) for mode in modes), default=0)
                if strongest > max((MODES.index(mode) for mode in modes_before), default=0):
                    locks[names[oid]] = MODES[strongest]
                if scans > scans_before:
                    reads.append(names[oid])
                if node != node_before:
                    rewrites.append(names[oid])
            gone = [oid for oid in before if oid not in after]
            locks |= {names[oid]: "AccessExclusiveLock" for oid in gone}
            statements.append(Statement(text.strip(), locks, reads, rewrites))
            return self

        def _state(self) -> dict[int, tuple[int, int, set[str]]]:
            with psycopg.Cursor(self.connection) as cursor:
                rows = cursor.execute(_STATE, (list(names),)).fetchall()
            return {int(oid): (int(node), int(scans), set(modes or ())) for oid, node, scans, modes in rows}

    return Recording


def _of_revision(text: str) -> bool:
    """Return whether a statement belongs to a revision, and not to SQLAlchemy or Alembic themselves."""
    words = text.split(None, 1)
    first = words[0].upper() if words else ""
    if "alembic_version" in text or "pg_catalog." in text or first in ("SHOW", "BEGIN", "COMMIT", "ROLLBACK"):
        return False
    if first == "SELECT":
        return "lookalike." in text and "to_regclass" not in text
    return not (first == "SET" and "lock_timeout" in text) and "CREATE SCHEMA IF NOT EXISTS" not in text


def _nontransactional(text: str, names: dict[int, str]) -> Statement:
    """Return a CONCURRENTLY statement with assumed locks: it has transactions of its own, so it holds none after it."""
    touched = [name for name in names.values() if f" {name} " in f" {text} ".replace("(", " ")]
    builds = "CREATE" in text.upper()
    return Statement(text.strip(), dict.fromkeys(touched, "ShareUpdateExclusiveLock"), touched if builds else [], [])
