"""Neither a worker nor a new space holds back vacuum, because transactions stay short under load."""

import threading
import time

import pytest

from app import db
from app.store import query_images, spaces
from tests.support.worker import PICTURES, add, drained, make_space, one, until
from workers.served_spaces import Served

MOST_SECONDS = 1.0


@pytest.fixture
def served(auto, small) -> Served:
    return Served(make_space(auto, small, "small", small.fingerprint), small)


class Sampler:
    """Samples pg_stat_activity; `ages` is the oldest transaction of each application, in seconds."""

    def __init__(self, url: str) -> None:
        self.ages: dict[str, float] = {}
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with db.connect(self._url, autocommit=True, application="sampler") as conn:
            while not self._stop.is_set():
                # A snapshot without a transaction holds back vacuum too, as long as the session exists.
                rows = conn.execute(
                    """
                    SELECT application_name,
                           max(extract(epoch FROM clock_timestamp() - coalesce(xact_start, state_change)))
                    FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name LIKE 'lookalike%'
                      AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)
                    GROUP BY application_name
                    """
                ).fetchall()
                for name, age in rows:
                    self.ages[name] = max(self.ages.get(name, 0.0), float(age))
                time.sleep(0.002)


def test_a_worker_under_load_has_no_transaction_older_than_a_second(auto, database_url, start, served, small):
    stop = threading.Event()
    answers = []

    def ask() -> None:
        with db.connect(database_url, autocommit=True) as own:
            while not stop.is_set():
                picture = PICTURES[len(answers) % len(PICTURES)]
                with open(picture, "rb") as file:  # noqa: PTH123
                    image = file.read() + len(answers).to_bytes(4)
                answers.append(query_images.embed(own, image, timeout=30, space=served.space))

    asker = threading.Thread(target=ask)
    with Sampler(database_url) as sampler:
        start(index_min_rows=10**6)  # an index build does hold back vacuum: docs/how-to/keep-vacuum-going.md
        until(lambda: one(auto, "SELECT lookalike.live_workers(%s)", served.space.id))
        asker.start()
        try:
            ids = add(auto, *PICTURES[:500])
            until(lambda: one(auto, "SELECT count(*) FROM lookalike.gallery") > 50, 60)
            make_space(auto, small, "second", "other weights")
            until(
                lambda: not one(auto, "SELECT count(*) FROM lookalike.jobs WHERE space_id = %s", served.space.id), 120
            )
        finally:
            stop.set()
            asker.join()
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == len(ids)
    assert answers
    assert "lookalike worker" in sampler.ages  # else the test would prove nothing
    assert max(sampler.ages.values()) < MOST_SECONDS, sampler.ages


def test_a_new_space_queues_existing_images_in_parts(auto, small, monkeypatch):
    monkeypatch.setattr(spaces, "_BACKFILL_BATCH", 100)
    auto.execute("INSERT INTO lookalike.images (uri) SELECT '/' || n FROM generate_series(1, 250) n")
    make_space(auto, small, "small", small.fingerprint)
    parts = auto.execute("SELECT count(*) FROM lookalike.jobs GROUP BY xmin::text ORDER BY 1").fetchall()
    assert parts == [(50,), (100,), (100,)]
    assert not drained(auto)
