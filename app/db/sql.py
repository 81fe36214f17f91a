"""Load SQL from `sql/`: the schema's objects, and the statements that this code runs."""

import re
from functools import cache
from pathlib import Path
from typing import LiteralString, cast

from app.errors import SchemaError

ROOT = Path(__file__).parents[2] / "sql"

# The files write parameters as psql does, :'name'; psycopg needs %(name)s.
_VARIABLE = re.compile(r"(?<!:):'([a-z_]+)'")
_COMMAND = re.compile(r"^\\.*\n", re.MULTILINE)
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def source(kind: str, name: str) -> Path:
    """Return the file of an object or a statement: `sql/KIND/**/NAME.sql`.

    Raises:
        SchemaError: there is not exactly one such file.
    """
    found = list((ROOT / kind).rglob(f"{name}.sql"))
    if len(found) != 1:
        raise SchemaError(f"sql/{kind} has {len(found)} files {name}.sql: it needs one")
    return found[0]


@cache
def query(name: str) -> LiteralString:
    """Return the statement under `-- name: NAME` in `sql/queries/`, with psycopg's named parameters."""
    return _for_psycopg(_queries()[name])


@cache
def analyst_query(name: str) -> LiteralString:
    """Return `sql/analyst/NAME.sql` without psql's commands, with psycopg's named parameters for its variables."""
    return _for_psycopg(_COMMAND.sub("", source("analyst", name).read_text(encoding="utf-8")))


@cache
def _queries() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted((ROOT / "queries").glob("*.sql")):
        _, *parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise SchemaError(f"sql/queries has two statements named {name}")
            found[name] = text
    return found


def _for_psycopg(text: str) -> LiteralString:
    if _VARIABLE.search(text):  # psycopg interprets percent signs only if it gets parameters
        text = text.replace("%", "%%")
    return cast("LiteralString", _VARIABLE.sub(r"%(\1)s", text))  # type: ignore[redundant-cast]
