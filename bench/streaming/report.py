"""Tables and plots of bench.streaming, made from its raw results."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.streaming.churn import WAYS


def lines(result: dict[str, Any]) -> list[str]:
    """Return the README's table of a run or of the churn."""
    return _churn_lines(result) if "churn" in result else _stream_lines(result)


def _stream_lines(result: dict[str, Any]) -> list[str]:
    found = [
        "| inserts | stage | rows | recall@10 (least) | recall@100 (least) | p50 ms | p95 | p99 | rows/s | short |",
        "|" + 10 * "---|",
    ]
    for name, one in result.items():
        began = 0.0
        for stage in one["stages"]:
            times = [s for at, s, _ in one["searches"] if began <= at < stage["ended"]]
            short = sum(less for at, _, less in one["searches"] if began <= at < stage["ended"])
            p50, p95, p99 = (f"{1000 * q:.1f}" for q in np.quantile(times, [0.5, 0.95, 0.99]))
            committed = sum(count for at, count in one["commits"] if at <= stage["began"])
            shown = [f"{stage[k]['mean']:.4f} ({stage[k]['least']:.2f})" for k in ("recall_at_10", "recall_at_100")]
            found.append(
                f"| {name} | {stage['share']:.0%} | {stage['rows'][0]:,} | {shown[0]} | {shown[1]} "
                f"| {p50} | {p95} | {p99} | {committed / stage['began']:.0f} | {short + stage['short']} |"
            )
            began = stage["ended"]
    return found


def _churn_lines(result: dict[str, Any]) -> list[str]:
    found = [
        "| | recall@10 (least) | recall@100 (least) | plain, recall@10 "
        "| k 10: p50 ms | p95 | k 100: p50 | p95 | index | table | took |",
        "|" + 11 * "---|",
    ]
    for name in ("before", *WAYS):
        one = result[name]
        shown = [
            f"{one[k]['mean']:.4f} ({one[k]['least']:.2f})" for k in ("recall_at_10", "recall_at_100", "plain_at_10")
        ]
        times = [f"{q:.2f}" for k in (10, 100) for q in np.quantile(one[f"ms_at_{k}"], [0.5, 0.95])]
        took = f"{one['seconds']:.1f} s" if one.get("seconds", 0) > 1 else ""
        title = "before" if name == "before" else f"after, {name}"
        found.append(
            f"| {title} | {' | '.join(shown)} | {' | '.join(times)} | {one['index_bytes'] / 2**20:.1f} MB "
            f"| {one['table_bytes'] / 2**20:.1f} MB | {took} |"
        )
    return found


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw a run: recall by stage, latency over time, and searchable rows over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    if "churn" in result:
        return
    figure, axes = plt.subplots(3, len(result), figsize=(5.5 * len(result), 8), squeeze=False)
    for column, (name, one) in enumerate(result.items()):
        recall, latency, rate = axes[:, column]
        shares = [100 * stage["share"] for stage in one["stages"]]
        for k, color in ((10, "#27b"), (100, "#2a7")):
            recall.plot(
                shares,
                [stage[f"recall_at_{k}"]["mean"] for stage in one["stages"]],
                "o-",
                color=color,
                label=f"recall@{k}",
            )
        recall.axhline(0.98, color="#c33", linewidth=1, linestyle=":")
        recall.set_ylim(0.95, 1.002)
        recall.set_xlabel("% of the rows there")
        recall.set_title(f"{name.split(',')[0]} rows/s,{name.split(',')[1]}")
        recall.legend(frameon=False)
        at, seconds, _ = (np.array(part) for part in zip(*one["searches"], strict=True))
        latency.scatter(at, 1000 * seconds, s=2, color="#27b", alpha=0.5)
        latency.set_yscale("log")
        latency.set_ylabel("search, ms")
        for stage in one["stages"]:
            latency.axvspan(stage["began"], stage["ended"], color="#ddd", zorder=0)
        when, counts = (np.array(part) for part in zip(*one["commits"], strict=True))
        rate.plot(when, np.cumsum(counts), color="#2a7", label="searchable")
        rate.plot([0, one["seconds"]], [0, one["seconds"] * one["rate"]], color="#777", linestyle=":", label="wanted")
        rate.set_xlabel("seconds")
        rate.set_ylabel("rows")
        rate.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def into_readme(readme: Path, name: Path) -> None:
    """Replace the text between the markers of this result by its table."""
    begin, end = f"<!-- {name.stem}: begin -->", f"<!-- {name.stem}: end -->"
    before, _, rest = readme.read_text().partition(begin)
    _, _, after = rest.partition(end)
    result = json.loads(name.with_suffix(".json").read_text())
    conditions = result["conditions"] if "churn" in result else next(reversed(result.values()))["conditions"]
    shown = ", ".join(f"{key} {value}" for key, value in conditions.items())
    readme.write_text("\n".join([before + begin, *lines(result), "", f"Conditions: {shown}.", end + after]))
