"""`lookalike search`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, search_output, session
from app.cli.help import examples
from app.errors import InvalidInputError

if TYPE_CHECKING:
    from app.db import Connection
    from app.search.request import Request
    from app.search.results import SearchResult
    from app.store.spaces import Space
    from app.types import Embedding

EPILOG = examples(
    "lookalike search cat.jpg                     a file: a worker embeds it, one must be alive",
    "lookalike search 42 -k 5                     an image that is stored; ./42 is a file of that name",
    'lookalike search 42 --where \'{"category": "animals", "price": {"$lt": 100}}\'',
    "lookalike search 42 --max-distance 0.7 --json",
    "lookalike search --text 'red teapot'         by caption and attributes",
    "lookalike search cat.jpg --text kitten       by look and words together",
    "lookalike search --like 4 --like 8 --unlike 15",
    "lookalike search 42 --group-by product       the best of each product",
    "lookalike search 42 --after start            the first page, then --after CURSOR",
    "lookalike search 42 --sql | lookalike psql   the same search as SQL",
    after="""
Distance is L2 between unit vectors, 0 to 2; cosine similarity is 1 - distance²/2. Of --text, --diverse, --distinct,
--group-by and --after one can be given; -k, --where and --exclude go with all. With --max-distance stderr, or
"complete" in JSON, says whether these are all within it; --recall below 1 does without that proof and is faster.
--diverse 1 is the plain order, 0 the most diverse. Pages are exact: none repeats or leaves out an image.

