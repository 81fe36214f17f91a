"""`lookalike tune`: the measured choice that meets a goal, and the switch to it."""

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
    "lookalike tune --recall 0.99                        the quickest that has it",
    "lookalike tune --recall 0.99 --bytes-per-image 400  the quickest of those that are small enough",
    "lookalike tune --p95-ms 5 --qps 300                 the highest recall at that speed",
    "lookalike tune --recall 0.99 --apply                build it beside the old, switch, check the promise",
    after="""
Chosen is among what lookalike tradeoffs has measured, by what that proves: the floor of the recall and the ceiling of
the p95. What the goal leaves open is made as good as it can be: recall first, then p95, then bytes. Exit code 1 where
no choice meets the goal, or where a promise was checked and not kept.
""",
)
_CHECKED = 100


def tune(
    recall: Annotated[float | None, typer.Option(metavar="SHARE", help="Of true neighbours, at least: 0.99.")] = None,
    p95_ms: Annotated[float | None, typer.Option("--p95-ms", metavar="MS", help="p95 of a search, at most.")] = None,
    bytes_per_image: Annotated[
        float | None, typer.Option(metavar="BYTES", help="Embedding and indexes of an image, at most.")
    ] = None,
    qps: Annotated[float | None, typer.Option("--qps", metavar="N", help="Queries a second, at least.")] = None,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Left out, the active space.")] = None,
    run: Annotated[int | None, typer.Option(metavar="N", help="Measurements to go by. Left out: the last.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Build the choice and switch to it, while searches go on.")
    ] = False,
    json: Json = False,
) -> None:
    """Pick the measured index choice that meets a goal, and say what it costs."""
    from app.errors import NotFoundError
    from app.store import spaces
    from app.tuning import goals, results
    from app.tuning.apply import current_text

    goal = goals.Goal(recall=recall, p95_ms=p95_ms, bytes_per_image=bytes_per_image, qps=qps).checked()
    with session.connection() as conn:
        chosen = spaces.active(conn) if space is None else spaces.get(conn, space)
        by = results.latest(conn, chosen) if run is None else results.of_space(conn, chosen, run)
        if by is None:
            raise NotFoundError(f"nothing was measured in space {chosen.name} yet; lookalike tradeoffs does")
        found = goals.pick(results.measurements(conn, by), goal, current=current_text(chosen))
        if not json:
            _tell(found)
            _tell_age(conn, by, chosen)
        kept = _apply(conn, chosen, by, found, quiet=json) if apply and found.chosen else None
        if json:
            output.as_json({"run": by.id, "pick": _plain(found), "checked": kept})
    if found.chosen is None or (kept is not None and not kept["kept"]):
        raise typer.Exit(1)


def _tell(found: "Pick") -> None:
    if found.chosen is None or found.promise is None:
        nearest = found.nearest
        output.out("no measured choice meets the goal")
        if nearest:
            output.out(f"nearest: {nearest.choice}; in its way:")
            for miss in found.misses:
                output.out(f"  {miss.text}")
        return
    promise = found.promise
    output.out(f"{found.chosen.choice}")
    output.out(
        f"  promises recall@{promise.k} {promise.recall:.4f} or more, p95 {promise.p95_ms:.2f} ms or less, "
        f"{promise.bytes_per_image:,.0f} bytes an image, {promise.qps:,.0f} queries a second"
    )
    for line in found.given_up:
        output.out(f"  gives up: {line}" if not line.startswith("against") else f"  {line}")
    if found.next_best is not None:
        output.out(f"  next best: {found.next_best.choice}: {found.next_costs}")
    else:
        output.out("  no other measured choice meets the goal")


def _tell_age(conn: "Connection", run: "Run", space: "Space") -> None:
    """Say what the numbers stand on, where that is less than the whole space of today."""
    from app.tuning import run as lab

    now = lab.rows_of(conn, space)
    if run.request.sample < 0.9 * now:
        output.say(
            f"measured on a sample of {run.request.sample:,} of {now:,} images: of all, searches take longer and find "
            "less; --apply checks the promise on all"
        )
    elif now > 1.2 * run.rows_total:
        output.say(f"measured with {run.rows_total:,} images; there are {now:,} now: lookalike tradeoffs measures anew")


def _apply(conn: "Connection", space: "Space", run: "Run", found: "Pick", *, quiet: bool) -> dict[str, object] | None:
    """Switch to the choice; where its space is the active one, measure whether the promise is kept."""
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
        output.out(f"{space.name} is searched by {current_text(now)}")
    if not now.active:
        output.say(f"{space.name} is not the active space: nothing searches it now, and the promise is not checked")
        return None
    checked = check_promise(conn, now, k=found.promise.k, queries=_CHECKED)
    # What the promise bounds from below, the check must not prove to be less; and so with the p95.
    kept = checked.recall >= found.promise.recall - 0.01 and checked.p95_ms <= found.promise.p95_ms * 1.2
    text = (
        f"promise checked on {checked.queries} stored images: recall {checked.recall:.4f}, "
        f"p95 {checked.p95_ms:.2f} ms: {'kept' if kept else 'NOT kept'}"
    )
    if not quiet:
        output.out(text)
    if not kept:
        output.say("lookalike tradeoffs with a larger --sample measures nearer to what is there now")
    return {**asdict(checked), "kept": kept}


def _plain(found: "Pick") -> dict[str, object]:
    plain = asdict(found)
    for name in ("chosen", "next_best", "nearest"):
        if plain[name] is not None:
            del plain[name]["query_ms"], plain[name]["query_recalls"]
    return plain
