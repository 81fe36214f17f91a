"""Reads `sql/`, the only source of the project's SQL."""

import re
from functools import cache
from pathlib import Path
from typing import LiteralString, cast

ROOT = Path(__file__).parents[2] / "sql"

# psql writes a variable as :'name', quoted by itself; psycopg wants %(name)s.
_VARIABLE = re.compile(r"(?<!:):'([a-z_]+)'")


def text(path: str) -> str:
    """Return the text of one file, named below `sql/`: `functions/search.sql`."""
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def query(name: str, folder: str = "queries") -> LiteralString:
    """Return `sql/FOLDER/NAME.sql` for psycopg; its parameters, `:'name'` in the file, are passed by name."""
    raw = text(f"{folder}/{name}.sql")
    if _VARIABLE.search(raw):  # psycopg reads percent signs only where parameters are passed
        raw = raw.replace("%", "%%")
    return cast("LiteralString", _VARIABLE.sub(r"%(\1)s", raw))  # type: ignore[redundant-cast]