Exit codes: 0 also where nothing was found; 1 no such image, no live worker, a bad filter; 2 options that contradict
each other.
""",
)

# How contradictions name what app.search.request calls otherwise.
_NAMES = {"query": "IMAGE|ID", "image_id": "IMAGE|ID", "cursor": "--after"}
# What only a plain search has.
_PLAIN = {
    "--explain": ("text", "diverse", "distinct", "group_by", "cursor"),
}


def search(
    ctx: typer.Context,
    subject: Annotated[
        str | None, typer.Argument(metavar="IMAGE|ID", help="An image file, or the id of a stored image.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="JSON", help="Only images whose attributes and columns fit this filter.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=10_000, help="How many.")] = 10,
    max_distance: Annotated[float | None, typer.Option(min=0, help="Leave out what is farther away.")] = None,
    exclude: Annotated[list[int] | None, typer.Option(metavar="ID", help="Leave out this image; repeatable.")] = None,
    text: Annotated[
        str | None, typer.Option(metavar="WORDS", help="Search captions and attributes; with an image, by both.")
    ] = None,
    like: Annotated[
        list[str] | None, typer.Option(metavar="IMAGE|ID", help="A positive example more; repeatable.")
    ] = None,
    unlike: Annotated[
        list[str] | None, typer.Option(metavar="IMAGE|ID", help="A negative example; repeatable.")
    ] = None,
    diverse: Annotated[
        float | None, typer.Option(metavar="LAMBDA", min=0, max=1, help="Near, yet unlike each other.")
    ] = None,
    distinct: Annotated[
        float | None,
        typer.Option(metavar="THRESHOLD", min=0, max=2, help="No two within this distance; near-duplicates: 0.35."),
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="ATTRIBUTE", help="The best result of each value of an attribute.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Page by page: start, then what the last page said.")
    ] = None,
    recall: Annotated[
        float | None, typer.Option("--recall", help="Share of the true neighbours to find; default 0.99.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="See all that is committed by now, also where a standby answers.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say how it was searched.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL, to paste into psql; do not run it.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, as the API answers.")] = False,
) -> None:
    """Find the images that look most like a file, stored images or examples, or whose words fit; nearest first."""
    from app.db import replicas
    from app.monitoring import recall as live_recall
    from app.search import filters, request
    from app.search.run import run_image_search, run_search
    from app.search.to_sql import statement

    options = {
        "text": _utf8("--text", text),
        "max_distance": max_distance,
        "recall": recall,
        "diverse": diverse,
        "distinct": distinct,
        "group_by": _utf8("--group-by", group_by),
        "cursor": after,
    }
    examples_ = {"image_id": subject, "like": like or None, "unlike": unlike or None}
    given = {name for name, value in (options | examples_).items() if value is not None}
    for beyond in (one for one in exclude or () if not -(2**63) <= one < 2**63):
        ctx.fail(f"--exclude {beyond}: no image has such an id")
    _refuse_contradiction(ctx, given, {"--explain": explain, "--sql": sql, "--json": json})
    filter_ = filters.parse(where) if where is not None else None
    searched, liked, unliked = (
        [_example(one) for one in several]
        for several in ([] if subject is None else [subject], like or [], unlike or [])
    )

    def wanted(space: "Space | None", embeddings: "list[Embedding]") -> "Request":
        made = iter(embeddings)  # in the order of `pictures`
        return request.Request(
            query=next((next(made) for one in searched if isinstance(one, bytes)), None),
            image_id=next(iter(_ids(searched)), None),
            like=_ids(liked),
            unlike=_ids(unliked),
            like_embeddings=[next(made) for one in liked if isinstance(one, bytes)],
            unlike_embeddings=[next(made) for one in unliked if isinstance(one, bytes)],
            k=k,
            filter=filter_,
            exclude=exclude or (),
            explain=explain,
            in_space=space.id if space else None,
            **options,  # type: ignore[arg-type]
        )

    pictures = [one for one in (*searched, *liked, *unliked) if isinstance(one, bytes)]
    timeout = session.settings().query_timeout
    with session.connection() as conn:
        if sql:
            output.out(statement(wanted(None, _embedded(conn, pictures))))
            return

        def answer(asked: "Request") -> "SearchResult":
            return replicas.run_on_standby(
                session.settings(), conn, lambda reader: run_search(reader, asked), fresh=fresh
            )

        if pictures:
            asked, found, _ = run_image_search(conn, pictures, wanted, timeout=timeout, answer=answer)
        else:
            asked = wanted(None, [])
            found = answer(asked)
        if found.space is not None and live_recall.should_sample(asked, share=session.settings().recall_sample):
            live_recall.save_sample(conn, asked, found, source="cli")
    if json:
        output.as_json(search_output.as_json(found, asked))
    else:
        search_output.show(found, asked)


def _option(name: str) -> str:
    return _NAMES.get(name, "--" + name.replace("_", "-"))


def _refuse_contradiction(ctx: typer.Context, given: set[str], flags: dict[str, bool]) -> None:
    from app.search import request

    problem = request.conflicting_options(given, _option)
    clashes = [
        (flag, _option(name)) for flag, names in _PLAIN.items() if flags[flag] for name in names if name in given
    ]
    clashes += [("--sql", other) for other in ("--explain", "--json") if flags["--sql"] and flags[other]]
    if not problem and clashes:
        problem = "{} and {} cannot be combined".format(*clashes[0])
    if problem:
        ctx.fail(problem)


def _utf8(option: str, value: str | None) -> str | None:
    # An argument that is not UTF-8 comes as halves of surrogate pairs.
    if value is not None and not value.isascii() and value.encode(errors="replace").decode() != value:
        raise InvalidInputError(f"{option} is not UTF-8: {value}")
    return value


def _example(name: str) -> int | bytes:
    """The id of a stored image, or the bytes of a file."""
    return int(name) if re.fullmatch(r"[0-9]{1,18}", name) else _read(name)


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


def _ids(given: list[int | bytes]) -> list[int]:
    return [one for one in given if isinstance(one, int)]


def _embedded(conn: "Connection", pictures: list[bytes]) -> "list[Embedding]":
    from app.store import query_images

    return [query_images.embed(conn, one, timeout=session.settings().query_timeout) for one in pictures]
