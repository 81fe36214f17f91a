"""The table of bench.freshness, made from its raw results."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MARKERS = ("<!-- freshness: begin -->", "<!-- freshness: end -->")


def p50(seconds: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(seconds)


def p95(seconds: Sequence[float]) -> float:
    """Return the 95 % quantile by nearest rank."""
    ranked = sorted(seconds)
    return ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]


def lines(result: dict[str, Any]) -> list[str]:
    """Return the lines of the README's table."""
    seconds, counted = result["idle"]["seconds"], result["idle"]["counted"]
    parts = {name: [one for one in result["backlog"] if one["queries"] == name] for name in ("none", "some", "flood")}
    batches = [one["counted"]["encode"] for one in parts["none"] if "encode" in one["counted"]]
    batch = _mean([one["mean"] for one in batches])
    some = [taken for one in parts["some"] for taken in one["asked"]]
    flood = [taken for one in parts["flood"] for taken in one["asked"]]
    fresh_goal = 2 * p50(seconds["model"]) + 0.02
    query_goal = batch + p95(seconds["query"])
    queued, sessions = f"{result['settings']['queued']:,}", result["settings"]["flood"]
    return [
        "| ms | p50 | p95 | goal for p95 |",
        "|---|---|---|---|",
        _row("the model alone, one image", seconds["model"]),
        _row("commit → searchable, idle worker", seconds["searchable"], fresh_goal, "2 × the model's p50 + 20 ms"),
        _counted("the same as `lookalike.latencies` counts it", counted.get("searchable")),
        _row("query image, idle worker", seconds["query"]),
        _row(f"query image, {queued} queued", some, query_goal, "a batch + the idle p95"),
        _row(f"query image, {queued} queued, {sessions} sessions without pauses", flood),
        "",
        f"A batch of queued images (the worker's own measure `encode`): {batch * 1000:.0f} ms on average.",
        "",
        "| with a queue | images/s of the queue | query images/s |",
        "|---|---|---|",
        *(
            f"| {words} | {_rates(parts[name], 'images')} | {_rates(parts[name], 'asked')} |"
            for name, words in (
                ("none", "no queries"),
                ("some", "an occasional query"),
                ("flood", f"{sessions} sessions"),
            )
        ),
        "",
        f"| reading the status, {queued} queued: p50 (p95), ms | just queued | after vacuum |",
        "|---|---|---|",
        *(
            f"| {words} | {_quantiles(result['status']['just queued'][name])} | "
            f"{_quantiles(result['status']['after vacuum'][name])} |"
            for name, words in (
                ("status", "everything that `lookalike status` reads"),
                ("freshness", "the view `lookalike.freshness`"),
                ("space_status", "the view `lookalike.space_status`"),
            )
        ),
        "",
        f"{_longest(parts)} Conditions: {_listed(result['conditions'])}; "
        f"{_listed(result['settings'])}; {result['when']}.",
    ]


def put(result: dict[str, Any], readme: Path) -> None:
    """Replace the table between its markers in `readme`."""
    before, rest = readme.read_text(encoding="utf-8").split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    text = "\n".join([MARKERS[0], *lines(result), MARKERS[1]])
    readme.write_text(f"{before}{text}{after}", encoding="utf-8")


def _row(words: str, seconds: Sequence[float], goal: float | None = None, how: str = "") -> str:
    if not seconds:
        return f"| {words} | | | |"
    verdict = ""
    if goal is not None:
        verdict = f"{goal * 1000:.0f} ({how}): {'met' if p95(seconds) <= goal else '**missed**'}"
    return f"| {words} | {p50(seconds) * 1000:.1f} | {p95(seconds) * 1000:.1f} | {verdict} |"


def _counted(words: str, counted: dict[str, float] | None) -> str:
    if not counted:
        return f"| {words} | | | |"
    return f"| {words} | {counted['p50'] * 1000:.1f} | {counted['p95'] * 1000:.1f} | |"


def _rates(parts: list[dict[str, Any]], what: str) -> str:
    rates = [(len(one[what]) if isinstance(one[what], list) else one[what]) / one["seconds"] for one in parts]
    if len(rates) < 2:
        return "".join(f"{rate:.1f}" for rate in rates)
    return f"{p50(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"


def _quantiles(seconds: Sequence[float]) -> str:
    return f"{p50(seconds) * 1000:.0f} ({p95(seconds) * 1000:.0f})"


def _longest(parts: dict[str, list[dict[str, Any]]]) -> str:
    left = min((one["left"] for part in parts.values() for one in part), default=0)
    return f"Images go in the order of their insert, so a new one waits for the queue; {left:,} were left at the end."


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
