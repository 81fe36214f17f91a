"""The pipeline keeps the shares of query images and jobs, and neither starves. The policy: test_scheduler."""

import io
import itertools
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from app import db
from app.config import Settings
from app.media.limits import limits_of
from app.store.jobs import Job
from app.store.query_images import QueryImage
from tests.support.worker import PICTURES, add, drained, make_space, one, until
from workers.content_lookup import ContentLookup
from workers.encoder import Encoder
from workers.pipeline import Pipeline
from workers.served_spaces import Served
from workers.stage_timings import Count, Timings
from workers.tasks import Outcome, Task


@pytest.fixture
def served(auto, small) -> Served:
    return Served(make_space(auto, small, "small", small.fingerprint), small)


class Single(Encoder):
    """The real encoder, called by one thread, so that batches have an order."""

    threads = 1

    def __init__(self, encoder: Encoder) -> None:
        self.__dict__.update(encoder.__dict__)


class Gated(Single):
    """Waits at a gate."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.gate = threading.Event()
        self.reached = threading.Event()

    def encode(self, batch: np.ndarray) -> np.ndarray:
        self.reached.set()
        assert self.gate.wait(30)
        return super().encode(batch)


class FirstGated(Gated):
    """Only the first batch waits at the gate."""

    def encode(self, batch: np.ndarray) -> np.ndarray:
        return Encoder.encode(self, batch) if self.reached.is_set() else super().encode(batch)


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, number // 65536)).save(buffer, "PNG")
    return buffer.getvalue()


def pipe(
    database_url: str, served: Served, encoder: Encoder, timings: Timings, **options: Any
) -> tuple[Pipeline, list[Outcome]]:
    """Make a pipeline of one space, with batches of one and two threads by default; return it and its outcomes."""
    done: list[Outcome] = []
    pipeline = Pipeline(
        {served.space.id: encoder},
        limits=limits_of(Settings()),
        timings=timings,
        wake=lambda: done.extend(pipeline.take_outcomes()),
        answer=done.extend,
        lookup=ContentLookup(database_url),
        **{"batch_size": 1, "threads": 2, **options},
    )
    return pipeline, done


def test_batches_take_turns_by_their_shares(database_url, served, small):
    encoder, timings, decoded = Gated(small), Timings(), []
    pipeline, done = pipe(database_url, served, encoder, timings, shares=(2, 3), express=False)
    try:
        lease, now = uuid4(), datetime.now(UTC)
        jobs = [Task(served.space, Job(n, PICTURES[n], 1, now, False), lease) for n in range(7)]
        asked = [Task(served.space, QueryImage(bytes([n]), Path(PICTURES[n]).read_bytes())) for n in range(6)]
        pipeline.submit(jobs[:1])
        assert encoder.reached.wait(20)  # the device is taken
        pipeline.submit(jobs[1:])
        until(lambda: decoded.extend(timings.take_counts()) or counted(decoded, "decode") == 7)
        pipeline.submit(asked)
        until(lambda: decoded.extend(timings.take_counts()) or counted(decoded, "decode") == 13)
        time.sleep(0.1)  # from decoded to ready
        encoder.gate.set()
        until(lambda: len(done) == 13)
    finally:
        encoder.gate.set()
        pipeline.stop()
    assert "".join("q" if one.task.is_query else "j" for one in done[1:]) == "qqjjjqqjjjqq"


class Sized(Single):
    """Records the sizes of its batches."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.sizes: list[int] = []

    def encode(self, batch: np.ndarray) -> np.ndarray:
        self.sizes.append(len(batch))
        return super().encode(batch)


@pytest.mark.parametrize(("images", "sizes"), [(6, [3, 3]), (1, [1])])
def test_a_batch_waits_for_what_will_fill_it_and_for_nothing_else(
    database_url, served, small, monkeypatch, images: int, sizes: list[int]
):
    """Slow decoding does not change the batches."""
    monkeypatch.setattr("workers.scheduler._FULL_WAIT", 60.0)
    monkeypatch.setattr("workers.scheduler._PART_WAIT", 0.0)
    encoder = Sized(small)
    pipeline, done = pipe(database_url, served, encoder, Timings(), batch_size=3, threads=1)
    try:
        pipeline.submit(tasks_of(served, range(images)))
        until(lambda: len(done) == images)
    finally:
        pipeline.stop()
    assert encoder.sizes == sizes


@pytest.fixture
def piped(database_url, served):
    """Make pipelines of one encode thread, one for query images and batches of one; return them and their outcomes."""
    made: list[tuple[Pipeline, Gated]] = []

    def make(encoder: Gated, timings: Timings) -> tuple[Pipeline, list[Outcome]]:
        pipeline, done = pipe(database_url, served, encoder, timings, shares=(2, 1))
        made.append((pipeline, encoder))
        return pipeline, done

    yield make
    for pipeline, encoder in made:
        encoder.gate.set()
        pipeline.stop()


def tasks_of(served: Served, jobs: range, asked: range = range(0)) -> list[Task]:
    lease, now = uuid4(), datetime.now(UTC)
    return [Task(served.space, Job(n, PICTURES[n], 1, now, False), lease) for n in jobs] + [
        Task(served.space, QueryImage(bytes([n]), Path(PICTURES[n]).read_bytes())) for n in asked
    ]


