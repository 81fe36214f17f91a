"""Presets for four classic cases: index spec, database settings, table parameters, environment of the processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import sql as pgsql
from psycopg.rows import scalar_row

from app.config import ENVIRONMENT_FILE
from app.db import Connection, sql, translated
from app.db.locking import retry_on_lock
from app.errors import ConfigurationError, NotFoundError
from app.index import attributes
from app.index.spec import parse_spec
from app.index.switch import current_spec, switch_index
from app.store import spaces
from app.store.spaces import Space

_HEAD = "# Written by lookalike preset apply. Variables of the environment override these.\n"
# Vacuum and analyze after few changes and without pauses, for tables that change all the time.
_BUSY = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_insert_scale_factor": "0.02",
    "autovacuum_analyze_scale_factor": "0.01",
    "autovacuum_vacuum_cost_delay": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Settings for one case.

    `choice` is an index spec. `tables` are storage parameters by relation; `embeddings` stands for the space's table.
    `database` are settings stored for the database, `environment` those of lookalike's processes. `attribute_indexes`
    are types by attribute. `audited`: answers name the version of the data.
    """

    name: str
    title: str
    why: str
    choice: str
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    database: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    attribute_indexes: Mapping[str, str] = field(default_factory=dict)
    audited: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One setting of a preset: its place, the wanted value, and the value now."""

    place: str
    name: str
    wanted: str
    now: str | None

    @property
    def holds(self) -> bool:
        """Whether the setting has the wanted value."""
        return self.wanted == self.now


PRESETS = (
    Preset(
        name="social-feed",
        title="A social feed: near-instant, with a small loss of recall",
        why="A light graph with a narrow search; query images go far ahead of new images.",
        choice="hnsw(m=12,ef_construction=64,ef_search=40)",
        environment={"LOOKALIKE_QUERY_SHARE": "16", "LOOKALIKE_SEARCH_TIMEOUT": "1", "LOOKALIKE_QUERY_TIMEOUT": "3"},
    ),
    Preset(
        name="live-cameras",
        title="Live cameras: freshness first",
        why="The graph that is cheapest to write; new frames go ahead of searches; vacuum keeps up with deletions.",
        choice="hnsw(m=8,ef_construction=40,ef_search=120)",
        tables={"embeddings": _BUSY, "images": _BUSY},
        environment={
            "LOOKALIKE_QUERY_SHARE": "1",
            "LOOKALIKE_JOB_SHARE": "4",
            "LOOKALIKE_FETCH_TIMEOUT": "5",
            "LOOKALIKE_LEASE_SECONDS": "30",
            "LOOKALIKE_MAX_ATTEMPTS": "2",
        },
    ),
    Preset(
        name="shop",
        title="A shop: filters, and prices that change all the time",
        why="A full graph, because filters need long scans; an index on prices; vacuum and statistics of the metadata "
        "keep up; no search waits for a pending list of the attribute index.",
        choice="hnsw(m=16,ef_construction=64)",
        tables={"images": _BUSY, "images_attributes": {"fastupdate": "off"}},
        attribute_indexes={"price": "numeric"},
    ),
    Preset(
        name="medical-archive",
        title="A medical archive: exact, reproducible, audited",
        why="No approximation; embeddings in fp32 only; every change of the data is counted; every client needs a key.",
        choice="exact",
        database={"synchronous_commit": "on"},
        environment={
            "LOOKALIKE_PRECISION": "fp32",
            "LOOKALIKE_COMPILE": "false",
            "LOOKALIKE_API_AUTH": "keys",
            "LOOKALIKE_SEARCH_TIMEOUT": "60",
        },
        audited=True,
    ),
)


def get(name: str) -> Preset:
    """Return the preset of this name.

    Raises:
        NotFoundError: there is no such preset; the message lists the presets.
    """
    for preset in PRESETS:
        if preset.name == name:
            return preset
    raise NotFoundError(f'there is no preset "{name}"; the presets are: {", ".join(one.name for one in PRESETS)}')


def compare(conn: Connection, preset: Preset, space: Space, home: Path) -> list[Line]:
    """Return each setting of a preset with its value now, for this space and the environment file in `home`."""
    lines = [Line(f"space {space.name}", "index", str(parse_spec(preset.choice)), str(current_spec(space)))]
    if preset.audited:
        lines.append(Line(f"space {space.name}", "audited", "yes", "yes" if _audited(conn, space) else "no"))
    with translated():
        stored = dict(_pairs(conn, sql.query("database_settings"), {}))
        for table, wanted in preset.tables.items():
            real = _relation(table, space)
            now = dict(_pairs(conn, sql.query("storage_parameters"), {"relation": real}))
            lines += [Line(f"table {real}", name, value, now.get(name)) for name, value in wanted.items()]
    lines += [Line("database", name, value, stored.get(name)) for name, value in preset.database.items()]
    have = {one.name: one.type for one in attributes.ls(conn) if one.valid}
    lines += [Line("attribute index", name, kind, have.get(name)) for name, kind in preset.attribute_indexes.items()]
    written = _read_environment(home / ENVIRONMENT_FILE)
    lines += [Line("environment", name, value, written.get(name)) for name, value in preset.environment.items()]
    return lines


def apply(
    conn: Connection, preset: Preset, space: Space, home: Path, *, report: Callable[[str], None] | None = None
) -> list[Line]:
    """Apply a preset; return its settings with their new values. In autocommit; searches and writes go on.

    The index is built beside the serving one. If interrupted, apply it again. Settings of another preset that this one
    does not name stay. Processes read the environment file when they start.

    Raises:
        ConfigurationError: the role may not alter the database, or the file cannot be written.
        LookalikeError: as for `switch_index`.
    """
    report = report or (lambda _: None)
    switch_index(conn, space, parse_spec(preset.choice), report=report)
    for name, kind in preset.attribute_indexes.items():
        report(f"building the attribute index of {name} ({kind})")
        attributes.add(conn, name, kind)
    with translated():
        for table, wanted in preset.tables.items():
            _set_parameters(conn, _relation(table, space), wanted, index=table == "images_attributes")
        for name, value in preset.database.items():
            _set_for_database(conn, name, value)
    if preset.audited and not _audited(conn, space):
        report(f"counting changes of {space.name} from now on")
        retry_on_lock(conn, "audit_space", space.name, patience=60)
    if preset.environment:
        report(f"writing the settings of processes to {home / ENVIRONMENT_FILE}")
        _write_environment(home / ENVIRONMENT_FILE, preset.environment)
    return compare(conn, preset, spaces.get(conn, space.name), home)


def _relation(table: str, space: Space) -> str:
    return space.table_name if table == "embeddings" else table


def _audited(conn: Connection, space: Space) -> bool:
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute("SELECT lookalike.audited(%s::smallint)", (space.id,)).fetchone())


def _pairs(conn: Connection, query: str, values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(str(row[0]), str(row[1])) for row in conn.execute(query, values)]


def _set_parameters(conn: Connection, relation: str, wanted: Mapping[str, str], *, index: bool) -> None:
    changes = pgsql.SQL(", ").join(
        pgsql.SQL("{} = {}").format(pgsql.Identifier(name), pgsql.Literal(value)) for name, value in wanted.items()
    )
    statement = pgsql.SQL("ALTER INDEX {} SET ({})" if index else "ALTER TABLE {} SET ({})")
    conn.execute(statement.format(pgsql.Identifier("lookalike", relation), changes))


def _set_for_database(conn: Connection, name: str, value: str) -> None:
    conn.execute(
        pgsql.SQL("ALTER DATABASE {} SET {} = {}").format(
            pgsql.Identifier(conn.info.dbname), pgsql.Identifier(name), pgsql.Literal(value)
        )
    )


def _read_environment(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def _write_environment(file: Path, wanted: Mapping[str, str]) -> None:
    """Merge settings into the environment file; write it completely or not at all."""
    merged = {**_read_environment(file), **wanted}
    new = file.with_name(file.name + ".new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(_HEAD + "".join(f"{name}={value}\n" for name, value in sorted(merged.items())), encoding="utf-8")
        new.replace(file)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {file}: {error.strerror}; choose another folder: LOOKALIKE_HOME"
        ) from error
