"""`lookalike space`: list, create, fill, compare and switch embedding spaces."""

import json as jsons
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import output, progress, session
from app.cli.commands import compare
from app.cli.commands.serve import check_worker_extra
from app.cli.help import Command, Group, Json, examples
from app.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from app.db import Connection
    from app.store.spaces import Space

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Manage embedding spaces. A space is a model with its preprocessing and index; each model has its own space.",
    epilog=examples(
        "lookalike space create lite2 --model tf_efficientnet_lite2",
        "lookalike space create small --from lite2 --transform pca:128",
        "lookalike space backfill lite2         wait until workers have filled it",
        "lookalike space compare lite2 --label category",
        "lookalike space activate lite2         use it for searches from now on",
        "lookalike space rollback               go back to the space before",
        "lookalike space drop tf_efficientnet_lite0",
    ),
)
Name = Annotated[str, typer.Argument(help="Space; lookalike space ls lists them.")]
_POLL_SECONDS = 1.0


@app.command("ls", cls=Command)
def ls(json: Json = False) -> None:
    """List the embedding spaces."""
    from app.index.spec import IndexSpec
    from app.store import spaces

    with session.connection() as conn:
        found = spaces.ls(conn)
    if json:
        output.as_json(found)
    elif not found:
        output.note("no embedding space yet: the first worker creates one (lookalike worker)")
    else:
        output.table(
            ["space", "", "model", ">dimensions", "index", "created", "table"],
            [
                (
                    one.name,
                    "active" if one.active else "",
                    one.model,
                    one.dimensions,
                    str(IndexSpec.of(one.index_options)),
                    f"{one.created_at.astimezone():%Y-%m-%d %H:%M}",
                    f"lookalike.{one.table_name}",
                )
                for one in found
            ],
        )


@app.command("show", cls=Command)
def show(name: Name, json: Json = False) -> None:
    """Show a space: its model, its progress, and which images searches would miss if you activated it."""
    from app.store import spaces

    with session.connection() as conn:
        space = spaces.get(conn, name)
        counts = spaces.counts(conn, space)
        missing = None if space.active else spaces.missing(conn, name)
    if json:
        output.as_json({"space": space, "counts": counts, "lack": missing})
        return
    rows = [
        ("state", "active" if space.active else "not active"),
        ("model", space.model),
        ("weights", space.weights or "from a weight package or timm"),
        ("preprocessing", jsons.dumps(space.preprocessing)),
        ("fingerprint", space.fingerprint),
        ("dimensions", space.dimensions),
        ("index", jsons.dumps(space.index_options)),
        ("table", f"lookalike.{space.table_name}"),
        ("embedded", f"{counts.embedded:,} of {counts.images:,}"),
        ("queued", f"{counts.queued:,}"),
        ("failed", f"{counts.failed:,}"),
        ("workers", counts.live_workers),
    ]
    if missing:
        rows.append(("would be missing", f"{missing.missing:,} ({missing.queued:,} queued, {missing.failed:,} failed)"))
        rows.append(("index missing", "yes" if missing.index_missing else "no"))
    output.table(["", ""], rows)


@app.command("create", cls=Command)
def create(
    name: Annotated[str, typer.Argument(help="Name of the new space: lower-case letters, digits, _ and -.")],
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Name of the timm model.")] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Local weight file, at a path that workers can read too.")
    ] = None,
    preprocessing: Annotated[
        str, typer.Option(metavar="JSON", help="Overrides of timm's data config: '{\"crop_pct\": 1.0}'.")
    ] = "{}",
    m: Annotated[int, typer.Option("--m", min=2, max=100, help="Neighbours per node of the HNSW index.")] = 16,
    ef_construction: Annotated[
        int, typer.Option(min=4, max=1000, help="Build depth of the HNSW index, at least twice m.")
    ] = 64,
    source: Annotated[
        str | None, typer.Option("--from", metavar="SPACE", help="Space whose embeddings --transform reduces.")
    ] = None,
    transform: Annotated[
        str | None, typer.Option(metavar="pca:N", help="Reduction of --from's embeddings to N dimensions.")
    ] = None,
) -> None:
    """Create a space beside the others, and queue all images for it. Needs torch, as a worker does.

    With --from and --transform, the space holds reduced embeddings of another space. Nothing is embedded again, and you
    can drop the other space once this one is active.
    """
    from app.store import spaces

    if source is not None or transform is not None:
        _derive(name, source, transform, model)
        return
    if model is None:
        raise InvalidInputError("give --model, or a space to reduce: --from SPACE --transform pca:128")
    if ef_construction < 2 * m:
        raise InvalidInputError(f"--ef-construction {ef_construction} is less than twice --m {m}")
    with session.connection() as conn:
        if any(space.name == name for space in spaces.ls(conn)):
            raise ConflictError(f"embedding space {name} already exists; choose another name")
        found = _describe(model, weights, preprocessing)
        space = spaces.create(
            conn,
            name=name,
            model=model,
            weights=None if weights is None else str(Path(weights).absolute()),
            dimensions=int(found["dimensions"]),
            preprocessing=found["preprocessing"],
            fingerprint=str(found["fingerprint"]),
            index_options={"m": m, "ef_construction": ef_construction},
        )
        queued = spaces.counts(conn, space).queued
    output.out(f"{name}: {model}, {space.dimensions} dimensions, weights from {found['source']}")
    output.note(f"{output.count(queued, 'image')} queued; lookalike space backfill {name} shows the progress")


