"""`lookalike tune`: pick the measured index choice that meets a goal, and switch to it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.help import Json, examples

if TYPE_CHECKING:
    from app.db import Connection
    from app.store.spaces import Space
    from app.tuning.goals import Pick
    from app.tuning.records import Run

EPILOG = examples(
    "lookalike tune --recall 0.99                         the fastest choice",
    "lookalike tune --recall 0.99 --bytes-per-image 400   the fastest small one",
    "lookalike tune --p95-ms 5 --qps 300                  the highest recall",
    "lookalike tune --recall 0.99 --apply                 switch to it, check it",
    after="""
tune chooses from the measurements of lookalike tradeoffs, by their confidence bounds: the lower bound of the recall and
the upper bound of the p95. If several choices meet the goal, it takes the best one in what the goal leaves open: recall
first, then p95, then bytes. Exit code 1 if no choice meets the goal, or if the check after --apply fails.
""",
)
_CHECKED = 100


def tune(
    recall: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Minimum share of true neighbours found, such as 0.99.")
    ] = None,
    p95_ms: Annotated[
        float | None, typer.Option("--p95-ms", metavar="MS", help="Maximum p95 latency of a search.")
    ] = None,
    bytes_per_image: Annotated[
        float | None, typer.Option(metavar="BYTES", help="Maximum size of an embedding with its indexes.")
    ] = None,
    qps: Annotated[float | None, typer.Option("--qps", metavar="N", help="Minimum queries per second.")] = None,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Space. Default: the active one.")] = None,
    run: Annotated[
        int | None, typer.Option(metavar="N", help="Trade-off run to choose from. Default: the last one.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Build the choice and switch to it, while searches continue.")
    ] = False,
    json: Json = False,
) -> None:
    """Pick the measured index choice that meets a goal, and show what it costs."""
    from app.errors import NotFoundError
    from app.store import spaces
    from app.tuning import goals, results
    from app.tuning.apply import current_text

    goal = goals.Goal(recall=recall, p95_ms=p95_ms, bytes_per_image=bytes_per_image, qps=qps).checked()
    with session.connection() as conn:
        chosen = spaces.active(conn) if space is None else spaces.get(conn, space)
        by = results.latest(conn, chosen) if run is None else results.of_space(conn, chosen, run)
        if by is None:
            raise NotFoundError(f"space {chosen.name} has no measurements yet; run: lookalike tradeoffs")
        found = goals.pick(results.measurements(conn, by), goal, current=current_text(chosen))
        if not json:
            _print_pick(found)
            _warn_about_growth(conn, by, chosen)
        kept = _apply(conn, chosen, by, found, quiet=json) if apply and found.chosen else None
        if json:
            output.as_json({"run": by.id, "pick": _plain(found), "checked": kept})
    if found.chosen is None or (kept is not None and not kept["kept"]):
        raise typer.Exit(1)


def _print_pick(found: "Pick") -> None:
    if found.chosen is None or found.promise is None:
        nearest = found.nearest
        output.out("no measured choice meets the goal")
        if nearest:
            output.out(f"nearest: {nearest.choice}, which misses:")
            for miss in found.misses:
                output.out(f"  {miss.text}")
        return
    promise = found.promise
    output.out(f"{found.chosen.choice}")
    output.out(
        f"  promises recall@{promise.k} {promise.recall:.4f} or more, p95 {promise.p95_ms:.2f} ms or less, "
        f"{promise.bytes_per_image:,.0f} bytes per image, {promise.qps:,.0f} queries per second"
    )
    for line in found.given_up:
        output.out(f"  gives up: {line}" if not line.startswith("against") else f"  {line}")
    if found.next_best is not None:
        output.out(f"  next best: {found.next_best.choice}: {found.next_costs}")
    else:
        output.out("  no other measured choice meets the goal")


def _warn_about_growth(conn: "Connection", run: "Run", space: "Space") -> None:
    """Print a note if the run covers only a part of the space as it is now."""
    from app.tuning import run as lab

    now = lab.count_rows(conn, space)
    if run.request.sample < 0.9 * now:
        output.note(
            f"measured on a sample of {run.request.sample:,} of {now:,} images: searches of all images are slower and "
            "find less; --apply checks the promise on all"
        )
    elif now > 1.2 * run.rows_total:
        output.note(f"measured with {run.rows_total:,} images; there are {now:,} now: run lookalike tradeoffs again")


def _apply(conn: "Connection", space: "Space", run: "Run", found: "Pick", *, quiet: bool) -> dict[str, object] | None:
    """Switch to the choice. If its space is the active one, check the promise and return the result."""
    from app.cli.commands.index import build_progress
    from app.index.spec import IndexSpec
    from app.store import spaces
    from app.tuning.apply import current_text, switch_and_promise
    from app.tuning.check import check_promise

    if found.chosen is None or found.promise is None:
        return None
    choice = IndexSpec.of(found.chosen.options)
    with build_progress(f"index of {space.name}") as progress:
        switch_and_promise(conn, space, choice, promise={**asdict(found.promise), "run": run.id}, progress=progress)
    now = spaces.get(conn, space.name)
    if not quiet:
        output.out(f"{space.name} now uses {current_text(now)}")
    if not now.active:
        output.note(f"{space.name} is not the active space, so the promise is not checked")
        return None
    checked = check_promise(conn, now, k=found.promise.k, queries=_CHECKED)
    # The check is a sample too, so it fails only beyond a tolerance.
    kept = checked.recall >= found.promise.recall - 0.01 and checked.p95_ms <= found.promise.p95_ms * 1.2
    text = (
        f"promise checked on {checked.queries} stored images: recall {checked.recall:.4f}, "
        f"p95 {checked.p95_ms:.2f} ms: {'kept' if kept else 'NOT kept'}"
    )
    if not quiet:
        output.out(text)
    if not kept:
        output.note("run lookalike tradeoffs with a larger --sample, which comes closer to all images")
    return {**asdict(checked), "kept": kept}


def _plain(found: "Pick") -> dict[str, object]:
    plain = asdict(found)
    for name in ("chosen", "next_best", "nearest"):
        if plain[name] is not None:
            del plain[name]["query_ms"], plain[name]["query_recalls"]
    return plain
