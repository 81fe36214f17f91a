"""`lookalike search`."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, search_output, session
from app.cli.help import examples
from app.errors import InvalidInputError
from app.search.modes import MODES

if TYPE_CHECKING:
    from app.db import Connection
    from app.search.request import Request
    from app.search.results import SearchResult
    from app.store.spaces import Space
    from app.types import Embedding

EPILOG = examples(
    "lookalike search cat.jpg                     a file; a live worker embeds it",
    "lookalike search 42 -k 5                     a stored image; ./42 is a file of that name",
    'lookalike search 42 --where \'{"category": "animals", "price": {"$lt": 100}}\'',
    "lookalike search 42 --max-distance 0.7 --json",
    "lookalike search --text 'red teapot'         by caption and attributes",
    "lookalike search cat.jpg --text kitten       by look and words together",
    "lookalike search --like 4 --like 8 --unlike 15",
    "lookalike search 42 --group-by product       the best of each product",
    "lookalike search 42 --after start            the first page, then --after CURSOR",
    "lookalike search 42 --sql | lookalike psql   the same search as SQL",
    after=f"""
Distance is L2 between unit vectors, 0 to 2; cosine similarity is 1 - distance²/2. A search takes at most one of
{", ".join(mode.flag for mode in MODES.values())}; -k, --where and --exclude go with all. With --max-distance, stderr
(or "complete" in JSON) says whether these are all within it; --recall below 1 skips that proof and is faster. Pages
are exact: none repeats or leaves out an image.

Exit codes: 0 even if nothing was found; 1 no such image, no live worker, a bad filter; 2 options that contradict each
other.
""",
)

# Names of options in error messages, if they differ from those of app.search.request.
_NAMES = {"query": "IMAGE|ID", "image_id": "IMAGE|ID", **{name: mode.flag for name, mode in MODES.items()}}


def _with_modes(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, which takes them as `**modes`, one option a mode."""
    own = inspect.signature(command)
    fixed = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
    modes = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                mode.kind | None,
                typer.Option(
                    mode.flag,
                    metavar=mode.metavar,
                    help=mode.help,
                    min=mode.bounds.get("ge"),
                    max=mode.bounds.get("le"),
                ),
            ],
        )
        for name, mode in MODES.items()
    ]
    command.__signature__ = own.replace(parameters=[*fixed, *modes])  # type: ignore[attr-defined]
    command.__annotations__ |= {one.name: one.annotation for one in modes}
    return command


@_with_modes
def search(
    ctx: typer.Context,
    subject: Annotated[
        str | None, typer.Argument(metavar="IMAGE|ID", help="An image file, or the id of a stored image.")
    ] = None,
    where: Annotated[str | None, typer.Option(metavar="JSON", help="Filter on attributes and columns.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=10_000, help="Number of results.")] = 10,
    max_distance: Annotated[float | None, typer.Option(min=0, help="Greatest distance.")] = None,
    exclude: Annotated[list[int] | None, typer.Option(metavar="ID", help="Image to leave out (repeatable).")] = None,
    like: Annotated[
        list[str] | None, typer.Option(metavar="IMAGE|ID", help="Additional positive example (repeatable).")
    ] = None,
    unlike: Annotated[list[str] | None, typer.Option(metavar="IMAGE|ID", help="Negative example (repeatable).")] = None,
    recall: Annotated[
        float | None, typer.Option("--recall", help="Share of the true neighbours to find. Default: 0.99.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Read what is committed by now, even from a standby.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print the plan of the search.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL for psql instead of running it.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON in the form of the API.")] = False,
    **modes: str | float | None,
) -> None:
    """Find the images nearest to a file, a stored image or examples, or those whose words match."""
    from app.db import replicas
    from app.monitoring import recall as live_recall
    from app.search import filters, request
    from app.search.run import run_image_search, run_search
    from app.search.to_sql import statement

    modes = {name: _utf8(MODES[name].flag, value) for name, value in modes.items()}
    mode, value = request.chosen_mode(modes)
    options = {**modes, "image_id": subject, "like": like or None, "unlike": unlike or None}
    options |= {"max_distance": max_distance, "recall": recall}
    given = {name for name, one in options.items() if one is not None}
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
            mode=mode,
            value=value,
            max_distance=max_distance,
            recall=recall,
            explain=explain,
            in_space=space.id if space else None,
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
    if not problem and flags["--explain"] and (mode := next((name for name in MODES if name in given), None)):
        problem = f"--explain and {_option(mode)} cannot be combined"
    for other in ("--explain", "--json"):
        if not problem and flags["--sql"] and flags[other]:
            problem = f"--sql and {other} cannot be combined"
    if problem:
        ctx.fail(problem)


def _utf8(option: str, value: str | float | None) -> str | float | None:
    # An argument that is not UTF-8 comes as halves of surrogate pairs.
    if isinstance(value, str) and not value.isascii() and value.encode(errors="replace").decode() != value:
        raise InvalidInputError(f"{option} is not UTF-8: {value}")
    return value


def _example(name: str) -> int | bytes:
    """Return the id of a stored image, or the bytes of a file."""
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
        raise InvalidInputError(f"{name} is not an image file ({reason}) and not the id of an image") from error


def _ids(given: list[int | bytes]) -> list[int]:
    return [one for one in given if isinstance(one, int)]


def _embedded(conn: "Connection", pictures: list[bytes]) -> "list[Embedding]":
    from app.store import query_images

    return [query_images.embed(conn, one, timeout=session.settings().query_timeout) for one in pictures]
