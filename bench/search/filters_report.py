"""Writes table and plot of bench.search.filters from its raw results: `python -m bench.search.filters_report`.

It writes `<in>.md` and `<in>.svg` and, with --readme, the table between the markers of that file.
"""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.options import RESULTS

RECALL = 0.99
FORCED = ("exact", "index")
OTHERS = ("pgvector", "pgvector, same ef", "pgvector, iterative", "vecs")
KINDS = {
    "random": "random",
    "label": "random, by an indexed label",
    "position": "by position",
    "far": "against each query",
}
MARKERS = ("<!-- filters: begin -->", "<!-- filters: end -->")

Key = tuple[int, str, float, int]


@dataclass(frozen=True)
class Measured:
    """One contender at one point. Times are in milliseconds; cpu is that of the server process."""

    p50: float
    p95: float
    cpu50: float
    cpu95: float
    recall: float
    complete: bool

    @property
    def good(self) -> bool:
        """Whether it reached the recall and always returned min(k, matching) rows."""
        return self.complete and self.recall >= RECALL


def read(path: Path) -> dict[Key, dict[str, Measured]]:
    """Return the measurements of each contender by rows, kind, share kept and k."""
    raw: dict[Key, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            key = int(row["rows"]), row["kind"], float(row["share"]), int(row["k"])
            raw[key][row["contender"]].append(row)
    return {key: {name: summary(rows) for name, rows in found.items()} for key, found in raw.items()}


def summary(rows: Sequence[dict[str, str]]) -> Measured:
    """Summarise one contender's searches at one point."""
    # Queries that only `search` ran count for its recall; their times have no counterpart.
    times = [float(row["ms"]) for row in rows if row["timed"] == "1"]
    computed = [float(row["cpu_ms"] or "nan") for row in rows if row["timed"] == "1"]
    return Measured(
        p50=float(np.percentile(times, 50)),
        p95=float(np.percentile(times, 95)),
        cpu50=float(np.percentile(computed, 50)),
        cpu95=float(np.percentile(computed, 95)),
        recall=float(np.mean([float(row["recall"]) for row in rows])),
        complete=all(row["returned"] == row["expected"] for row in rows),
    )


def table(points: dict[Key, dict[str, Measured]]) -> list[str]:
    """Return the lines of the table: search, its ratio to the best good forced strategy, and every contender."""
    lines = [
        "| rows | filter | kept | k | recall | p50 ms | of the best | p95 | CPU: p50 of the best | p95 | best "
        "| exact | index | " + " | ".join(OTHERS) + " |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|" + "---|" * len(OTHERS),
    ]
    for key in sorted(points, key=lambda found: (found[0], list(KINDS).index(found[1]), -found[2], found[3])):
        rows, kind, share, k = key
        found = points[key]
        ours = found["search"]
        good = {name: found[name] for name in FORCED if name in found and found[name].good}
        best = min(good, key=lambda name: good[name].p50)
        ratios = [
            ours.p50 / min(one.p50 for one in good.values()),
            ours.p95 / min(one.p95 for one in good.values()),
            ours.cpu50 / min(one.cpu50 for one in good.values()),
            ours.cpu95 / min(one.cpu95 for one in good.values()),
        ]
        shown = [
            f"{ratio:.2f}" if ratio <= limit else f"**{ratio:.2f}**"
            for ratio, limit in zip(ratios, (1.25, 2) * 2, strict=True)
        ]
        cells = [cell(found[name]) if name in found else "" for name in (*FORCED, *OTHERS)]
        recall = f"{ours.recall:.3f}" if ours.good else f"**{ours.recall:.3f}**"
        lines.append(
            f"| {rows:,} | {KINDS[kind]} | {share:.2%} | {k} | {recall} | {ours.p50:.1f} | "
            + " | ".join([*shown, best, *cells])
            + " |"
        )
    return lines


def cell(measured: Measured) -> str:
    """Return p50; if the contender falls short, also its recall and whether rows are missing."""
    if measured.good:
        return f"{measured.p50:.1f}"
    return f"{measured.p50:.1f} ✗ {measured.recall:.2f}" + ("" if measured.complete else ", rows missing")


def verdict(points: dict[Key, dict[str, Measured]]) -> str:
    """Return a sentence that counts the points at which each promise holds."""
    held = {"recall": 0, "p50": 0, "p95": 0, "CPU p50": 0, "CPU p95": 0}
    for found in points.values():
        ours = found["search"]
        good = [found[name] for name in FORCED if name in found and found[name].good]
        held["recall"] += ours.good
        held["p50"] += ours.p50 <= 1.25 * min(one.p50 for one in good)
        held["p95"] += ours.p95 <= 2 * min(one.p95 for one in good)
        held["CPU p50"] += ours.cpu50 <= 1.25 * min(one.cpu50 for one in good)
        held["CPU p95"] += ours.cpu95 <= 2 * min(one.cpu95 for one in good)
    return (
        f"Of {len(points)} points, {held['recall']} reach recall {RECALL} with every row. Against the best forced "
        f"strategy that does so, p50 is within 1.25 at {held['p50']} (by CPU time {held['CPU p50']}) "
        f"and p95 within 2 at {held['p95']} (by CPU time {held['CPU p95']})."
    )


def plot(points: dict[Key, dict[str, Measured]], path: Path) -> None:
    """Draw p50 over the share kept, a panel per size, filter and k; hollow marks fall short in recall or rows."""
    from matplotlib.figure import Figure

    sizes = sorted({(key[0], key[3]) for key in points})
    kinds = [kind for kind in KINDS if any(key[1] == kind for key in points)]
    figure = Figure(figsize=(3.4 * len(kinds), 2.7 * len(sizes)), layout="constrained")
    axes = figure.subplots(len(sizes), len(kinds), squeeze=False, sharex=True, sharey="row")
    for (rows, k), line in zip(sizes, axes, strict=True):
        for kind, axis in zip(kinds, line, strict=True):
            axis.set_title(f"{KINDS[kind]}; {rows:,} rows, k {k}", fontsize=8)
            for number, name in enumerate(("search", *FORCED, "pgvector", "pgvector, iterative")):
                shares = sorted(key[2] for key in points if (key[0], key[1], key[3]) == (rows, kind, k))
                found = [(share, points[rows, kind, share, k].get(name)) for share in shares]
                xs = [share * 100 for share, one in found if one]
                ys = [one.p50 for _, one in found if one]
                axis.plot(xs, ys, color=f"C{number}", linewidth=2.2 if name == "search" else 1, label=name)
                for share, one in found:
                    if one:
                        fill = f"C{number}" if one.good else "none"
                        axis.plot(share * 100, one.p50, "o", color=f"C{number}", markerfacecolor=fill, markersize=4)
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.grid(alpha=0.3)
    axes[-1][0].set_xlabel("% of rows kept")
    axes[0][0].set_ylabel("p50, ms")
    axes[0][0].legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def main(argv: list[str] | None = None) -> None:
    """Read `<in>.csv` and `<in>.json`; write table and plot."""
    parser = argparse.ArgumentParser(prog="python -m bench.search.filters_report", description=__doc__)
    parser.add_argument("--in", dest="source", type=Path, default=RESULTS / "filters")
    parser.add_argument("--readme", type=Path, help="file in which to replace the table between its markers")
    args = parser.parse_args(argv)
    points = read(args.source.with_suffix(".csv"))
    conditions = json.loads(args.source.with_suffix(".json").read_text())
    shown = ", ".join(f"{name} {value}" for name, value in conditions.items())
    text = "\n".join([verdict(points), "", *table(points), "", f"Conditions: {shown}.", ""])
    args.source.with_suffix(".md").write_text(text)
    plot(points, args.source.with_suffix(".svg"))
    if args.readme:
        before, rest = args.readme.read_text().split(MARKERS[0])
        after = rest.split(MARKERS[1])[1]
        args.readme.write_text(f"{before}{MARKERS[0]}\n{text}{MARKERS[1]}{after}")
    print(verdict(points))


if __name__ == "__main__":
    main()
