"""Load objects of `sql/` in a revision, each with its text at that revision.

`sql/` holds the current text. When a revision changes a file, `migrations/frozen/<previous revision>/` keeps the text
before. Each upgrade or downgrade thus creates the objects of its own revision, and a fresh database equals an upgraded
one. `sql.lock` names the revision that loads each current file, with its hashes.

The comment lines that open a file are its header. From 0009 on the header is the object's COMMENT, so that psql's \\df+
shows it. It has a hash of its own, because nothing stored it before 0009. Below `Columns:` the header of a view or
table describes its columns, which get comments of their own. Further comments below an empty line are notes for editors
of the file; nothing stores or hashes them. Files of tables have only headers, because revisions create tables.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from alembic import context, op
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script
from sqlalchemy import MetaData, text

from app.db import sql
from app.errors import SchemaError
from migrations.guard import LOCK_TIMEOUT

FROZEN = Path(__file__).parent / "frozen"
LOCK = Path(__file__).parent / "sql.lock"
_TRIGGER_TABLE = re.compile(r"^[^-].*\bON lookalike\.(\w+)", re.MULTILINE)
_HEADER = re.compile(r"(?:--.*\n)*")
_COLUMNS = re.compile(r"^Columns:\n", re.MULTILINE)
_ITEM = re.compile(r"^  (\S+(?:, \S+)*)  +(.+(?:\n {4,}.+)*)", re.MULTILINE)
_SPACES = re.compile(r"\s+")
_ABOVE_BODY = re.compile(r"(?:(?:--.*)?\n)*")
# The first revision with the table of served code, schema_revisions.
FIRST_RECORDED = "0005"
# The first revision that stores file headers as comments on their objects.
FIRST_COMMENTED = "0009"
LOADED_FOLDERS = ("functions", "tables", "triggers", "views")
_KINDS = {"functions": "ROUTINE", "tables": "TABLE", "views": "VIEW"}


def load(revision: str, *paths: str) -> None:
    """Create or replace these objects, and from 0009 on their comments, with their text at `revision`.

    A path is kind and name (`functions/search.sql`), whatever the file's folder. Tables get only their comments.
    """
    for path in paths:
        if not path.startswith("tables/"):
            _execute(_text_at(revision, path))
    if revision >= FIRST_COMMENTED:
        comment(revision, *paths)


def comment(revision: str, *paths: str) -> None:
    """Set the comments of these objects and their columns to the headers of their files at `revision`."""
    _comment_on({name: text for path in paths for name, text in comments(path, _text_at(revision, path)).items()})


def uncomment(revision: str, *paths: str) -> None:
    """Remove the comments of these objects, and of the columns that their files describe at `revision`."""
    _comment_on({name: None for path in paths for name in comments(path, _text_at(revision, path))})


def comments(path: str, text: str) -> dict[str, str]:
    """Return the comments of an object and its columns, by name as in COMMENT ON; `text` is the whole file."""
    opening = header(text)
    if path.startswith(("functions/", "triggers/")):
        return {_object(path): opening}
    name = path.partition("/")[2].removesuffix(".sql")
    above, *below = _COLUMNS.split(opening, maxsplit=1)
    described, _, rest = "".join(below).partition("\n\n")
    own = "\n\n".join(part.strip("\n") for part in (above, rest) if part.strip("\n"))
    columns = {f'COLUMN lookalike.{name}."{column}"': text for column, text in items(described).items()}
    return {_object(path): own, **columns}


def items(section: str) -> dict[str, str]:
    """Return the descriptions by name in a section of a header, such as the lines below `Columns:`."""
    return {name: _SPACES.sub(" ", text).strip() for name, text in _ITEM.findall(section)}


def describe(metadata: MetaData) -> None:
    """Set the comments of these tables and their columns from `sql/tables/`."""
    for table in metadata.tables.values():
        path = f"tables/{table.name}.sql"
        texts = comments(path, source_of(path))
        table.comment = texts[_object(path)]
        for column in table.columns:
            column.comment = texts.get(f'COLUMN lookalike.{table.name}."{column.name}"')


def header(text: str) -> str:
    """Return the comment that opens a file, without its dashes; `text` is the whole file."""
    opening = _HEADER.match(text)
    lines = opening[0].splitlines() if opening else []
    return "\n".join(line.removeprefix("--").removeprefix(" ") for line in lines)


def loaded_by(revision: str) -> list[str]:
    """Return the paths of all objects that this revision or an earlier one loads."""
    return [path for path, entry in locked().items() if min(_frozen_at(path) | {entry["revision"]}) <= revision]


def _comment_on(texts: Mapping[str, str | None]) -> None:
    if texts:
        _execute("".join(f"COMMENT ON {name} IS {_literal(text)};\n" for name, text in texts.items()))


def _literal(text: str | None) -> str:
    """Return an SQL literal that standard_conforming_strings does not change."""
    if text is None:
        return "NULL"
    quoted = text.replace("'", "''")
    return "E'{}'".format(quoted.replace("\\", "\\\\")) if "\\" in quoted else f"'{quoted}'"


def _execute(statements: str) -> None:
    if context.is_offline_mode():
        op.get_context().impl.static_output(statements)
        return
    # Through the driver without parameters, because SQLAlchemy would take a colon in the text for a parameter, and
    # psycopg with parameters a percent sign.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(statements)
    cursor.close()


@contextmanager
def concurrently() -> Iterator[None]:
    """Run statements outside a transaction and without a lock timeout, as CREATE INDEX CONCURRENTLY needs.

    They block nobody while they wait, and a timeout would leave an invalid index. The revision's earlier statements are
    committed here and must be repeatable, because the whole revision runs again if this block fails.
    """
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        try:
            yield
        finally:
            if context.is_offline_mode() or not op.get_bind().invalidated:
                op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")


def build_index(name: str, definition: str) -> None:
    """Create an index of schema lookalike CONCURRENTLY, unless a valid one exists; replace an invalid one.

    `definition` follows the name: `ON lookalike.images USING gin (...)`. Call this within `concurrently`.
    """
    if not context.is_offline_mode() and op.get_bind().scalar(
        text(
            "SELECT NOT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE c.relname = :name AND c.relnamespace = 'lookalike'::regnamespace"
        ),
        {"name": name},
    ):
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS lookalike.{name}")
    op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} {definition}")


def record_revision(
    ctx: MigrationContext, step: MigrationInfo, heads: Collection[object], run_args: Mapping[str, object]
) -> None:
    """Record the oldest code that a revision serves (`serves` in its module), in its transaction; from 0005 on."""
    revision = step.up_revision
    if not isinstance(revision, Script):
        return
    if step.is_upgrade:
        serves = getattr(revision.module, "serves", revision.revision)
        statement = "INSERT INTO lookalike.schema_revisions (revision, serves) VALUES ('{}', '{}')"
        run = statement.format(revision.revision, serves)
    else:
        run = f"DELETE FROM lookalike.schema_revisions WHERE revision = '{revision.revision}'"  # noqa: S608
    if ctx.as_sql:
        if revision.revision >= FIRST_RECORDED and (step.is_upgrade or revision.revision != FIRST_RECORDED):
            ctx.impl.static_output(run + ";")
    elif op.get_bind().scalar(text("SELECT to_regclass('lookalike.schema_revisions') IS NOT NULL")):
        op.execute(run)


def _text_at(revision: str, path: str) -> str:
    """Return a file's text at `revision`: that of the last revision up to it that loaded the file."""
    kept = _frozen_at(path)
    last = max(known for known in kept | {locked()[path]["revision"]} if known <= revision)
    return (FROZEN / last / path).read_text(encoding="utf-8") if last in kept else source_of(path)


