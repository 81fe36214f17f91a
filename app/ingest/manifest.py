"""Read a CSV that lists images with their metadata.

The first line names the columns. `file` (a path, relative to the CSV's folder) or `uri` names the image; with both,
`file` is read and `uri` is registered. `caption` or `title` is the caption. Every other column is an attribute. Its
type is guessed from all its values: numbers if every value is a plain number, true/false likewise, else text. A number
with leading zeros (01234), with an exponent (12e3) or with more digits than a double holds makes a column text; whole
numbers of any length stay numbers. If only some cells of a column are text, a warning names the first of them. Empty
cells and columns without a name are skipped.
"""

import codecs
import csv
import io
import logging
import re
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from app.errors import InvalidInputError
from app.types import Json

log = logging.getLogger(__name__)

# Descriptions may be long; the database has limits of its own.
csv.field_size_limit(sys.maxsize)

_FILE = ("file", "path", "filename")
_URI = ("uri", "url")
_CAPTION = ("caption", "title")

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,999})(\.[0-9]{1,999})?")
_BOOLEANS = {"true": True, "false": False}

# What spreadsheets save as "Unicode text".
_WIDE = (((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-32"), ((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"))

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a manifest; `line` is the number of its first line. `error` is the reason if it cannot be used."""

    line: int
    file: str | None
    uri: str | None
    caption: str | None
    attributes: Json
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Columns:
    file: int | None
    uri: int | None
    caption: int | None
    attributes: dict[int, str]
    count: int


def read(path: Path, *, text: Collection[str] = ()) -> list[Row]:
    """Return the rows of a CSV in UTF-8, or in UTF-16 with a BOM, separated by commas, semicolons or tabs.

    `text` names columns to keep as text. A row that cannot be used is returned with its error.

    Raises:
        InvalidInputError: the whole file cannot be used; the message has the line.
    """
    content = _decode(path)
    lines = csv.reader(io.StringIO(content, newline=""), delimiter=_delimiter(content), strict=True)
    read_to = 0
    header: list[str] | None = None
    rows: list[tuple[int, list[str]]] = []
    try:
        for cells in lines:
            begin, read_to = read_to + 1, lines.line_num
            if header is None:
                header = [cell.strip() for cell in cells]
            elif any(cell.strip() for cell in cells):
                rows.append((begin, cells))
    except csv.Error as error:
        raise InvalidInputError(f"{path} is not a CSV, line {lines.line_num}: {error}") from error
    if not header:
        raise InvalidInputError(f"{path} is empty; its first line must name the columns, such as file,title,category")
    columns = _columns(path, header, text)
    types = {
        at: _as_text
        if name in text
        else _guess(path, name, [(n, cells[at].strip()) for n, cells in rows if at < len(cells)])
        for at, name in columns.attributes.items()
    }
    return [_row(line, cells, columns, types) for line, cells in rows]


def _decode(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    wide = next((name for boms, name in _WIDE if content.startswith(boms)), None)
    try:
        return content.decode(wide or "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise InvalidInputError(f"{path} begins as {wide.upper()}, but is damaged: {error.reason}") from error
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidInputError(
            f"{path} is not UTF-8, line {line}: byte {error.object[error.start]:#04x}; "
            f"convert it: iconv -f WINDOWS-1252 -t UTF-8"
        ) from error


def _delimiter(content: str) -> str:
    """Return the separator of the column names, because names hold no comma, semicolon or tab unless quoted."""
    first = re.sub(r'"[^"]*"', "", content[:100_000].lstrip().split("\n", 1)[0])
    return max(",;\t", key=first.count)


def _columns(path: Path, header: list[str], text: Collection[str]) -> _Columns:
    names = [name for name in header if name]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InvalidInputError(f'{path}, line 1: the column "{min(twice)}" appears twice')
    unknown = set(text) - set(names)
    if unknown:
        raise InvalidInputError(f'{path} has no column "{min(unknown)}" to keep as text; it has: {", ".join(names)}')
    lower = {name.lower(): at for at, name in reversed(list(enumerate(header)))}
    special = [next((lower[name] for name in known if name in lower), None) for known in (_FILE, _URI, _CAPTION)]
    file, uri, caption = special
    if file is None and uri is None:
        raise InvalidInputError(
            f'{path}, line 1: no column "file" or "uri" names the image of a row; the columns are: {", ".join(names)}'
        )
    attributes = {at: name for at, name in enumerate(header) if name and at not in special}
    return _Columns(file, uri, caption, attributes, len(header))


def _row(line: int, cells: list[str], columns: _Columns, types: dict[int, Callable[[str], Value]]) -> Row:
    def cell(at: int | None) -> str | None:
        return cells[at].strip() or None if at is not None and at < len(cells) else None

    file, uri = cell(columns.file), cell(columns.uri)
    error = None
    if len(cells) > columns.count:
        error = f"{len(cells)} cells under {columns.count} column names; is one with a separator not quoted?"
    elif file is None and uri is None:
        error = "it names no file and no uri"
    elif any("\0" in one for one in cells):
        error = "it holds a NUL character, which PostgreSQL cannot store"
    attributes = {name: types[at](value) for at, name in columns.attributes.items() if (value := cell(at)) is not None}
    return Row(line, file, uri, cell(columns.caption), attributes, error)


def _as_text(value: str) -> str:
    return value


def _number(value: str) -> int | float:
    return float(value) if "." in value else int(value)


def _boolean(value: str) -> bool:
    return _BOOLEANS[value.lower()]


def _kind(value: str) -> Callable[[str], Value]:
    if value.lower() in _BOOLEANS:
        return _boolean
    if _NUMBER.fullmatch(value) and Decimal(repr(_number(value))) == Decimal(value):
        return _number
    return _as_text


def _guess(path: Path, name: str, cells: Sequence[tuple[int, str]]) -> Callable[[str], Value]:
    """Return the type of a column, given by line and text of its cells."""
    kinds = {line: _kind(value) for line, value in cells if value}
    found = set(kinds.values())
    if len(found) <= 1:
        return found.pop() if found else _as_text
    if _as_text in found:
        line, value = next((line, value) for line, value in cells if kinds.get(line) is _as_text)
        log.warning("%s: column %s is text, because line %d has %r", path, name, line, value[:60])
    else:
        log.warning("%s: column %s is text, because it mixes numbers and true/false", path, name)
    return _as_text
