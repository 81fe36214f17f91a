"""Loads objects of `sql/` in a revision, each as it was at that revision.

`sql/` holds the current text. When a revision changes a file, the text before it is kept under
`migrations/frozen/<revision before>/`, so that every revision, up or down, gives the objects of its own day: a fresh
database and an upgraded one are the same. `sql.lock` names the revision that loads each current file, with its hash.
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
from sqlalchemy import text

from app.db import sql
from app.errors import SchemaError
from migrations.guard import LOCK_TIMEOUT

FROZEN = Path(__file__).parent / "frozen"
LOCK = Path(__file__).parent / "sql.lock"
_TRIGGER_TABLE = re.compile(r"^[^-].*\bON lookalike\.(\w+)", re.MULTILINE)
# The first revision that has the table of what each serves.
FIRST_RECORDED = "0005"
LOADED_FOLDERS = ("functions", "views", "triggers")


def load(revision: str, *paths: str) -> None:
    """Create or replace these objects (`functions/search.sql`: kind and name, whatever the folder) as at `revision`."""
    if context.is_offline_mode():
        for path in paths:
            op.get_context().impl.static_output(_text_at(revision, path))
        return
    # Through the driver itself: SQLAlchemy would take a colon in the text for a parameter, and psycopg a percent sign.
    cursor = op.get_bind().connection.cursor()
    for path in paths:
        cursor.execute(_text_at(revision, path))
    cursor.close()


@contextmanager
def concurrently() -> Iterator[None]:
    """Run statements outside a transaction, as CREATE INDEX CONCURRENTLY wants it, waiting for as long as they must.

    They keep nobody waiting while they wait, and given up they would leave an invalid index. What came before in the
    revision is committed here, so it must bear being run again: should this block fail, all of the revision is.
    """
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        try:
            yield
        finally:
            if context.is_offline_mode() or not op.get_bind().invalidated:
                op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")


def build_index(name: str, definition: str) -> None:
    """CREATE INDEX CONCURRENTLY in schema lookalike, unless it is there; an invalid one, left by a try cut off, goes.

    `definition` is what follows the name: `ON lookalike.images USING gin (...)`. To be called within `concurrently`.
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
    """Note, in the transaction of a revision, the oldest code that it serves (`serves` in its module); from 0005 on."""
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
    """Return the text of the last revision, up to this one, that loaded the file."""
    kept = {frozen.name for frozen in FROZEN.iterdir() if (frozen / path).is_file()} if FROZEN.is_dir() else set()
    last = max(known for known in {*kept, locked()[path]["revision"]} if known <= revision)
    return (FROZEN / last / path).read_text(encoding="utf-8") if last in kept else _current(path)


def _current(path: str) -> str:
    kind, name = path.removesuffix(".sql").split("/")
    return sql.source(kind, name).read_text(encoding="utf-8")


def drop(*paths: str) -> None:
    """Drop the objects of these files, named as the files are.

    RESTRICT: where a user hung an object of his own on one of them, the database refuses and says which.
    """
    for path in paths:
        folder, name = path.removesuffix(".sql").split("/")
        if folder == "triggers":
            table = _TRIGGER_TABLE.search(_current(path))
            if table is None:
                raise SchemaError(f"sql/{path} does not say which table its trigger is on")
            op.execute(f"DROP TRIGGER {name} ON lookalike.{table[1]}")
        else:
            kind = {"functions": "ROUTINE", "views": "VIEW"}[folder]
            op.execute(f"DROP {kind} lookalike.{name}")


def refuse_loss(**tables: str) -> None:
    """Say what dropping these tables would lose, and stop unless `-x lose=data` (CLI: --lose-data) allows it."""
    if context.is_offline_mode():
        raise SchemaError("what a downgrade would lose is known only to the database: run it there, without --sql")
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
    """Put the schema, and the one that holds pgvector, on this transaction's search path: functions record it.

    Bodies are not checked while they load, so that functions may be listed in any order.
    """
    op.execute("SET LOCAL check_function_bodies = off")
    op.execute(
        "SELECT set_config('search_path', 'lookalike, ' || quote_ident(n.nspname) || ', pg_temp', true)"
        " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    )


def current() -> dict[str, str]:
    """Return the hash of every file that revisions load, by kind and name: `functions/search.sql`."""
    return {
        f"{folder}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in LOADED_FOLDERS
        for file in sorted((sql.ROOT / folder).rglob("*.sql"))
    }


def locked() -> dict[str, dict[str, str]]:
    """Return `sql.lock`: for each path, the revision that loads it and its hash."""
    entries: dict[str, dict[str, str]] = json.loads(LOCK.read_text(encoding="utf-8"))
    return entries
