"""Which batch goes to the device next, while query images and jobs of several spaces wait."""

import pytest

from workers.scheduler import Choice, Queue, QueueKey, Scheduler

QUERIES, ACTIVE_JOBS, OTHER_JOBS = QueueKey(True, 1), QueueKey(False, 1), QueueKey(False, 2)
LETTERS = {QUERIES: "q", ACTIVE_JOBS: "j", OTHER_JOBS: "o"}
NOW = 100.0


def scheduler(*, query_share: int = 4, job_share: int = 1, active_share: int = 9) -> Scheduler:
    return Scheduler(query_share=query_share, job_share=job_share, active_share=active_share)


def queue(
    key: QueueKey, ready: int = 1, *, loading: int = 0, waited: float = 0.0, batch_size: int = 1, since: float = NOW
) -> Queue:
    return Queue(
        key, ready=ready, loading=loading, since=since - waited, batch_size=batch_size, active=key.space_id == 1
    )


def order(policy: Scheduler, images: dict[QueueKey, int], *, queries_only: bool = False) -> str:
    """Choose batches of one until nothing goes; return the letters of their queues."""
    left, chosen = dict(images), ""
    while key := policy.choose(
        [queue(key, count) for key, count in left.items() if count], now=NOW, queries_only=queries_only
    ).key:
        left[key] -= 1
        chosen += LETTERS[key]
    return chosen


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((1, 1), "qjqjqjqjqjqj"),
        ((4, 1), "qqqqjqqjjjjj"),
        ((2, 3), "qqjjjqqjjjqq"),
        ((1, 4), "qjjjjqjjqqqq"),
        ((9, 1), "qqqqqqjjjjjj"),
    ],
)
def test_batches_take_turns_by_their_shares(shares: tuple[int, int], expected: str):
    policy = scheduler(query_share=shares[0], job_share=shares[1])
    assert order(policy, {ACTIVE_JOBS: 1}) == "j"  # the device is taken while the others are loaded
    assert order(policy, {QUERIES: 6, ACTIVE_JOBS: 6}) == expected


@pytest.mark.parametrize(
    ("share", "expected"), [(0, "jjjjjjoooo"), (1, "jojojojojj"), (3, "jjjojjjooo"), (9, "jjjjjjoooo")]
)
def test_another_space_gets_its_turn_beside_a_busy_active_one(share: int, expected: str):
    policy = scheduler(active_share=share)
    assert order(policy, {ACTIVE_JOBS: 1}) == "j"
    assert order(policy, {ACTIVE_JOBS: 6, OTHER_JOBS: 4}) == expected


def test_query_images_alone_keep_to_their_share_while_jobs_wait():
    policy = scheduler(query_share=2)
    assert order(policy, {ACTIVE_JOBS: 1}) == "j"
    assert order(policy, {QUERIES: 4, ACTIVE_JOBS: 2}, queries_only=True) == "qq"
    assert order(policy, {QUERIES: 2, ACTIVE_JOBS: 2}) == "jqqj"


def test_query_images_wait_for_nobody_without_jobs():
    assert order(scheduler(query_share=1), {QUERIES: 5}, queries_only=True) == "qqqqq"


@pytest.mark.parametrize(
    ("ready", "loading", "waited", "expected"),
    [
        (3, 9, 0.0, Choice(ACTIVE_JOBS)),  # full
        (1, 0, 0.0, Choice(ACTIVE_JOBS)),  # nothing more to come
        (2, 1, 0.25, Choice(None, 0.75)),  # what is being loaded will fill it
        (2, 1, 1.0, Choice(ACTIVE_JOBS)),
        (1, 1, 0.0625, Choice(None, 0.1 - 0.0625)),  # what is being loaded will not fill it
        (1, 1, 0.125, Choice(ACTIVE_JOBS)),
    ],
)
def test_a_batch_waits_for_what_will_fill_it(ready: int, loading: int, waited: float, expected: Choice):
    choice = scheduler().choose(
        [queue(ACTIVE_JOBS, ready, loading=loading, waited=waited, batch_size=3, since=0.0)], now=0.0
    )
    assert choice.key == expected.key
    assert choice.wait_seconds == pytest.approx(expected.wait_seconds)


def test_query_images_do_not_wait_for_a_full_batch():
    assert scheduler().choose([queue(QUERIES, loading=5, batch_size=8)], now=NOW) == Choice(QUERIES)


def test_the_oldest_queue_goes_first_and_the_shortest_wait_counts():
    older, younger = queue(QUERIES, waited=2.0), queue(QueueKey(True, 2), waited=1.0)
    assert scheduler().choose([younger, older], now=NOW).key == QUERIES
    jobs = [
        queue(ACTIVE_JOBS, loading=7, batch_size=8, waited=0.25),
        queue(OTHER_JOBS, loading=7, batch_size=8, waited=0.5),
    ]
    assert scheduler().choose(jobs, now=NOW) == Choice(None, 0.5)


def test_nothing_ready_is_waited_for_until_a_change():
    assert scheduler().choose([], now=NOW) == Choice(None, None)
    assert scheduler().choose([queue(ACTIVE_JOBS)], now=NOW, queries_only=True) == Choice(None, None)
