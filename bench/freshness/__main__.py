"""Measures how soon an image is searchable and a query image is answered: with an idle worker, and with a long queue.

python -m bench.freshness                    takes seven minutes; writes bench/results/freshness.json, prints the table
python -m bench.freshness --queued 2000000   with a longer queue
python -m bench.freshness --report           writes the table of the results into bench/README.md
"""

import argparse
import json
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image

from app import db
from app.config import Settings
from app.db import embedded, schema
from app.demo import tour
from app.monitoring import status
from app.store import query_images, spaces
from bench.freshness import report
from bench.freshness.world import World, embedded_images, enqueue, fill, one, since, totals, worker
from bench.options import BENCH, RESULTS, parse_options
from bench.search.data import conditions
from workers.encoder import Encoder
from workers.models import load_model
from workers.served_spaces import ready

# A little more than the two seconds after which a worker stores its counts.
_FLUSH_SECONDS = 2.5
_POLL_SECONDS = 0.0005
_QUICK = {
    "gallery": 8,
    "images": 2,
    "queries": 2,
    "queued": 80,
    "files": 80,
    "seconds": 0.5,
    "flood": 2,
    "rounds": 1,
    "looks": 2,
    "out": None,
}
# Measures of an hour of counts from a worker that is never idle.
_MEASURES = ("searchable", "failed", "query", "claim", "fetch", "decode", "encode", "write", "other")


class Bare:
    """The model alone, in this process, with the worker's precision and threads, one image at a time."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.encoder: Encoder = ready(load_model(settings.model, settings.weights), settings)
        images = [Image.open(path).convert("RGB") for path in sorted(tour.GALLERY.glob("*.jpg"))[:16]]
        self._pixels = [self.encoder.transform(image)[None] for image in images]
        self._rng = world.rng
        for pixels in self._pixels:
            self.encoder.encode(pixels)

    def latency(self) -> float:
        """Return the seconds of one forward of one image."""
        pixels = self._rng.choice(self._pixels)
        began = time.perf_counter()
        self.encoder.encode(pixels)
        return time.perf_counter() - began


def searchable(world: World, writer: db.Connection, watcher: db.Connection, name: str) -> float:
    """Insert one image; return the seconds from COMMIT until another session sees it in lookalike.gallery."""
    path = world.file(name)
    writer.execute("BEGIN")
    image_id = one(writer, "INSERT INTO lookalike.images (uri) VALUES (%s) RETURNING id", str(path))
    began = time.perf_counter()
    writer.execute("COMMIT")
    while not one(watcher, "SELECT EXISTS (SELECT FROM lookalike.gallery WHERE id = %s)", image_id):
        if time.perf_counter() - began > 60:
            raise SystemExit(f"image {image_id} is not searchable after a minute")
        time.sleep(_POLL_SECONDS)
    return time.perf_counter() - began


def answered(world: World, conn: db.Connection, rng: random.Random | None = None) -> float:
    """Request the embedding of one picture; return the seconds to the answer."""
    image = world.picture(rng)
    began = time.perf_counter()
    query_images.embed(conn, image, timeout=120)
    return time.perf_counter() - began


def idle(world: World, bare: Bare, images: int) -> dict[str, Any]:
    """Measure bare forward, image and query image in turns, each alone; return the seconds and the worker's counts."""
    taken: dict[str, list[float]] = {"model": [], "searchable": [], "query": []}
    with db.connect(world.url, autocommit=True) as writer, db.connect(world.url, autocommit=True) as watcher:
        actions: dict[str, Callable[[int], float]] = {
            "model": lambda _: bare.latency(),
            "searchable": lambda number: searchable(world, writer, watcher, f"idle-{number}"),
            "query": lambda _: answered(world, watcher),
        }
        for number in range(-3, images):  # the first ones warm up
            if number == 0:
                time.sleep(_FLUSH_SECONDS)
                before = totals(watcher)
            for name in world.rng.sample(list(actions), len(actions)):
                seconds = actions[name](number)
                if number >= 0:
                    taken[name].append(seconds)
                time.sleep(world.rng.uniform(0.02, 0.08))
        time.sleep(_FLUSH_SECONDS)
        return {"seconds": taken, "counted": since(watcher, before)}


def costs(world: World, conn: db.Connection, times: int) -> dict[str, list[float]]:
    """Return the seconds to read the status and its views, in turns, with an hour of counts stored."""
    space_id = spaces.active(conn).id
    conn.execute(
        """
        INSERT INTO lookalike.latencies (space_id, measure, slot, bucket, count, seconds)
        SELECT %s, m, date_bin('10 s', clock_timestamp(), 'epoch') - n * interval '10 s', b, 3, 0.1
        FROM unnest(%s::text[]) m, generate_series(0, 359) n, generate_series(20, 29) b
        ON CONFLICT DO NOTHING
        """,
        (space_id, list(_MEASURES)),
    )
    conn.execute("ANALYZE lookalike.latencies")
    reads: dict[str, Callable[[], object]] = {
        "status": lambda: status.read_status(conn),
        "freshness": lambda: conn.execute("SELECT * FROM lookalike.freshness").fetchall(),
        "space_status": lambda: conn.execute("SELECT * FROM lookalike.space_status").fetchall(),
    }
    taken: dict[str, list[float]] = {name: [] for name in reads}
    for number in range(-2, times):
        for name, read in reads.items():
            began = time.perf_counter()
            read()
            if number >= 0:
                taken[name].append(time.perf_counter() - began)
    conn.execute("TRUNCATE lookalike.latencies")
    return taken


