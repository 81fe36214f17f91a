"""`lookalike index`: list, choose, watch, rebuild and cancel ANN indexes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, progress, session
from app.cli.help import Command, Group, Json, examples

if TYPE_CHECKING:
    from app.db import Connection
    from app.index.build import Index
    from app.index.resources import Needs
    from app.index.running import Build, Progress
    from app.store.spaces import Space

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Manage ANN indexes. Workers build the first one; searches use the old index while a new one is built.",
    epilog=examples(
        "lookalike index ls",
        "lookalike index choose 'bits(512)+rerank(100)'   a fifteenth of the bytes",
        "lookalike index choose lite2 'hnsw(m=24,ef_construction=128)'",
        "lookalike index status                           progress of running builds",
        "lookalike index rebuild --memory 4GB             index of the active space",
        "lookalike index rebuild lite2 --m 24 --ef-construction 128",
        "lookalike index cancel                           stop a build from any session",
    ),
)
Name = Annotated[str | None, typer.Argument(metavar="SPACE", help="Space. Default: the active one.")]
Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="maintenance_work_mem of the build, such as 4GB. Default: the server's."),
]
Workers = Annotated[
    int | None, typer.Option(min=0, max=64, help="Parallel workers of the build. Default: the server's setting.")
]
Force = Annotated[bool, typer.Option("--force", help="Build even if the disk seems too small.")]


@app.command("ls", cls=Command)
def ls(json: Json = False) -> None:
    """List the ANN indexes of all spaces, valid or not."""
    from app.index.build import list_indexes

    with session.connection() as conn:
        found = list_indexes(conn)
    if json:
        output.as_json(found)
    elif not found:
        output.note("no index yet: searches are exact; a worker builds the first one, or lookalike index rebuild does")
    else:
        output.table(
            ["space", "", "index", "state", ">m", ">ef_construction", ">lists", ">size", ">scans"],
            [
                (
                    one.space,
                    "active" if one.active else "",
                    one.name,
                    _state(one),
                    one.m,
                    one.ef_construction,
                    one.lists,
                    output.size(one.bytes),
                    f"{one.scans:,}",
                )
                for one in found
            ],
        )


@app.command("choices", cls=Command)
def show(json: Json = False) -> None:
    """Show the chosen index of each space, its transform and its size."""
    from app.index.switch import index_state
    from app.store import spaces

    with session.connection() as conn:
        found = [index_state(conn, space) for space in spaces.ls(conn)]
    if json:
        output.as_json(found)
        return
    output.table(
        ["space", "", "choice", ">transform", ">variance kept", "fitted", ">index", ">candidates"],
        [
            (
                one.space,
                "active" if one.active else "",
                one.choice,
                one.transform,
                None if one.explained_variance is None else f"{one.explained_variance:.1%}",
                None if one.fitted_at is None else f"{one.fitted_at.astimezone():%Y-%m-%d %H:%M}",
                output.size(one.index_bytes) if one.index else "none yet",
                output.size(one.candidates_bytes) if one.candidates_bytes else None,
            )
            for one in found
        ],
    )


@app.command("choose", cls=Command)
def choose(
    first: Annotated[
        str, typer.Argument(metavar="[SPACE] CHOICE", help="hnsw, ivfflat, exact, bits(512)+rerank(100) …")
    ],
    second: Annotated[str | None, typer.Argument(hidden=True)] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Fit the transform again, on the current embeddings.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the sample and the rotation.")] = 0,
    memory: Memory = None,
    workers: Workers = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Switch a space to another kind of index, without a failed search. Default: the active space.

    Choices: exact; hnsw(m=16,ef_construction=64); ivfflat(lists=141,probes=12); or compressed candidates that full
    embeddings rerank: pca(128)+rerank(50), bits(512,m=8)+rerank(100), bits(512,lists=141)+rerank(100).

    Options that you leave out follow from the k and recall of each search. If interrupted, run it again to resume.
    """
    from app.index.resources import Resources, parse_memory
    from app.index.spec import parse_spec
    from app.index.switch import switch_index

    choice = parse_spec(first if second is None else second)
    resources = Resources(memory=None if memory is None else parse_memory(memory), workers=workers)
    with session.connection() as conn:
        space = _space(conn, None if second is None else first)
        with build_progress(f"index of {space.name}") as show_build:
            done = switch_index(
                conn,
                space,
                choice,
                report=output.note,
                progress=show_build,
                resources=resources,
                seed=seed,
                refit=refit,
                force=force,
            )
    if json:
        output.as_json(done)
        return
    size = f", index {output.size(done.state.index_bytes)}" if done.state.index else ""
    candidates = f", candidates {output.size(done.state.candidates_bytes)}" if done.state.candidates_bytes else ""
    output.out(f"{space.name}: {done.state.choice}{size}{candidates}")


