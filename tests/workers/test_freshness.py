"""Freshness: the counts of workers, quantiles, periods, folding; the length of the queue."""

import random
import statistics
import threading

import pytest

from app import db
from app.monitoring import status
from app.store import spaces
from tests.support.worker import PICTURES, add, one, until
from workers.heartbeat import Heartbeat, Progress
from workers.stage_timings import Timings, bucket_of


@pytest.fixture
def space(auto):
    return spaces.create(
        auto, name="tiny", model="none", weights=None, dimensions=3, preprocessing={}, fingerprint="none"
    )


def store(conn, timings: Timings) -> None:
    counts = timings.take_counts()
    fields = ("space_id", "measure", "bucket", "count", "seconds")
    db.call(conn, "add_latencies", *([getattr(one, field) for one in counts] for field in fields))


def noted(measure: str, space, *seconds: float) -> Timings:
    timings = Timings()
    timings.note(measure, space.id, seconds)
    return timings


def row(conn, measure: str, period: str = "1 minute") -> tuple:
    return conn.execute(
        "SELECT count, p50, p95, p99, mean, per_second FROM lookalike.latency_status"
        " WHERE measure = %s AND period = %s::interval",
        (measure, period),
    ).fetchone()


def test_buckets_end_at_the_bounds_of_the_database(auto):
    bounds = [one(auto, "SELECT lookalike.latency_bound(%s)", bucket) for bucket in range(121)]
    for bucket, bound in enumerate(bounds[:-1]):
        assert bucket_of(bound * 0.999) == bucket
        assert bucket_of(bound * 1.001) == bucket + 1
    assert bucket_of(0) == 0
    assert bucket_of(1e9) == 120


def test_quantiles_are_near_those_of_the_numbers_themselves(auto, space):
    rng = random.Random(3)
    seconds = [rng.lognormvariate(-2, 1.2) for _ in range(5000)]
    store(auto, noted("searchable", space, *seconds))
    count, p50, p95, p99, mean, per_second = row(auto, "searchable")
    cuts = statistics.quantiles(seconds, n=100)
    assert count == 5000
    assert p50 == pytest.approx(cuts[49], rel=0.05)
    assert p95 == pytest.approx(cuts[94], rel=0.05)
    assert p99 == pytest.approx(cuts[98], rel=0.1)
    assert mean == pytest.approx(statistics.mean(seconds), rel=1e-6)
    assert 5000 / 75 < per_second < 5000 / 55


def test_a_single_number_is_its_bucket(auto, space):
    store(auto, noted("query", space, 0.1))
    _, p50, p95, p99, *_ = row(auto, "query")
    assert 0.1 / 1.2 < p50 < p95 < p99 < 0.1 * 1.2


def test_workers_add_up_concurrently(database_url, auto, space):
    def work() -> None:
        with db.connect(database_url, autocommit=True) as conn:
            for _ in range(20):
                timings = noted("searchable", space, 0.01, 0.1, 1.0)
                timings.add("encode", 0.5, space.id)
                store(conn, timings)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one(auto, "SELECT sum(count) FROM lookalike.latencies WHERE measure = 'searchable'") == 240
    assert one(auto, "SELECT sum(seconds) FROM lookalike.latencies WHERE measure = 'encode'") == pytest.approx(40)


def test_periods_see_what_is_young_enough_and_folding_loses_no_count(auto, space):
    for age in ("3 hours", "2 hours", "30 minutes", "3 minutes", "0"):
        store(auto, noted("searchable", space, 0.05))
        auto.execute(
            "UPDATE lookalike.latencies SET slot = slot - %s::interval WHERE slot > now() - interval '1 minute'", (age,)
        )
    rows = auto.execute("SELECT period::text, images FROM lookalike.freshness").fetchall()
    assert dict(rows) == {"00:01:00": 1, "00:05:00": 2, "01:00:00": 3}
    before = auto.execute("SELECT sum(count), sum(seconds) FROM lookalike.latencies").fetchone()
    assert one(auto, "SELECT lookalike.fold_latencies()") == 2
    assert one(auto, "SELECT lookalike.fold_latencies()") == 0
    assert auto.execute("SELECT sum(count), sum(seconds) FROM lookalike.latencies").fetchone() == pytest.approx(before)
    assert one(auto, "SELECT count FROM lookalike.latencies WHERE slot = '-infinity'") == 2