def backlog(world: World, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure rounds of no queries, occasional queries and a flood; return images embedded and seconds of queries."""
    rounds = []
    with db.connect(world.url, autocommit=True) as conn:
        begun = embedded_images(conn)
        while embedded_images(conn) == begun and one(conn, "SELECT EXISTS (SELECT FROM lookalike.jobs)"):
            time.sleep(0.1)
        time.sleep(_FLUSH_SECONDS)
        for _ in range(options.rounds):
            for name, ask in (
                ("none", lambda: time.sleep(options.seconds)),
                ("some", lambda: now_and_then(world, -(-options.queries // options.rounds))),
                ("flood", lambda: flood(world, options.flood, options.seconds)),
            ):
                before, images, began = totals(conn), embedded_images(conn), time.perf_counter()
                asked = ask() or []
                seconds, images = time.perf_counter() - began, embedded_images(conn) - images
                time.sleep(_FLUSH_SECONDS)
                rounds.append(
                    {
                        "queries": name,
                        "seconds": seconds,
                        "images": images,
                        "asked": asked,
                        "counted": since(conn, before),
                        "left": one(conn, "SELECT count(*) FROM lookalike.jobs"),
                    }
                )
    return rounds


def now_and_then(world: World, count: int) -> list[float]:
    """Send one query at a time after random pauses, so that queries meet the worker at any point of a batch."""
    taken = []
    with db.connect(world.url, autocommit=True) as conn:
        for _ in range(count):
            time.sleep(world.rng.uniform(0.05, 0.6))
            taken.append(answered(world, conn))
    return taken


def flood(world: World, askers: int, seconds: float) -> list[float]:
    """Send queries from `askers` sessions, each as soon as it has its last answer; return the seconds."""
    taken: list[float] = []
    errors: list[BaseException] = []
    end = time.perf_counter() + seconds

    def ask(number: int) -> None:
        rng = random.Random(f"{world.seed} {number} {end}")
        try:
            with db.connect(world.url, autocommit=True) as conn:
                while time.perf_counter() < end:
                    taken.append(answered(world, conn, rng))
        except BaseException as error:  # noqa: BLE001 — raised below, in the bench's thread
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(askers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return taken


# The run


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything in its own folder and on its own server; return the raw results, in seconds."""
    home = Path(tempfile.mkdtemp(prefix="lookalike-bench-"))
    home.chmod(0o755)
    settings = Settings()
    environment = {"LOOKALIKE_LOG_LEVEL": "INFO"}
    try:
        with embedded.running(home) as server:
            schema.upgrade(server.url)
            world = World(server.url, home, options.seed)
            bare = Bare(world, settings)
            with db.connect(server.url, autocommit=True) as conn:
                began_load = os.getloadavg()[0]
                with worker(server.url, home / "worker.log", environment):
                    fill(world, conn, options.gallery)
                    found_idle = idle(world, bare, options.images)
                enqueue(world, conn, options.queued, options.files)
                shown = {"just queued": costs(world, conn, options.looks)}
                conn.execute("VACUUM ANALYZE lookalike.jobs")
                shown["after vacuum"] = costs(world, conn, options.looks)
                with worker(server.url, home / "worker.log", environment):
                    found_backlog = backlog(world, options)
                if failed := one(conn, "SELECT count(*) FROM lookalike.failures"):
                    raise SystemExit(
                        f"{failed} images failed; if the worker reached the end of the files, raise --files"
                    )
                about = conditions(conn, seed=options.seed)
            if options.keep_log:
                shutil.copy(home / "worker.log", options.keep_log)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "conditions": {
            **{name: about[name] for name in about if name not in ("work_mem", "max_parallel_workers_per_gather")},
            "torch": torch.__version__,
            "timm": timm.__version__,
            "load_at_start": round(began_load, 2),
        },
        "settings": {
            **{name: value for name, value in vars(options).items() if name not in ("out", "report", "keep_log")},
            "model": settings.model,
            "device": bare.encoder.description,
            "lanes": bare.encoder.concurrency,
            "batch": bare.encoder.batch_size,
            "query_share": settings.query_share,
            "job_share": settings.job_share,
        },
        "idle": found_idle,
        "status": shown,
        "backlog": found_backlog,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench, or write the table of an earlier run."""
    options = parse_options(_parser(), arguments, quick=_QUICK)
    if options.report:
        report.put(json.loads(options.out.read_text(encoding="utf-8")), options.readme)
        return
    result = run(options)
    del result["settings"]["readme"]
    if options.out:
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(report.lines(result)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.freshness", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=60, help="images, and query images, with the idle worker")
    parser.add_argument("--queries", type=int, default=90, help="occasional queries with a queue")
    parser.add_argument("--queued", type=int, default=100_000, help="images in the queue")
    parser.add_argument(
        "--files", type=int, default=20_000, help="queued images that are real files, for as far as the worker gets"
    )
    parser.add_argument("--flood", type=int, default=16, help="sessions that send queries without a pause")
    parser.add_argument("--seconds", type=float, default=20, help="seconds of each part of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--looks", type=int, default=20, help="reads of the status")
    parser.add_argument("--gallery", type=int, default=1000, help="most pictures stored at the start")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "freshness.json", help="file to write")
    parser.add_argument("--keep-log", type=Path, metavar="FILE", help="copy the worker's log to this file")
    parser.add_argument("--report", action="store_true", help="only write the table of --out into --readme")
    parser.add_argument("--readme", type=Path, default=BENCH / "README.md")
    return parser


if __name__ == "__main__":
    main()
