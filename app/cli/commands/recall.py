"""`lookalike recall`: the measured recall of live searches."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.help import Command, Group, Json, examples

if TYPE_CHECKING:
    from app.monitoring.recall import Recall, RecallEstimate, RecallPoint

_BARS = " ▁▂▃▄▅▆▇█"
_WEEK = 7 * 86_400

app = typer.Typer(
    cls=Group,
    no_args_is_help=False,
    invoke_without_command=True,
    help="Show the recall of live searches. Idle workers check a sample of them by exact search.",
    epilog=examples(
        "lookalike recall            estimates by plan and filter, and the trend",
        "lookalike recall check      check the waiting samples now",
        "lookalike recall adjust 1   reset the search depth",
        after="LOOKALIKE_RECALL_SAMPLE is the share of searches that is sampled, LOOKALIKE_RECALL_BUDGET the share of "
        "time that idle workers spend on checks. LOOKALIKE_RECALL_ADJUST limits how much deeper workers may make "
        "searches whose recall is below its goal.",
    ),
)


@app.callback()
def recall(ctx: typer.Context, json: Json = False) -> None:
    """Show the recall of live searches, with 95 % intervals."""
    from app.monitoring import recall as domain

    if ctx.invoked_subcommand is not None:
        return
    with session.connection() as conn:
        found = domain.read(conn)
    if json:
        output.as_json(found)
        return
    for line in _waiting(found):
        output.note(line)
    if found.estimates:
        output.table(
            ["space", "period", "filter passes", "plan", ">searches", ">recall", ">95 % interval", ">goal", ""],
            [_row(one) for one in found.estimates if _is_whole(one)]
            + [_row(one) for one in found.estimates if one.plan and one.selectivity and one.period_seconds == _WEEK],
        )
    for name, points in (("hours", found.hours), ("days", found.days)):
        if len(points) > 1:
            output.out(f"\nlast {len(points)} {name} with checks  {_curve(points)}")
            low, high = min(points, key=_by_recall), max(points, key=_by_recall)
            output.out(f"lowest {low.recall:.3f} ({low.began_at:%Y-%m-%d %H:%M}), highest {high.recall:.3f}")
    if found.adjustments:
        output.out("")
        output.table(
            ["space", "search depth changed", "by", ">from", ">to", "reason"],
            [
                (
                    one.space,
                    f"{one.adjusted_at.astimezone():%Y-%m-%d %H:%M}",
                    one.adjusted_by,
                    f"{one.from_depth:.2f}",
                    f"{one.to_depth:.2f}",
                    one.reason,
                )
                for one in found.adjustments
            ],
        )


def _waiting(found: "Recall") -> Iterator[str]:
    if not found.estimates:
        yield "no live search has been checked yet: a random sample of API and CLI searches is kept for checking"
    if found.waiting:
        yield f"{found.waiting:,} sampled searches wait for an idle worker, or for: lookalike recall check"
    elif found.waiting is None:
        yield "this is a standby: searches are sampled and checked on the primary only"


def _row(one: "RecallEstimate") -> tuple[object, ...]:
    interval = None if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
    unchecked = f"{one.unchecked:,} could not be checked" if one.unchecked else ""
    return (
        one.space,
        f"last {output.age(one.period_seconds)}",
        one.selectivity or "all",
        one.plan or "all",
        f"{one.searches:,}",
        None if one.recall is None else f"{one.recall:.3f}",
        interval,
        None if one.goal is None else f"{one.goal:.3f}",
        "; ".join(filter(None, ("below its goal" if one.below else "", unchecked))),
    )


def _is_whole(one: "RecallEstimate") -> bool:
    return one.plan is None and one.selectivity is None


def _by_recall(point: "RecallPoint") -> float:
    return point.recall


def _curve(points: "list[RecallPoint]") -> str:
    """Return a bar character per point; its height is the recall between the lowest one and 1."""
    lowest = min(point.recall for point in points)
    spread = max(1 - lowest, 1e-9)
    return "".join(_BARS[1 + round((point.recall - lowest) / spread * 7)] for point in points)


@app.command("check", cls=Command)
def check(
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Maximum total time. Default: until all samples are checked.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Maximum time of one check, in seconds.")] = 30,
) -> None:
    """Check all waiting samples now, without a budget. Use it in cron if workers are never idle."""
    from app.monitoring import recall as domain

    with session.connection() as conn:
        done = domain.check(conn, seconds=seconds, timeout=timeout)
        left = domain.waiting(conn)
        warning = domain.warning(conn)
    output.out(
        f"searches checked: {done.checked:,} in {done.seconds:.1f} s, of these given up: {done.failed}; "
        f"left: {left or 0}"
    )
    if warning:
        output.note(warning)


@app.command("adjust", cls=Command)
def adjust(
    depth: Annotated[float, typer.Argument(min=1, max=100, help="Multiple of the configured search depth; 1 resets.")],
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Space. Default: the active one.")] = None,
) -> None:
    """Change the search depth, as a multiple of the configured one. lookalike.recall_adjustments records it."""
    from app.monitoring import recall as domain
    from app.store import spaces

    with session.connection() as conn:
        chosen = spaces.get(conn, space) if space else spaces.active(conn)
        output.out(domain.adjustment_text(domain.set_depth(conn, chosen, depth)))
