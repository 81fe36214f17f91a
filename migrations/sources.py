"""Loads objects of `sql/` in a revision, each as it was at that revision. Imports `app.errors` and `app.sql`.

`sql/` holds the current text. When a revision changes a file, the text before it is kept under
`migrations/frozen/<revision before>/`, so that every revision, up or down, gives the objects of its own day: a fresh
database and an upgraded one are the same. `sql.lock` names the revision that loads each current file, with its hash.
"""

import hashlib
import json
import re
from pathlib import Path

from alembic import context, op
from sqlalchemy import text

from app import sql
from app.errors import SchemaError

FROZEN = Path(__file__).parent / "frozen"
LOCK = Path(__file__).parent / "sql.lock"
_TRIGGER_TABLE = re.compile(r"^[^-].*\bON lookalike\.(\w+)", re.MULTILINE)
LOADED_FOLDERS = ("functions", "views", "triggers")


def load(revision: str, *paths: str) -> None:
    """Create or replace the objects of these files (`functions/search.sql`) as they were at `revision`."""
    # Through the driver itself: SQLAlchemy would take a colon in the text for a parameter, and psycopg a percent sign.
    cursor = op.get_bind().connection.cursor()
    for path in paths:
        cursor.execute(_text_at(revision, path))
    cursor.close()


def _text_at(revision: str, path: str) -> str:
    """Return the text of the last revision, up to this one, that loaded the file."""
    kept = {frozen.name for frozen in FROZEN.iterdir() if (frozen / path).is_file()} if FROZEN.is_dir() else set()
    last = max(known for known in {*kept, locked()[path]["revision"]} if known <= revision)
    return (FROZEN / last / path).read_text(encoding="utf-8") if last in kept else sql.text(path)


def drop(*paths: str) -> None:
    """Drop the objects of these files, named as the files are.

    RESTRICT: where a user hung an object of his own on one of them, the database refuses and says which.
    """
    for path in paths:
        folder, name = path.removesuffix(".sql").split("/")
        if folder == "triggers":
            table = _TRIGGER_TABLE.search(sql.text(path))
            if table is None:
                raise SchemaError(f"sql/{path} does not say which table its trigger is on")
            op.execute(f"DROP TRIGGER {name} ON lookalike.{table[1]}")
        else:
            kind = {"functions": "ROUTINE", "views": "VIEW"}[folder]
            op.execute(f"DROP {kind} lookalike.{name}")


def refuse_loss(**tables: str) -> None:
    """Say what dropping these tables would lose, and stop unless `-x lose=data` (CLI: --lose-data) allows it."""
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
    vector_schema = op.get_bind().scalar(
        text("SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'")
    )
    op.execute(f"SET LOCAL search_path = lookalike, {vector_schema}, pg_temp")


def current() -> dict[str, str]:
    """Return the hash of every file that revisions load, by path below `sql/`."""
    return {
        str(file.relative_to(sql.ROOT)): hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in LOADED_FOLDERS
        for file in sorted((sql.ROOT / folder).glob("*.sql"))
    }


def locked() -> dict[str, dict[str, str]]:
    """Return `sql.lock`: for each path, the revision that loads it and its hash."""
    entries: dict[str, dict[str, str]] = json.loads(LOCK.read_text(encoding="utf-8"))
    return entries
