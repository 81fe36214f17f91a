"""`lookalike search`. Imports `filters`, `queries`, `search`, `sql` and `cli`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.text import examples
from app.errors import InvalidInputError

if TYPE_CHECKING:
    from app.db import Connection
    from app.records import Answer, Embedding, Json

EPILOG = examples(
    "lookalike search cat.jpg                     a file: a worker embeds it, one must be alive",
    "lookalike search 42 -k 5                     an image that is stored; ./42 is a file of that name",
    'lookalike search 42 --where \'{"category": "animals", "price": {"$lt": 100}}\'',
    "lookalike search 42 --max-distance 0.7 --json",
    "lookalike search 42 --sql | lookalike psql   the same search as SQL",
    after="""
Distance is L2 between unit vectors, 0 to 2; cosine similarity is 1 - distance²/2. Exit codes: 0 also where nothing
was found; 1 no such image, no live worker, a bad filter.
""",
)


def search(
    subject: Annotated[str, typer.Argument(metavar="IMAGE|ID", help="An image file, or the id of a stored image.")],
    where: Annotated[
        str | None, typer.Option(metavar="JSON", help="Only images whose attributes and columns fit this filter.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=10_000, help="How many.")] = 10,
    max_distance: Annotated[float | None, typer.Option(min=0, help="Leave out what is farther away.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say how it was searched.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL, to paste into psql; do not run it.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, as the API answers.")] = False,
) -> None:
    """Find the images that look most like a file or like a stored image, nearest first."""
    from app import filters
    from app import search as domain

    filter_ = filters.parse(where) if where is not None else None
    image_id = int(subject) if re.fullmatch(r"[0-9]{1,18}", subject) else None
    image = None if image_id is not None else _read(subject)
    with session.connection() as conn:
        query = None if image is None else _embed(conn, image)
        if sql:
            output.out(_statement(conn, image_id, query, k, filter_, max_distance))
            return
        if query is not None:
            answer = domain.search(conn, query, k=k, filter=filter_, max_distance=max_distance, explain=explain)
        else:
            answer = domain.similar(
                conn, int(image_id or 0), k=k, filter=filter_, max_distance=max_distance, explain=explain
            )
    if json:
        output.as_json(_result(answer, explain=explain))
    else:
        _print(answer, explain=explain)


def _read(name: str) -> bytes:
    path = Path(name)
    limit = session.settings().max_image_bytes
    try:
        if path.stat().st_size > limit:
            raise InvalidInputError(
                f"{name} has {path.stat().st_size:,} bytes; the limit is {limit:,} (LOOKALIKE_MAX_IMAGE_BYTES)"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise InvalidInputError(f"{name} is no image file ({reason}), and no id of an image") from error


def _embed(conn: "Connection", image: bytes) -> "Embedding":
    from app import queries

    return queries.embed(conn, image, timeout=session.settings().query_timeout)


def _statement(
    conn: "Connection",
    image_id: int | None,
    query: "Embedding | None",
    k: int,
    filter_: "Json | None",
    max_distance: float | None,
) -> str:
    from psycopg import sql as pgsql
    from psycopg.types.json import Jsonb

    from app import sql

    name = "analyst_similar" if query is None else "analyst_search"
    values: dict[str, object] = {
        "image_id": image_id,
        "query": None if query is None else "[" + ",".join(f"{value:.7g}" for value in query) + "]",
        "k": k,
        "filter": None if filter_ is None else Jsonb(filter_),
        "max_distance": max_distance,
    }
    # The variables of the file are those that psql would fill in by itself: :'name'.
    return re.sub(
        r"(?<!:):'([a-z_]+)'",
        lambda variable: pgsql.Literal(values[variable[1]]).as_string(conn),
        sql.text(f"queries/{name}.sql").strip(),
    )


def _result(answer: "Answer", *, explain: bool) -> dict[str, object]:
    result: dict[str, object] = {
        "space": answer.space,
        "results": [
            {"distance": one.distance, "similarity": 1 - one.distance**2 / 2, "image": one.image}
            for one in answer.neighbors
        ],
    }
    return {**result, "plan": answer.plan} if explain else result


def _print(answer: "Answer", *, explain: bool) -> None:
    output.table(
        [">id", ">distance", "caption", "uri"],
        [
            (one.image.id, f"{one.distance:.4f}", one.image.caption and _short(one.image.caption), one.image.uri)
            for one in answer.neighbors
        ],
    )
    if not answer.neighbors:
        output.say(f"nothing found in space {answer.space}")
    if explain:
        output.out("")
        output.table(["", "plan"], [(name, value) for name, value in answer.plan.items()])


def _short(caption: str, most: int = 40) -> str:
    return caption if len(caption) <= most else caption[: most - 1] + "…"
