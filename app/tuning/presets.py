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

_HEAD = "# Written by lookalike preset apply. The environment's own variables go before these.\n"
# Vacuum and statistics soon after a few changes, and without pausing: for tables that change all the time.
_BUSY = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_insert_scale_factor": "0.02",
    "autovacuum_analyze_scale_factor": "0.01",
    "autovacuum_vacuum_cost_delay": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a case wants. `choice` is an index choice; `tables` are storage parameters by relation, `embeddings` for the
    space's own; `database` are settings stored for the database; `environment` those of lookalike's processes;
    `attribute_indexes` by attribute and type; `audited`: every answer can say by which data it was given.
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
    """One setting of a preset: where it belongs, what the preset wants, and what there is now."""

    place: str
    name: str
    wanted: str
    now: str | None

    @property
    def holds(self) -> bool:
        """Whether it is as the preset wants it."""
        return self.wanted == self.now


PRESETS = (
    Preset(
        name="social-feed",
        title="A social feed: near-instant, a small loss of recall accepted",
        why="A narrow search of a light graph; pictures that people search by go far before new ones.",
        choice="hnsw(m=12,ef_construction=64,ef_search=40)",
        environment={"LOOKALIKE_QUERY_SHARE": "16", "LOOKALIKE_SEARCH_TIMEOUT": "1", "LOOKALIKE_QUERY_TIMEOUT": "3"},
    ),
    Preset(
        name="live-cameras",
        title="Live cameras: freshness first",
        why="The graph that is cheapest to write into; new frames before searches; vacuum keeps up with those that go.",
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
        why="A full graph, whose scan can be followed far under filters; prices in an index of their own; statistics "
        "and vacuum of metadata keep up, and no search waits for a pending list of the attribute index.",
        choice="hnsw(m=16,ef_construction=64)",
        tables={"images": _BUSY, "images_attributes": {"fastupdate": "off"}},
        attribute_indexes={"price": "numeric"},
    ),
    Preset(
        name="medical-archive",
        title="A medical archive: exact, reproducible, audited",
        why="No approximation, embeddings computed in fp32 alone, each change of the data counted, keys for everybody.",
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
    """Return the preset of this name; NotFoundError that lists those there are."""
    for preset in PRESETS:
        if preset.name == name:
            return preset
    raise NotFoundError(f'there is no preset "{name}"; there are: {", ".join(one.name for one in PRESETS)}')


def compare(conn: Connection, preset: Preset, space: Space, home: Path) -> list[Line]:
    """Return each setting of a preset with what it is now, for this space and the environment file in `home`."""
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
    """Make everything as the preset wants it, and return what it is then. In autocommit; searches and writes go on.

    The index is built beside what serves (errors as of `choices.apply`). Interrupted, it may be applied again. What
    another preset set and this one does not name stays. Processes read the environment file at their start.
    ConfigurationError where the role may not alter the database, or the file cannot be written.
    """
    tell = report or (lambda _: None)
    switch_index(conn, space, parse_spec(preset.choice), report=tell)
    for name, kind in preset.attribute_indexes.items():
        tell(f"attribute index of {name} ({kind})")
        attributes.add(conn, name, kind)
    with translated():
        for table, wanted in preset.tables.items():
            _set_parameters(conn, _relation(table, space), wanted, index=table == "images_attributes")
        for name, value in preset.database.items():
            _set_for_database(conn, name, value)
    if preset.audited and not _audited(conn, space):
        tell(f"counting changes of {space.name}")
        retry_on_lock(conn, "audit_space", space.name, patience=60)
    if preset.environment:
        tell(f"settings of processes in {home / ENVIRONMENT_FILE}")
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
    """Write what the preset wants, and keep what else the file says; complete or not at all."""
    merged = {**_read_environment(file), **wanted}
    new = file.with_name(file.name + ".new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(_HEAD + "".join(f"{name}={value}\n" for name, value in sorted(merged.items())), encoding="utf-8")
        new.replace(file)
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}; LOOKALIKE_HOME says where") from error
