"""`python -m migrations.reference --write`: write `docs/sql.md`, the public SQL of schema `lookalike`, from `sql/`.

Public is what has a comment that does not begin with "Internal: ". Without --write it prints the page.
"""

import re
import sys
from pathlib import Path

from app.db import sql
from app.errors import SchemaError
from migrations.sources import header, items

PAGE = Path(__file__).parents[1] / "docs/sql.md"
INTERNAL = "Internal: "

_INTRODUCTION = """\
# SQL reference

The public functions, views and tables of schema `lookalike`. psql shows the same texts: `\\df+ lookalike.search`,
`\\d+ lookalike.gallery`. Objects whose comment begins with "Internal" may change in any release.

Run the examples in `lookalike psql` on the demo gallery. [Filters](filters.md) describes the JSON filter grammar; the
[cookbook](cookbook.md) combines these functions. `python -m migrations.reference --write` generates this page.
"""
_TOPICS = {
    "functions/search": "Find images",
    "functions/duplicates": "Find duplicates",
    "functions/filter": "Filter by SQL",
    "functions/attributes": "Read and index attributes",
    "functions/images": "List images",
    "functions/query_images": "Embed pictures",
    "functions/jobs": "Queue and retry images",
    "functions/spaces": "Manage embedding spaces",
    "functions/index": "Manage indexes",
    "functions/recall": "Measure recall",
    "functions/audit": "Audit answers",
    "functions/workers": "Watch workers",
    "functions/counts": "Count rows",
    "functions/admin": "Set up the database",
    "views": "Views",
    "tables": "Tables",
}
_SIGNATURE = re.compile(
    r"^CREATE OR REPLACE (FUNCTION|PROCEDURE) lookalike\.(.*?)\s+LANGUAGE ", re.MULTILINE | re.DOTALL
)
_SECTION = re.compile(r"^(\w+):$", re.MULTILINE)


def public() -> dict[str, list[Path]]:
    """Return the files of public objects by their folder below `sql/`, in the order of the page.

    Raises:
        SchemaError: a folder of functions has no title on the page.
    """
    folders = {str(folder.relative_to(sql.ROOT)) for folder in (sql.ROOT / "functions").iterdir()}
    if not folders <= set(_TOPICS):
        raise SchemaError(f"sql/{min(folders - set(_TOPICS))} has no title in migrations/reference.py: add one")
    found = {
        topic: [file for file in sorted((sql.ROOT / topic).glob("*.sql")) if _is_public(file)] for topic in _TOPICS
    }
    return {topic: files for topic, files in found.items() if files}


def examples() -> dict[str, str]:
    """Return the example of each public function and view, by name."""
    return {
        file.stem: _example(header(file.read_text(encoding="utf-8")))
        for topic, files in public().items()
        if topic != "tables"
        for file in files
    }


def page() -> str:
    """Return the text of `docs/sql.md`."""
    names = {file.stem for files in public().values() for file in files}
    parts = [_INTRODUCTION]
    for topic, files in public().items():
        parts.append(f"## {_TOPICS[topic]}\n")
        parts.extend(_entry(file, names) for file in files)
    return "\n".join(parts)


def _is_public(file: Path) -> bool:
    return not header(file.read_text(encoding="utf-8")).startswith(INTERNAL)


def _entry(file: Path, names: set[str]) -> str:
    text = file.read_text(encoding="utf-8")
    first, _, rest = header(text).partition("\n")
    parts = [f"### lookalike.{file.stem}\n", _linked(first, names - {file.stem}) + "\n"]
    if signature := _SIGNATURE.search(text):
        call = "CALL " if signature[1] == "PROCEDURE" else ""
        parts.append(f"```text\n{call}{signature[2]}\n```\n")
    parts.extend(_block(block, names - {file.stem}) for block in rest.strip("\n").split("\n\n") if block)
    return "\n".join(parts)


def _block(block: str, names: set[str]) -> str:
    """Return a paragraph or a section of a header as Markdown."""
    title = _SECTION.match(block)
    if title and title[1] == "Example":
        return f"```sql\n{_example(block)}\n```\n"
    if title:
        listed = items(block)
        return f"{title[0]}\n\n" + "".join(f"- `{name}`: {_linked(text, names)}\n" for name, text in listed.items())
    lines = [f"\n```text\n{line.strip()}\n```\n" if line.startswith("    ") else line for line in block.splitlines()]
    return _linked("\n".join(lines), names) + "\n"


def _example(text: str) -> str:
    _, _, lines = text.partition("Example:\n")
    return "\n".join(line.removeprefix("    ") for line in lines.splitlines())


def _linked(text: str, names: set[str]) -> str:
    """Return text whose mentions of public objects are links, safe from Markdown outside of backticks."""
    parts = re.split(r"(```text\n.*?```|`[^`\n]*`)", text, flags=re.DOTALL)
    for n in range(0, len(parts), 2):
        escaped = re.sub(r"(\*|(?<!\w)_)", r"\\\1", parts[n]).replace("<", "&lt;")
        parts[n] = re.sub(
            r"\blookalike\.(\w+)",
            lambda found: f"[{found[0]}](#lookalike{found[1]})" if found[1] in names else found[0],
            escaped,
        )
    return "".join(parts)


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
