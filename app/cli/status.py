"""`lookalike status`, `failures`, `retry` and `space ls`. Imports `jobs`, `spaces`, `status` and `cli`."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.text import Command, Group, Json, examples
from app.errors import NotFoundError

if TYPE_CHECKING:
    from app.records import SpaceStatus, Status, WorkerStatus

_CAPPED = 100_000  # where the status views stop counting

EPILOG = examples(
    "lookalike status                      spaces, their queues and indexes, workers",
    "lookalike status --json | jq '.spaces[0].queued'",
    after="Counts stop at 100,000 (100,000+), so that it stays cheap.",
)
FAILURES_EPILOG = examples("lookalike failures --limit 20", "lookalike failures --json", "lookalike retry")
RETRY_EPILOG = examples(
    "lookalike retry                       all that failed, in every space",
    "lookalike retry 17 42                 these images",
    "lookalike retry --space NAME          those of one space",
)


def status(
    json: Annotated[bool, typer.Option("--json", help="Print JSON, as GET /v1/status answers.")] = False,
) -> None:
    """Show what is searchable, queued and failed, and who works on it."""
    from app import status as domain

    with session.connection() as conn:
        found = domain.read(conn)
    if json:
        output.as_json(found)
        return
    output.out(f"{output.count(found.images, 'image', capped=_CAPPED)}, schema {found.revision}")
    _print_spaces(found.spaces)
    _print_workers(found.workers)
    _print_advice(found)


def _print_spaces(spaces: "list[SpaceStatus]") -> None:
    if not spaces:
        output.out("no embedding space yet: the first worker makes one (lookalike worker)")
        return
    columns = ["space", "", ">embedded", ">queued", ">oldest", ">failed", ">workers", ">size", "index"]
    output.out("")
    output.table(
        columns,
        [
            (
                one.name,
                "active" if one.active else "",
                *(_number(number) for number in (one.embedded, one.queued)),
                output.age(one.oldest_job_seconds),
                _number(one.failed),
                one.live_workers,
                output.size(one.bytes),
                _index(one),
            )
            for one in spaces
        ],
    )


def _number(number: int) -> str:
    return f"{number:,}{'+' if number >= _CAPPED else ''}"


def _index(space: "SpaceStatus") -> str:
    if space.index_name is None:
        return "none (exact search)"
    return "ready" if space.index_valid else "being built, or left by a failed build"


def _print_workers(workers: "list[WorkerStatus]") -> None:
    if not workers:
        return
    output.out("")
    output.table(
        ["worker", "device", "state", ">embedded", ">failed", ">queries", "last error"],
        [
            (
                one.name,
                one.device,
                one.state if one.alive else "lost",
                f"{one.images_embedded:,}",
                f"{one.images_failed:,}",
                f"{one.queries_answered:,}",
                one.last_error,
            )
            for one in workers
        ],
    )


def _print_advice(found: "Status") -> None:
    if any(space.queued and not space.live_workers for space in found.spaces):
        output.say("images are queued, but no worker is alive: lookalike worker")
    if any(space.failed for space in found.spaces):
        output.say("some images failed, with a reason each: lookalike failures")


def failures(
    limit: Annotated[int, typer.Option(min=1, help="Most that are listed, newest first.")] = 100,
    json: Json = False,
) -> None:
    """List images that could not be embedded, and why."""
    from app import jobs

    with session.connection() as conn:
        found = jobs.failures(conn, limit=limit)
    if json:
        output.as_json(found)
    elif not found:
        output.say("no failures")
    else:
        output.table(
            [">id", "space", "failed at", "step", ">tries", "reason", "uri"],
            [
                (
                    one.image_id,
                    one.space,
                    f"{one.failed_at.astimezone():%Y-%m-%d %H:%M:%S}",
                    one.step,
                    one.attempts,
                    one.reason,
                    one.uri,
                )
                for one in found
            ],
        )


def retry(
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="Images; where none is given, all that failed.")
    ] = None,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Only in this embedding space.")] = None,
) -> None:
    """Put failed images back into the queue."""
    from app import jobs, spaces

    with session.connection() as conn:
        in_space = spaces.get(conn, space) if space else None
        queued = jobs.retry(conn, image_ids=ids or None, space=in_space)
    if ids and not queued:
        raise NotFoundError(f"no failure of {', '.join(map(str, ids))}; lookalike failures lists those there are")
    output.out(f"{output.count(queued, 'job')} queued again")


space_app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Embedding spaces: a model, its preprocessing and its index."
)


@space_app.callback()
def _space() -> None:
    pass


@space_app.command("ls", cls=Command)
def space_ls(json: Json = False) -> None:
    """List the embedding spaces."""
    from app import spaces

    with session.connection() as conn:
        found = spaces.ls(conn)
    if json:
        output.as_json(found)
    elif not found:
        output.say("no embedding space yet: the first worker makes one (lookalike worker)")
    else:
        output.table(
            ["space", "", "model", ">dimensions", "index", "created", "table"],
            [
                (
                    one.name,
                    "active" if one.active else "",
                    one.model,
                    one.dimensions,
                    one.index_options.get("kind"),
                    f"{one.created_at.astimezone():%Y-%m-%d %H:%M}",
                    f"lookalike.{one.table_name}",
                )
                for one in found
            ],
        )
