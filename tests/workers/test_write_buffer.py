"""When outcomes are written: at once if the worker has nothing else to do, in batches under load."""

import math
import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from app.errors import ImageError
from app.store.jobs import Job
from app.store.spaces import Space
from workers.tasks import Outcome, Task
from workers.write_buffer import WriteBuffer

NOW = datetime.now(UTC)
SPACE = Space(1, "space", "model", None, {}, "f", 8, {}, "embeddings_1", True, NOW)


def job() -> Outcome:
    return Outcome(Task(SPACE, Job(1, "/a", 1, NOW, False), uuid4()), ImageError("decode", "not an image"))


@pytest.fixture
def buffer() -> WriteBuffer:
    """A buffer that was emptied just now; eight jobs are enough."""
    buffer = WriteBuffer(enough=8)
    buffer.add([job()])
    buffer.mark_written(buffer.waiting)
    return buffer


def test_the_only_image_in_work_is_written_at_once(buffer):
    buffer.add([job()])
    assert len(buffer.due(in_work=1, backlog=False)) == 1


def test_the_first_after_a_while_is_written_at_once():
    buffer = WriteBuffer(enough=8)
    buffer.add([job()])
    assert len(buffer.due(in_work=5, backlog=True)) == 1


def test_under_load_jobs_wait_for_others_and_not_for_long(buffer):
    buffer.add([job() for _ in range(4)])
    assert buffer.due(in_work=20, backlog=True) == []
    assert buffer.due_at(in_work=20, backlog=False) < buffer.due_at(in_work=20, backlog=True) < time.monotonic() + 0.5


def test_enough_jobs_wait_for_no_more(buffer):
    buffer.add([job() for _ in range(8)])
    assert len(buffer.due(in_work=20, backlog=True)) == 8


def test_an_empty_buffer_is_never_due(buffer):
    assert buffer.due_at(in_work=0, backlog=False) == math.inf
    assert buffer.due(in_work=3, backlog=False) == []


def test_removed_outcomes_are_returned(buffer):
    first, second = job(), job()
    buffer.add([first, second])
    assert buffer.remove(lambda one: one is first) == [first]
    assert buffer.waiting == [second]
