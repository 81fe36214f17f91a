"""`lookalike index`: the ANN indexes, chosen, watched, rebuilt and cancelled."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, progress, session
from app.cli.help import Command, Group, Json, examples

if TYPE_CHECKING:
    from app.db import Connection
    from app.index.build import Build, Index, Progress
    from app.index.resources import Needs
    from app.store.spaces import Space

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="The ANN indexes that searches use. Workers build the first; here they are chosen, watched, rebuilt and "
    "cancelled.",
    epilog=examples(
        "lookalike index ls",
        "lookalike index choose 'bits(512)+rerank(100)'     a fifteenth of the bytes; the old index serves meanwhile",
        "lookalike index choose lite2 'hnsw(m=24,ef_construction=128)'",
        "lookalike index status                      builds that go on: phase, time left, what they wait for",
        "lookalike index rebuild --memory 4GB        the active space's; the old one serves until the new one is valid",
        "lookalike index rebuild lite2 --m 24 --ef-construction 128",
        "lookalike index cancel                      from any session; nothing is left of the build",
    ),
)
Name = Annotated[str | None, typer.Argument(metavar="[SPACE]", help="The space; left out, the active one.")]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="maintenance_work_mem of the build: 4GB. Else the server's.")
]
Workers = Annotated[
    int | None, typer.Option(min=0, max=64, help="Parallel workers of the build. Else the server's number.")
]
Force = Annotated[bool, typer.Option("--force", help="Although the disk seems too small.")]


@app.command("ls", cls=Command)
def ls(json: Json = False) -> None:
    """List the ANN indexes of all spaces, finished or not."""
    from app.index.build import list_indexes

    with session.connection() as conn:
        found = list_indexes(conn)
    if json:
        output.as_json(found)
    elif not found:
        output.say("no index yet: searches are exact; a worker builds the first, or lookalike index rebuild")
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
    """Show what each space is searched by: the choice, the transform it was fitted with, bytes."""
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
    refit: Annotated[bool, typer.Option("--refit", help="Fit the transform anew, on embeddings of today.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample and the rotation.")] = 0,
    memory: Memory = None,
    workers: Workers = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Give a space (the active one, if none is named) another kind of index, with no failed search in between.

    exact; hnsw(m=16,ef_construction=64); ivfflat(lists=141,probes=12); or candidates that the embeddings rank again:
    pca(128)+rerank(50), bits(512,m=8)+rerank(100), bits(512,lists=141)+rerank(100), bits(512)+pca(128)+rerank(50).
    What a choice leaves open follows from k and recall of each search. Cut off, it is run again and goes on.
    """
    from app.index.resources import Resources, parse_memory
    from app.index.spec import parse_spec
    from app.index.switch import switch_index

    choice = parse_spec(first if second is None else second)
    resources = Resources(memory=None if memory is None else parse_memory(memory), workers=workers)
    with session.connection() as conn:
        space = _space(conn, None if second is None else first)
        with build_progress(f"index of {space.name}") as tell:
            done = switch_index(
                conn,
                space,
                choice,
                report=output.say,
                progress=tell,
                resources=resources,
                seed=seed,
                refit=refit,
                force=force,
            )
    if json:
        output.as_json(done)
        return
    size = f", index {output.size(done.state.index_bytes)}" if done.state.index else ""
    beside = f", candidates {output.size(done.state.candidates_bytes)}" if done.state.candidates_bytes else ""
    output.out(f"{space.name}: {done.state.choice}{size}{beside}")


@app.command("status", cls=Command)
def status(json: Json = False) -> None:
    """Show the builds that go on, and what builds that were cut off have left."""
    from app.index.build import list_indexes, running_builds

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
        output.say(f"{one.name} is not valid: a build was cut off. A worker, or lookalike index rebuild, clears it up")


@app.command("rebuild", cls=Command)
def rebuild(
    name: Name = None,
    m: Annotated[
        int | None, typer.Option("--m", min=2, max=100, help="Neighbours a node; left out, as before.")
    ] = None,
    ef_construction: Annotated[
        int | None, typer.Option(min=4, max=1000, help="At least twice m; left out, as before.")
    ] = None,
    memory: Memory = None,
    workers: Workers = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Build a new index beside the old one, which serves until the new one is valid.

    Ctrl-C stops the build. One whose terminal is lost goes on in the server; rebuild again finishes it.
    """
    from app.index.build import rebuild_index
    from app.index.resources import Resources, estimate_build, parse_memory
    from app.index.target import with_options

    resources = Resources(memory=None if memory is None else parse_memory(memory), workers=workers)
    with session.connection() as conn:
        space = _space(conn, name)
        wanted = with_options(space, m, ef_construction)
        needs = estimate_build(
            conn,
            space,
            m=wanted.choice.m,
            lists=wanted.choice.lists or 1,
            dimensions=wanted.halfvec_dimensions,
            resources=resources,
        )
        output.say(_told(needs))
        with build_progress(f"index of {space.name}") as tell:
            done = rebuild_index(
                conn,
                space,
                m=m,
                ef_construction=ef_construction,
                resources=resources,
                progress=tell,
                force=force,
            )
    if json:
        output.as_json({"rebuilt": done, "needs": needs})
        return
    index = done.index
    verb = "was ready, and is in its place" if done.resumed else f"built in {output.age(done.seconds)}"
    before = f", before {output.size(done.bytes_before)}" if done.bytes_before else ""
    options = f"{index.lists} lists" if index.m is None else f"m {index.m}, ef_construction {index.ef_construction}"
    output.out(f"{index.name}: {options}, {verb}, {output.size(index.bytes)}{before}")


@app.command("cancel", cls=Command)
def cancel(
    name: Name = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="For the build to end.")] = 60,
) -> None:
    """Stop a build that goes on in another session; what it made so far is dropped."""
    from app.index.build import cancel_build, list_indexes

    with session.connection() as conn:
        space = _space(conn, name)
        stopped = cancel_build(conn, space, patience=wait)
        first = not any(one.valid for one in list_indexes(conn, space))
    output.out(f"{stopped.application} (pid {stopped.pid}) stopped building the index of {space.name}")
    if first:
        output.say("the space has no index: a worker that serves it begins anew within minutes")


def _space(conn: "Connection", name: str | None) -> "Space":
    from app.store import spaces

    return spaces.active(conn) if name is None else spaces.get(conn, name)


def _state(index: "Index") -> str:
    return "valid" if index.valid else "being built" if index.building else "left by a build that was cut off"


def _told(needs: "Needs") -> str:
    from app.index.resources import shown

    free = "an unknown amount is" if needs.disk_free is None else f"{shown(needs.disk_free)} are"
    return (
        f"about {output.count(needs.rows, 'row')}: disk {shown(needs.disk)} with the WAL ({free} free), memory "
        f"{shown(needs.graph)} for the graph (maintenance_work_mem {shown(needs.memory)}), "
        f"{output.count(needs.workers, 'parallel worker')} at most"
    )


@contextmanager
def build_progress(description: str) -> Iterator["Progress"]:
    """Yield what shows a build's phase, share done and time left, on stderr."""
    with progress.share(description) as show:
        yield lambda now: show(now.done, ", ".join(filter(None, (now.phase, _note(now)))))


def _note(now: "Build") -> str:
    if now.waits_for:
        return f"waits for {now.waits_for}"
    return "" if now.seconds_left is None else f"{output.age(now.seconds_left)} left"