def _frozen_at(path: str) -> set[str]:
    """Return the revisions with a frozen text of this file."""
    return {frozen.name for frozen in FROZEN.iterdir() if (frozen / path).is_file()}


def source_of(path: str) -> str:
    """Return the current text of a file of `sql/`, by kind and name: `functions/search.sql`."""
    kind, name = path.removesuffix(".sql").split("/")
    return sql.source(kind, name).read_text(encoding="utf-8")


def drop(*paths: str) -> None:
    """Drop the objects of these files.

    RESTRICT: if an object of the user's own depends on one of them, the database refuses and names it.
    """
    for path in paths:
        op.execute(f"DROP {_object(path)}")


def _object(path: str) -> str:
    """Return the object of a file as DROP and COMMENT ON name it; no two functions share a name."""
    folder, name = path.removesuffix(".sql").split("/")
    if folder != "triggers":
        return f"{_KINDS[folder]} lookalike.{name}"
    table = _TRIGGER_TABLE.search(source_of(path))
    if table is None:
        raise SchemaError(f"sql/{path} does not say which table its trigger is on")
    return f"TRIGGER {name} ON lookalike.{table[1]}"


def refuse_loss(**tables: str) -> None:
    """Check that dropping these tables loses no rows, unless `-x lose=data` (CLI: --lose-data) allows it.

    `tables` maps table names to words for their rows.

    Raises:
        SchemaError: rows would be lost; the message counts them by table.
    """
    if context.is_offline_mode():
        raise SchemaError("only the database can count the rows that a downgrade loses: run it there, without --sql")
    counts = {
        name: op.get_bind().scalar(text(f"SELECT count(*) FROM lookalike.{name}"))  # noqa: S608 (our own names)
        for name in tables
    }
    lost = ", ".join(f"{count} {tables[name]} ({name})" for name, count in counts.items() if count)
    if lost and context.get_x_argument(as_dictionary=True).get("lose") != "data":
        raise SchemaError(
            f"this downgrade would lose {lost}; dump the database first, then allow it with "
            '"lookalike migrate --to REVISION --lose-data" (alembic: -x lose=data)'
        )


def use_schema_path() -> None:
    """Set this transaction's search path to lookalike and pgvector's schema, because functions store it.

    Turn off checks of function bodies, so that functions may load in any order.
    """
    op.execute("SET LOCAL check_function_bodies = off")
    op.execute(
        "SELECT set_config('search_path', 'lookalike, ' || quote_ident(n.nspname) || ', pg_temp', true)"
        " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    )


def current() -> dict[str, dict[str, str]]:
    """Return the hashes of all files that revisions load, by kind and name: `functions/search.sql`.

    `sha256` covers the text below the opening comments, and `comment` the header.
    """
    return {
        f"{folder}/{file.name}": _hashes(file.read_text(encoding="utf-8"))
        for folder in LOADED_FOLDERS
        for file in sorted((sql.ROOT / folder).rglob("*.sql"))
    }


def _hashes(text: str) -> dict[str, str]:
    return {"sha256": _sha256(_ABOVE_BODY.sub("", text, count=1)), "comment": _sha256(header(text))}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def locked() -> dict[str, dict[str, str]]:
    """Return `sql.lock`: for each path, the revision that loads it and its hashes."""
    entries: dict[str, dict[str, str]] = json.loads(LOCK.read_text(encoding="utf-8"))
    return entries
