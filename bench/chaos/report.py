"""The report of a run: a summary, JSON, and a timeline as PNG."""

import json
import platform
import shutil
import sys
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import timm
import torch

from bench.chaos.journal import Journal
from bench.chaos.world import LEASE, REAL, SMALL, World, cores

KILLS = (
    "kill -9 a worker",
    "kill -9 an API process",
    "kill -9 the API's master",
    "kill -9 PostgreSQL",
    "kill -9 a server process",
)
DISTURBANCES = (
    *KILLS,
    "SIGTERM a worker",
    "SIGSTOP a worker beyond its lease",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "no space left on device",
    "drop an HNSW index",
)


def summarise(world: World, *, duration: float, seed: int, rate: float) -> dict[str, Any]:
    """Return conditions, counts and violations as JSON values."""
    journal = world.journal
    counts = dict(sorted(journal.counts.items()))
    kills = {name: counts.pop(name, 0) for name in DISTURBANCES}
    overdue = sorted(sample.overdue for sample in journal.samples if sample.overdue > 0)
    with psycopg.connect(world.postgres.url) as conn:
        version = (conn.execute("SELECT version()").fetchone() or ("",))[0]
    return {
        "conditions": {
            "date": datetime.now(UTC).date().isoformat(),
            "duration_s": duration,
            "seed": seed,
            "disturbances_per_second": rate,
            "lease_s": LEASE,
            "models": {"small": SMALL, "real": REAL},
            "workers": 4,
            "cores": cores(),
            "machine": platform.machine(),
            "postgresql": version,
            "torch": torch.__version__,
            "timm": timm.__version__,
        },
        "killed": sum(kills[name] for name in KILLS),
        "disturbances": kills,
        "counts": counts,
        "images_at_the_end": len(world.ledger.present),
        "images_deleted": len(world.ledger.absent),
        "drains": [event.detail for event in journal.events if event.kind == "drained"],
        "most_jobs_queued": max((sample.jobs for sample in journal.samples), default=0),
        "lease_overdue_s": {
            "p50": round(overdue[len(overdue) // 2], 2) if overdue else 0,
            "p99": round(overdue[len(overdue) * 99 // 100], 2) if overdue else 0,
            "max": round(overdue[-1], 2) if overdue else 0,
        },
        "closest_two_contents_cosine": {
            name: round(reference.closest(), 6) for name, reference in world.truth.references.items()
        },
        "violations": [asdict(one) for one in journal.violations],
    }


def show(summary: dict[str, Any]) -> None:
    """Print the summary."""
    print(f"\nkilled with -9: {summary['killed']}")
    for part in ("disturbances", "counts"):
        for name, number in summary[part].items():
            print(f"  {number:7}  {name}")
    print(f"images: {summary['images_at_the_end']} at the end, {summary['images_deleted']} deleted")
    print(f"leases overdue: {summary['lease_overdue_s']}; closest contents: {summary['closest_two_contents_cosine']}")
    broken = Counter(one["rule"] for one in summary["violations"])
    print("violations: " + ("none" if not broken else ""))
    for rule, number in broken.items():
        print(f"  {number:4}  {rule}")
    sys.stdout.flush()


def write(summary: dict[str, Any], journal: Journal, path: Path) -> None:
    """Write the summary with its timeline to PATH.json, and the plot to PATH.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A sample every two seconds is enough to draw the timeline again.
    timeline = [[s.at, s.jobs, s.embeddings, s.workers, round(s.overdue, 1)] for s in journal.samples[::4]]
    events = [[e.at, e.kind] for e in journal.events]
    whole = {**summary, "timeline": {"columns": ["s", "jobs", "embeddings", "workers", "overdue_s"], "rows": timeline}}
    text = json.dumps({**whole, "events": "@events@"}, indent=1, ensure_ascii=False)
    lines = ",\n".join("  " + json.dumps(event, ensure_ascii=False) for event in events)
    path.with_suffix(".json").write_text(text.replace('"@events@"', f"[\n{lines}\n ]") + "\n")
    _plot(journal, path.with_suffix(".png"))


def _plot(journal: Journal, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    at = [sample.at for sample in journal.samples]
    figure, (above, below) = plt.subplots(2, 1, figsize=(11, 6), sharex=True, height_ratios=[3, 2])
    above.plot(at, [sample.embeddings for sample in journal.samples], color="#2a7", label="embeddings, both spaces")
    above.plot(at, [sample.jobs for sample in journal.samples], color="#27b", label="jobs queued")
    above.plot(at, [sample.overdue for sample in journal.samples], color="#c33", label="lease longest overdue, s")
    above.legend(loc="upper left", frameon=False)
    above.set_ylim(bottom=0)
    for number, kind in enumerate(DISTURBANCES):
        marks = [event.at for event in journal.events if event.kind == kind]
        below.scatter(marks, [number] * len(marks), s=14, marker="|", color="#c33" if kind in KILLS else "#777")
    below.set_yticks(range(len(DISTURBANCES)), DISTURBANCES, fontsize=8)
    below.invert_yaxis()
    below.set_xlabel("seconds")
    for event in journal.events:
        if event.kind == "checked":
            for axes in (above, below):
                axes.axvline(event.at, color="#bbb", linewidth=1)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def keep_logs(logs: list[Path], folder: Path | None) -> None:
    """Copy the logs into `folder`, if given."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        for log in logs:
            shutil.copy(log, folder)
