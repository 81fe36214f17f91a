"""`python -m bench.chaos`: run rounds of havoc under load; after each, drain the queue and check everything."""

import argparse
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psycopg

from app import db
from app.errors import LookalikeError
from bench.chaos import report
from bench.chaos.check import Truth, check
from bench.chaos.journal import Journal
from bench.chaos.processes import API
from bench.chaos.world import LEASE, World, build
from bench.options import parse_options

_ROUND_SECONDS = 120.0
_DRAIN_SECONDS = 240.0
# A running worker must claim a job whose lease has ended at its next poll, after the jobs that were due before.
_OVERDUE_SECONDS = 30.0

_STATE = """
SELECT (SELECT count(*) FROM lookalike.jobs),
       (SELECT count(*) FROM lookalike.embeddings_1) + (SELECT count(*) FROM lookalike.embeddings_2),
       (SELECT count(*) FROM lookalike.failures),
       (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - j.available_at)), 0)::float8
        FROM lookalike.jobs j WHERE j.lease IS NOT NULL),
       (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - a.xact_start)), 0)::float8
        FROM pg_stat_activity a WHERE a.application_name IN ('lookalike worker', 'lookalike worker answers'))
"""


def main() -> int:
    """Run the bench; return 0 without violations, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=600, help="seconds of havoc, in rounds of up to two minutes")
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of every random choice; the timing still depends on the machine"
    )
    parser.add_argument("--rate", type=float, default=1.4, help="about how many disturbances a second")
    parser.add_argument("--results", type=Path, help="path without suffix for the .json and .png files")
    parser.add_argument("--keep-logs", type=Path, help="copy the processes' logs into this folder")
    options = parse_options(parser, quick={"duration": 15})
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    journal = Journal()
    threading.excepthook = lambda broken: journal.violate(
        "the run itself works", f"{broken.thread}: {broken.exc_value!r}"
    )
    with build(journal, seed=options.seed, rate=options.rate) as world:
        try:
            _run(world, options.duration)
        finally:
            _count_logs(world)
            report.keep_logs(world.logs(), options.keep_logs)
        summary = report.summarise(world, duration=options.duration, seed=options.seed, rate=options.rate)
    report.show(summary)
    if options.results:
        report.write(summary, journal, options.results)
    return 1 if journal.violations else 0


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _run(world: World, duration: float) -> None:
    over = threading.Event()
    sampler = threading.Thread(target=_sample, args=(world, over), daemon=True)
    threads = [world.havoc, *world.writers, world.uploader, *world.askers]
    for thread in (sampler, *threads):
        thread.start()
    try:
        rounds = max(1, round(duration / _ROUND_SECONDS))
        for number in range(rounds):
            _let_loose(world)
            time.sleep(duration / rounds)
            _calm(world)
            _drain(world)
            _check(world, f"round {number + 1} of {rounds}")
        over.set()
        for thread in threads:
            thread.over.set()
        for thread in (sampler, *threads):
            thread.join(60)
        _finish(world)
    finally:
        over.set()
        for thread in threads:
            thread.over.set()


def _let_loose(world: World) -> None:
    world.journal.note("havoc begins")
    world.host.failing = True
    for client in (*world.writers, world.uploader):
        client.pause.clear()
        client.resting.clear()
    world.havoc.active.set()


def _calm(world: World) -> None:
    """End the havoc, then the writing; then every writer has settled the outcome of its writes."""
    world.havoc.idle.clear()
    world.havoc.active.clear()
    if not world.havoc.idle.wait(60):
        world.journal.violate("the run itself works", "the havoc does not end")
    world.postgres.start()
    world.havoc.empty_disk()
    world.host.failing = False
    for client in (*world.writers, world.uploader):
        client.pause.set()
    for client in (*world.writers, world.uploader):
        if not client.resting.wait(90):
            world.journal.violate("writers get through", f"{client.name} is still writing 90 s after the havoc")
    world.journal.note("havoc ends")


def _drain(world: World) -> None:
    began = time.monotonic()
    while time.monotonic() - began < _DRAIN_SECONDS:
        try:
            with psycopg.connect(world.postgres.url, autocommit=True) as conn:
                if conn.execute("SELECT NOT EXISTS (SELECT FROM lookalike.jobs)").fetchone() == (True,):
                    break
        except psycopg.OperationalError:
            world.journal.violate("the server stays up once nobody kills it", "no connection while draining")
        time.sleep(0.2)
    seconds = time.monotonic() - began
    world.journal.note("drained", f"after {seconds:.1f} s")
    print(f"{world.journal.now():7.1f}  drained in {seconds:.1f} s", flush=True)


def _check(world: World, name: str) -> None:
    truth = _truth(world)
    with db.connect(world.postgres.url, autocommit=True, application="chaos check") as conn:
        found = [one for one in check(conn, truth) if not _is_own(one.rule)]
    for one in found:
        world.journal.violate(one.rule, one.evidence)
    world.journal.note("checked", f"{name}: {len(truth.present)} images, {len(found)} violations")
    print(f"{world.journal.now():7.1f}  {name}: {len(truth.present)} images, {len(found)} violations", flush=True)


def _is_own(rule: str) -> bool:
    """Return whether connected workers and clients may break the rule for a moment."""
    return rule in ("no advisory lock is left", "no transaction is left open")


def _truth(world: World) -> Truth:
    with world.ledger.lock:
        return replace(world.truth, present=frozenset(world.ledger.present), absent=frozenset(world.ledger.absent))


def _finish(world: World) -> None:
    """End every process in order and check for leftovers; start all again and check that everything answers."""
    ended = world.fleet.rest(60)
    with db.connect(world.postgres.url, autocommit=True, application="chaos check") as conn:
        for one in check(conn, _truth(world)):
            world.journal.violate(one.rule, one.evidence)
        names = [str(row[0]) for row in conn.execute("SELECT name FROM lookalike.workers")]
    if left := [name for name in names if int(name.rpartition(":")[2]) in ended]:
        world.journal.violate("a worker that ends in order leaves no row", ", ".join(left))
    world.fleet.resume()
    asker = world.askers[0]
    acts = {"by picture": asker.by_picture, "similar": asker.similar, "crowd": asker.crowd, "ready": asker.status}
    deadline = time.monotonic() + 60
    while acts and time.monotonic() < deadline:
        acts = {name: act for name, act in acts.items() if not act()}
        time.sleep(0.2)
    if acts or not world.fleet.slots[API].pid:
        world.journal.violate("the API answers after recovery", f"not {', '.join(acts)}")
    world.fleet.rest(60)


def _sample(world: World, over: threading.Event) -> None:
    """Sample the queue twice a second, except while the server is down."""
    longest = 0.0
    conn: db.Connection | None = None
    since = time.monotonic()  # when the server was last found up again
    while not over.wait(0.5):
        try:
            if conn is None:
                conn = db.connect(world.postgres.url, autocommit=True, application="chaos sampler")
                since = time.monotonic()
            values = conn.execute(_STATE).fetchone()
        except (psycopg.Error, LookalikeError):
            conn = None
            continue
        jobs, embeddings, failures, overdue, transaction = (float(str(value)) for value in values or ())
        world.journal.sample(
            jobs=int(jobs),
            embeddings=int(embeddings),
            failures=int(failures),
            workers=world.fleet.workers_up(),
            overdue=overdue,
        )
        if not world.fleet.any_stopped():  # a process that is stopped cannot end its transaction
            longest = max(longest, transaction)
        served = min(world.fleet.up("small"), world.fleet.up("real"), time.monotonic() - since)
        if overdue > _OVERDUE_SECONDS and served > overdue:
            world.journal.violate(
                "no job is stuck longer than its lease",
                f"{overdue:.0f} s after the end of a lease of {LEASE:.0f} s, with workers up for {served:.0f} s",
            )
    world.journal.counts["longest transaction of a worker, ms"] = round(longest * 1000)


def _count_logs(world: World) -> None:
    """Add up the totals in the logs of the workers."""
    patterns = {
        r"wrote (\d+), failed (\d+), released (\d+), passed over (\d+)": (
            *("embeddings written", "images parked", "jobs released for another try", "stale results refused"),
        ),
        r"answered (\d+) query images": ("query images answered",),
        r"(\d+) images of space \S+ were lost with a worker": ("images lost with a worker and tried apart",),
        r"handed back (\d+) jobs": ("jobs handed back at SIGTERM",),
    }
    for path in world.logs():
        text = path.read_text(errors="replace")
        for pattern, names in patterns.items():
            for found in re.findall(pattern, text):
                numbers = (found,) if isinstance(found, str) else found
                for name, number in zip(names, numbers, strict=True):
                    world.journal.count(name, int(number))
        for name, pattern in (
            ("retries after transient errors", r"retrying image"),
            ("reconnections of workers", r"the database is not available"),
        ):
            world.journal.count(name, len(re.findall(pattern, text)))


if __name__ == "__main__":
    sys.exit(main())