def _derive(name: str, source: str | None, transform: str | None, model: str | None) -> None:
    from app.index import reduced_space
    from app.store import spaces

    if source is None or transform is None or model is not None:
        raise InvalidInputError("--from SPACE and --transform pca:N go together, and exclude --model")
    dimensions = reduced_space.dimensions_of(transform)
    with session.connection() as conn:
        space = reduced_space.derive(
            conn, spaces.get(conn, source), name=name, dimensions=dimensions, report=output.note
        )
        counts = spaces.counts(conn, space)
    output.out(f"{name}: {space.model}, {space.dimensions} of {space.encoded_dimensions} dimensions")
    output.note(f"{counts.embedded:,} of {counts.images:,} embedded, {counts.queued:,} queued")


def _describe(model: str, weights: str | None, preprocessing: str) -> dict[str, Any]:
    """Return dimensions, preprocessing and fingerprint of a model, from a subprocess with torch."""
    check_worker_extra()
    try:
        changes = jsons.loads(preprocessing)
    except ValueError as error:
        raise InvalidInputError(f"--preprocessing {preprocessing} is not JSON: {error}") from error
    if not isinstance(changes, dict):
        raise InvalidInputError(f"--preprocessing {preprocessing} is not a JSON object")
    command = [sys.executable, "-m", "workers.describe_model", f"--preprocessing={preprocessing}"]
    command += [f"--weights={weights}"] if weights else []
    done = subprocess.run([*command, "--", model], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigurationError(done.stderr.strip().rpartition("\n")[2] or f"cannot load model {model}")
    found: dict[str, Any] = jsons.loads(done.stdout)
    return found


@app.command("backfill", cls=Command)
def backfill(
    name: Name,
    wait: Annotated[bool, typer.Option(help="Show progress until the queue is empty.")] = True,
) -> None:
    """Queue the images that a space is missing, and show progress. You can interrupt and rerun it at any time."""
    from app.store import spaces

    with session.connection() as conn:
        space = spaces.get(conn, name)
        queued = spaces.backfill(conn, space)
        output.note(f"{output.count(queued, 'missing image')} queued")
        if wait:
            _wait_for(conn, space)
        counts = spaces.counts(conn, space)
    output.out(f"{counts.embedded:,} of {counts.images:,} embedded, {counts.queued:,} queued, {counts.failed:,} failed")


def _wait_for(conn: "Connection", space: "Space") -> None:
    from app.store import spaces

    first = spaces.counts(conn, space)
    with progress.counted(f"filling {space.name}", first.images) as advance_to:
        while True:
            now = spaces.counts(conn, space)
            if not now.queued:
                return
            note = "no worker serves it: lookalike worker" if not now.live_workers else f"{now.failed} failed"
            advance_to(now.embedded + now.failed, note)
            time.sleep(_POLL_SECONDS)


app.command("compare", cls=Command)(compare.compare)


@app.command("activate", cls=Command)
def activate(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Activate even if images or the index are missing.")] = False,
    wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Maximum time to wait for workers and for long transactions."),
    ] = 30,
) -> None:
    """Make a space the active one, in one transaction. Refused if searches would miss images."""
    from app.store import spaces

    with session.connection() as conn:
        before = spaces.active(conn).name
        end = time.monotonic() + wait
        # While images arrive, a few are always queued: wait for a moment when none is missing.
        while not force and before != name and spaces.missing(conn, name).missing and time.monotonic() < end:
            time.sleep(0.2)
        spaces.activate(conn, name, force=force, patience=max(end - time.monotonic(), 1))
    output.out(f"{name} is the active space" if before == name else f"{before} → {name}")


@app.command("rollback", cls=Command)
def rollback() -> None:
    """Activate the space that was active before the last switch."""
    from app.store import spaces

    with session.connection() as conn:
        before = spaces.active(conn).name
        output.out(f"{before} → {spaces.rollback(conn)}")


@app.command("drop", cls=Command)
def drop(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Drop an inactive space with its embeddings and index."""
    from app.store import spaces

    with session.connection() as conn:
        space = spaces.get(conn, name)
        embedded = spaces.counts(conn, space).embedded
        if embedded and not space.active and not yes and not _confirmed(f"drop {embedded:,} embeddings of {name}?"):
            raise NotFoundError(f"{name} was not dropped; --yes drops it without confirmation")
        spaces.drop(conn, name)
    output.out(f"dropped {name} with {output.count(embedded, 'embedding')}")


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and typer.confirm(question, err=True)