def test_query_images_pass_a_batch_that_is_on_the_device_within_their_share(piped, served, small):
    encoder, timings = FirstGated(small), Timings()
    pipeline, done = piped(encoder, timings)
    pipeline.submit(tasks_of(served, range(1)))
    assert encoder.reached.wait(20)
    decoded: list[Count] = []
    pipeline.submit(tasks_of(served, range(1, 3)))
    until(lambda: decoded.extend(timings.take_counts()) or counted(decoded, "decode") == 3)
    pipeline.submit(tasks_of(served, range(0), range(4)))
    until(lambda: len(done) == 2)
    time.sleep(0.1)  # the other queries wait for a batch of jobs, whose thread is busy
    assert "".join("q" if one.task.is_query else "j" for one in done) == "qq"
    encoder.gate.set()
    until(lambda: len(done) == 7)


def test_while_a_query_image_is_on_its_way_nothing_is_decoded_that_the_device_does_not_want(piped, served, small):
    encoder, timings = Gated(small), Timings()
    pipeline, done = piped(encoder, timings)
    decoded: list[Count] = []
    pipeline.submit(tasks_of(served, range(1)))
    assert encoder.reached.wait(20)
    pipeline.submit(tasks_of(served, range(1, 2)))
    until(lambda: decoded.extend(timings.take_counts()) or counted(decoded, "decode") == 2)
    pipeline.submit(tasks_of(served, range(0), range(1)))
    pipeline.submit(tasks_of(served, range(2, 6)))
    until(lambda: decoded.extend(timings.take_counts()) or counted(decoded, "lookup") >= 3)
    time.sleep(0.1)
    decoded += timings.take_counts()
    assert counted(decoded, "decode") == 3
    encoder.gate.set()
    until(lambda: len(done) == 7)


def test_two_sessions_that_never_stop_asking_starve_no_backlog(auto, database_url, start, served):
    numbers = itertools.count()
    stop = threading.Event()
    fewest: list[int] = []

    def flood() -> None:
        with db.connect(database_url, autocommit=True) as own:
            while not stop.is_set():
                images = [picture(next(numbers)) for _ in range(100)]
                own.execute(
                    "SELECT lookalike.ask_embedding(%s, image) FROM unnest(%s::bytea[]) AS image",
                    (served.space.id, images),
                )
                while (left := unanswered(own)) > 100 and not stop.is_set():
                    time.sleep(0.005)
                fewest.append(left)

    threads = [threading.Thread(target=flood) for _ in range(2)]
    start(batch_size=4, query_share=3, job_share=2)
    for thread in threads:
        thread.start()
    try:
        until(lambda: fewest, 60)
        before = answered(auto)
        ids = add(auto, *PICTURES[:60])
        until(lambda: drained(auto), 60)
        assert unanswered(auto) > 0  # the flood went on all the time
        assert answered(auto) > before
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert min(fewest) > 0
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == len(ids)


def counted(counts: list[Count], measure: str) -> int:
    return sum(one.count for one in counts if one.measure == measure)


def unanswered(conn) -> int:
    return one(conn, "SELECT count(*) FROM lookalike.query_images WHERE answered_at IS NULL")


def answered(conn) -> int:
    return one(conn, "SELECT count(*) FROM lookalike.query_images WHERE answered_at IS NOT NULL")


def test_another_space_gets_its_turn_beside_a_busy_active_one(served, small) -> None:
    encoder, timings, decoded = Gated(small), Timings(), []
    other = replace(served.space, id=served.space.id + 1, active=False)
    active = replace(served.space, active=True)
    pipeline = Pipeline(
        {active.id: encoder, other.id: encoder},
        limits=limits_of(Settings()),
        batch_size=1,
        threads=2,
        timings=timings,
        wake=lambda: None,
        answer=lambda _: None,
        active_share=3,
        lookup=_NoMatches(),
    )
    try:
        lease, now = uuid4(), datetime.now(UTC)
        tasks = [Task(active, Job(n, PICTURES[n], 1, now, False), lease) for n in range(7)]
        tasks += [Task(other, Job(n, PICTURES[n], 1, now, False), lease) for n in range(7, 11)]
        pipeline.submit(tasks[:1])
        assert encoder.reached.wait(20)  # the device is taken
        pipeline.submit(tasks[1:])
        until(lambda: decoded.extend(timings.take_counts()) or counted(decoded, "decode") == 11)
        time.sleep(0.1)  # from decoded to ready
        encoder.gate.set()
        done: list[Outcome] = []
        until(lambda: done.extend(pipeline.take_outcomes()) or len(done) == 11)
    finally:
        encoder.gate.set()
        pipeline.stop()
    assert "".join("a" if one.task.space.active else "o" for one in done[1:]) == "aaaoaaaooo"


class _NoMatches(ContentLookup):
    """Finds no embedding, so that every picture is encoded; needs no database, because one space is made up."""

    def __init__(self) -> None:
        pass

    def find(self, space, hashes):
        return {}

    def close(self) -> None:
        pass
