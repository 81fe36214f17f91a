"""When outcomes are written: alone where the worker has nothing else to do, in company under load."""

import math
import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from app.errors import ImageError
from app.store.jobs import Job
from app.store.spaces import Space
from workers.outbox import Outbox
from workers.tasks import Outcome, Task

NOW = datetime.now(UTC)
SPACE = Space(1, "space", "model", None, {}, "f", 8, {}, "embeddings_1", True, NOW)


def job() -> Outcome:
    return Outcome(Task(SPACE, Job(1, "/a", 1, NOW, False), uuid4()), ImageError("decode", "it is none"))


@pytest.fixture
def outbox() -> Outbox:
    """An outbox that has just been emptied; eight jobs are enough."""
    outbox = Outbox(enough=8)
    outbox.add([job()])
    outbox.note_written(outbox.waiting)
    return outbox


def test_the_only_image_in_work_is_written_at_once(outbox):
    outbox.add([job()])
    assert len(outbox.due(in_work=1, backlog=False)) == 1


def test_the_first_after_a_while_is_written_at_once():
    outbox = Outbox(enough=8)
    outbox.add([job()])
    assert len(outbox.due(in_work=5, backlog=True)) == 1


def test_under_load_jobs_wait_for_others_and_not_for_long(outbox):
    outbox.add([job() for _ in range(4)])
    assert outbox.due(in_work=20, backlog=True) == []
    assert outbox.due_at(in_work=20, backlog=False) < outbox.due_at(in_work=20, backlog=True) < time.monotonic() + 0.5


def test_enough_jobs_wait_for_no_more(outbox):
    outbox.add([job() for _ in range(8)])
    assert len(outbox.due(in_work=20, backlog=True)) == 8


def test_an_empty_outbox_is_never_due(outbox):
    assert outbox.due_at(in_work=0, backlog=False) == math.inf
    assert outbox.due(in_work=3, backlog=False) == []


def test_what_is_removed_is_given_back(outbox):
    first, second = job(), job()
    outbox.add([first, second])
    assert outbox.remove(lambda one: one is first) == [first]
    assert outbox.waiting == [second]
