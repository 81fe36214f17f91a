"""The report of a run: numbers per operation, raw data, a plot."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

MARKERS = ("<!-- soak: begin -->", "<!-- soak: end -->")
LIMIT = 3.0


def per_operation(operations: list[dict[str, Any]], searches: list[list[Any]]) -> list[dict[str, Any]]:
    """Return p50 and p99 before and during each operation, over all rounds; searches by picture are separate."""
    at = np.array([one[0] for one in searches])
    ms = np.array([one[1] for one in searches])
    plain = np.array([one[2] != "picture" for one in searches])
    masks: dict[str, list[Any]] = defaultdict(lambda: [np.zeros(len(at), bool), np.zeros(len(at), bool), 0.0, 0])
    for one in operations:
        mask = masks[one["name"]]
        mask[0] |= (at >= one["before"]) & (at < one["began"])
        # A search that began before the operation and ends during it counts as during.
        mask[1] |= (at + ms / 1000 >= one["began"]) & (at < one["ended"])
        mask[2] += one["ended"] - one["began"]
        mask[3] += 1
    found = []
    for name, (before, during, seconds, times) in masks.items():
        row: dict[str, Any] = {"operation": name, "times": times, "seconds": round(seconds / times, 1)}
        for what, kind in (("", plain), ("picture_", ~plain)):
            a, b = ms[before & kind], ms[during & kind]
            row |= {f"{what}searches": len(b)}
            if len(a) and len(b):
                row |= {f"{what}p50_before": q(a, 0.5), f"{what}p99_before": q(a, 0.99)}
                row |= {f"{what}p50_during": q(b, 0.5), f"{what}p99_during": q(b, 0.99), f"{what}max_during": q(b, 1)}
                row |= {f"{what}ratio": round(q(b, 0.99) / q(a, 0.99), 2)}
        found.append(row)
    return found


def q(values: Any, share: float) -> float:  # noqa: ANN401
    """Return a quantile, rounded to a hundredth."""
    return round(float(np.quantile(values, share)), 2)


def lines(result: dict[str, Any]) -> list[str]:
    """Return the lines of the README's table."""
    counts = result["faults"]
    changes = f"{result['changes']:,} changes of images, {result['change_errors']} errors"
    return [
        f"{result['searches']:,} searches in {result['seconds']:.0f} s: **{counts['error']} errors, "
        f"{counts['short']} short, {counts['mixed']} mixed**, {counts['unordered']} unordered; {changes}, the longest "
        f"took {result['longest_change_ms']:.0f} ms. Invariants broken at the end: {len(result['broken'])}; recall@10 "
        f"{result['recall_at_10']:.4f}. The other space's distances would differ by {result['apart']:.3f} at least "
        f"(tolerance {result['tolerance']}).",
        "",
        "| operation | times | s | searches | p50 before, ms | p99 before | p50 during | p99 | max | p99 ratio "
        "| ratio by picture |",
        "|" + 11 * "---|",
        *(
            f"| {one['operation']} | {one['times']} | {one['seconds']} | {one['searches']} | {one['p50_before']} "
            f"| {one['p99_before']} | {one['p50_during']} | {one['p99_during']} | {one['max_during']} "
            f"| {_bold(one['ratio'])} | {one.get('picture_ratio', '')} |"
            for one in result["operations"]
            if "ratio" in one
        ),
    ]


def _bold(ratio: float) -> str:
    return f"**{ratio}**" if ratio > LIMIT else str(ratio)


def write(result: dict[str, Any], raw: dict[str, Any], path: Path) -> None:
    """Write PATH.json, with every search, and PATH.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps({**result, **raw}, separators=(",", ":")) + "\n")
    _plot(raw, path.with_suffix(".png"))


def _plot(raw: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (axes, below) = plt.subplots(2, 1, figsize=(15, 8), height_ratios=[3, 1], sharex=True)
    for kind, color, label in (
        (lambda k: not k.startswith("http") and k != "picture", "#27b", "SQL"),
        (lambda k: k.startswith("http"), "#2a7", "HTTP"),
        (lambda k: k == "picture", "#e93", "by a picture (a worker embeds it)"),
    ):
        chosen = [(at, ms) for at, ms, k in raw["raw_searches"] if kind(k)]
        if chosen:
            axes.scatter(*zip(*chosen, strict=True), s=3, alpha=0.5, color=color, label=label, linewidths=0)
    axes.set_yscale("log")
    axes.set_ylabel("search, ms")
    axes.legend(loc="upper right", frameon=False, markerscale=4)
    names = list(dict.fromkeys(one["name"] for one in raw["raw_operations"]))
    palette = plt.get_cmap("tab10")
    for one in raw["raw_operations"]:
        color = palette(names.index(one["name"]) % 10)
        axes.axvspan(one["began"], one["ended"], color=color, alpha=0.25, linewidth=0)
        below.barh(names.index(one["name"]), one["ended"] - one["began"], left=one["began"], color=color)
    below.set_yticks(range(len(names)), names, fontsize=8)
    below.invert_yaxis()
    below.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def into_readme(readme: Path, result: dict[str, Any]) -> None:
    """Replace the text between the markers."""
    before, _, rest = readme.read_text().partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    conditions = ", ".join(f"{key} {value}" for key, value in result["conditions"].items())
    readme.write_text(
        "\n".join([before + MARKERS[0], *lines(result), "", f"Conditions: {conditions}.", MARKERS[1] + after])
    )