@app.command("status", cls=Command)
def status(json: Json = False) -> None:
    """Show running builds, and leftovers of interrupted ones."""
    from app.index.build import list_indexes
    from app.index.running import running_builds

    with session.connection() as conn:
        builds = running_builds(conn)
        found = list_indexes(conn)
    left = [one for one in found if not (one.valid or one.building) and one.space not in {at.space for at in builds}]
    if json:
        output.as_json({"builds": builds, "leftovers": left})
        return
    if builds:
        output.table(
            ["space", "phase", ">done", ">for", ">left", "by", "waits for"],
            [
                (
                    one.space,
                    one.phase,
                    f"{one.done:.0%}" if one.creating else None,
                    output.age(one.seconds),
                    output.age(one.seconds_left),
                    f"{one.application} (pid {one.pid})",
                    one.waits_for,
                )
                for one in builds
            ],
        )
    else:
        output.out("no index is being built")
    for one in left:
        output.note(
            f"{one.name} is not valid: its build was interrupted; a worker or lookalike index rebuild repairs it"
        )


@app.command("rebuild", cls=Command)
def rebuild(
    name: Name = None,
    m: Annotated[
        int | None, typer.Option("--m", min=2, max=100, help="Neighbours per node. Default: unchanged.")
    ] = None,
    ef_construction: Annotated[
        int | None, typer.Option(min=4, max=1000, help="Build depth, at least twice m. Default: unchanged.")
    ] = None,
    memory: Memory = None,
    workers: Workers = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Build a new index. Searches use the old one until the new one is valid.

    Ctrl-C stops the build. If only the terminal is lost, the build continues in the server; run the command again to
    finish it.
    """
    from app.index.build import rebuild_index
    from app.index.resources import Resources, estimate_build, parse_memory
    from app.index.target import with_options

    resources = Resources(memory=None if memory is None else parse_memory(memory), workers=workers)
    with session.connection() as conn:
        space = _space(conn, name)
        wanted = with_options(space, m, ef_construction)
        needs = estimate_build(conn, wanted, resources=resources)
        output.note(_needs_text(needs))
        with build_progress(f"index of {space.name}") as show_build:
            done = rebuild_index(
                conn,
                space,
                m=m,
                ef_construction=ef_construction,
                resources=resources,
                progress=show_build,
                force=force,
            )
    if json:
        output.as_json({"rebuilt": done, "needs": needs})
        return
    index = done.index
    verb = "already built, now in use" if done.resumed else f"built in {output.age(done.seconds)}"
    before = f" ({output.size(done.bytes_before)} before)" if done.bytes_before else ""
    options = f"{index.lists} lists" if index.m is None else f"m {index.m}, ef_construction {index.ef_construction}"
    output.out(f"{index.name}: {options}, {verb}, {output.size(index.bytes)}{before}")


@app.command("cancel", cls=Command)
def cancel(
    name: Name = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Maximum time to wait for the build to end.")
    ] = 60,
) -> None:
    """Stop a build that runs in another session, and drop the unfinished index."""
    from app.index.build import cancel_build, list_indexes

    with session.connection() as conn:
        space = _space(conn, name)
        stopped = cancel_build(conn, space, patience=wait)
        first = not any(one.valid for one in list_indexes(conn, space))
    output.out(f"{stopped.application} (pid {stopped.pid}) stopped building the index of {space.name}")
    if first:
        output.note("the space has no index: a worker that serves it starts a new build within minutes")


def _space(conn: "Connection", name: str | None) -> "Space":
    from app.store import spaces

    return spaces.active(conn) if name is None else spaces.get(conn, name)


def _state(index: "Index") -> str:
    return "valid" if index.valid else "being built" if index.building else "left by an interrupted build"


def _needs_text(needs: "Needs") -> str:
    from app.index.resources import shown

    free = "free space unknown" if needs.disk_free is None else f"{shown(needs.disk_free)} free"
    return (
        f"about {output.count(needs.rows, 'row')}: needs {shown(needs.disk)} of disk with the WAL ({free}) and "
        f"{shown(needs.graph)} of memory for the graph (maintenance_work_mem {shown(needs.memory)}), "
        f"uses up to {output.count(needs.workers, 'parallel worker')}"
    )


@contextmanager
def build_progress(description: str) -> Iterator["Progress"]:
    """Yield a callback that shows a build's phase, share done and time left on stderr."""
    with progress.share(description) as show:
        yield lambda now: show(now.done, ", ".join(filter(None, (now.phase, _note(now)))))


def _note(now: "Build") -> str:
    if now.waits_for:
        return f"waits for {now.waits_for}"
    return "" if now.seconds_left is None else f"{output.age(now.seconds_left)} left"