def test_counts_that_could_not_be_stored_are_stored_later(space):
    timings = noted("query", space, 0.1, 0.1, 0.2)
    counts = timings.take_counts()
    assert timings.take_counts() == []
    timings.note("query", space.id, [0.1])
    timings.give_back(counts)
    assert sum(one.count for one in timings.take_counts()) == 4


def test_a_space_that_is_being_removed_blocks_nobody(auto, space, conn):
    conn.execute("DELETE FROM lookalike.embedding_spaces WHERE id = %s", (space.id,))
    auto.execute("SET lock_timeout = '2s'")
    store(auto, noted("query", space, 0.1))
    conn.commit()
    store(auto, noted("query", space, 0.1))
    assert row(auto, "query") is None
    auto.execute("SELECT lookalike.fold_latencies()")
    assert one(auto, "SELECT count(*) FROM lookalike.latencies") == 0


def test_a_heartbeat_stores_the_last_counts_as_it_ends(database_url, auto, space):
    timings = noted("searchable", space, 0.1)
    heartbeat = Heartbeat(database_url, [space], device="cpu", progress=Progress(), timings=timings)
    heartbeat.start()
    until(lambda: row(auto, "searchable"))
    timings.note("searchable", space.id, [0.1, 0.1])
    heartbeat.stop()
    assert row(auto, "searchable")[0] == 3


# The whole worker


def test_a_worker_counts_the_freshness_of_its_space(auto, start, tmp_path):
    add(auto, *PICTURES[:12], tmp_path / "missing.jpg")
    start(drain=True).join()
    found = status.read_status(auto)
    minute = found.freshness[0]
    assert (minute.period_seconds, minute.images, minute.failed) == (60, 12, 1)
    assert 0 < minute.searchable_p50 <= minute.searchable_p95 <= minute.searchable_p99 < 60
    stages = dict(
        auto.execute("SELECT measure, count FROM lookalike.latency_status WHERE period = '1 hour'").fetchall()
    )
    assert stages["fetch"] == 13
    assert stages["decode"] == 12
    assert {"claim", "encode", "write"} <= set(stages)
    (reason,) = found.failures
    assert (reason.step, reason.images) == ("fetch", 1)
    assert reason.reason.startswith("there is no file … on ")


# The queue and its failures


def test_reasons_that_differ_in_names_and_numbers_are_one(auto, space):
    auto.execute("INSERT INTO lookalike.images (uri) SELECT 'x:' || i FROM generate_series(1, 6) i")
    auto.execute(
        """INSERT INTO lookalike.failures (image_id, space_id, uri, step, reason, attempts)
           SELECT id, 1, uri, 'fetch', CASE WHEN id < 3 THEN 'there is no file /a/' || id || '.jpg on host'
                                            WHEN id < 6 THEN 'https://x.y/' || id || '?q answered ' || id || '00'
                                            ELSE 'out of luck' END, 1 FROM lookalike.images"""
    )
    reasons = [(one.reason, one.images) for one in status.read_status(auto).failures]
    assert reasons == [("… answered …", 3), ("there is no file … on host", 2), ("out of luck", 1)]


def test_a_long_queue_is_estimated_a_short_one_counted(auto, space):
    auto.execute("INSERT INTO lookalike.images (uri) SELECT 'x:' || i FROM generate_series(1, 3000) i")
    auto.execute("ANALYZE lookalike.jobs")
    count = "SELECT lookalike.count_about('jobs', %s, 'space_id = 1')"
    assert one(auto, count, 5000) == 3000
    assert one(auto, count, 100) == 3000
    assert status.read_status(auto).spaces[0].queued_about == 3000
