"""The queue: who gets which job, what a lease protects, and that nothing waits for another transaction."""

import threading
import time
from collections import Counter
from uuid import UUID, uuid4

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format

from app import db
from app.db.vectors import halfvecs
from app.errors import ImageError, InvalidInputError
from app.store import jobs, spaces
from app.store.jobs import Embedded
from app.store.spaces import Space

DIMENSIONS = 8


@pytest.fixture
def other(database_url):
    """Yield a second session, with a transaction of its own."""
    with db.connect(database_url) as connection:
        yield connection


@pytest.fixture
def space(auto) -> Space:
    return spaces.create(
        auto, name="small", model="none", weights=None, dimensions=DIMENSIONS, preprocessing={}, fingerprint="f"
    )


def add(conn, count: int, start: int = 0) -> list[int]:
    rows = conn.execute(
        "INSERT INTO lookalike.images (uri) SELECT '/image/' || n FROM generate_series(%s::int, %s) n RETURNING id",
        (start, start + count - 1),
    ).fetchall()
    return [int(row[0]) for row in rows]


def embedded(image_id: int, seed: int = 0) -> Embedded:
    vector = np.random.default_rng(seed + image_id).normal(size=DIMENSIONS).astype(np.float32)
    vector /= np.linalg.norm(vector)
    return Embedded(
        image_id=image_id, embedding=vector, sha256=bytes([seed]) * 32, media_type="image/png", width=3, height=2
    )


def claim(conn, space, most=10, seconds=60.0) -> tuple[UUID, list[int]]:
    lease = uuid4()
    return lease, [job.image_id for job in jobs.claim(conn, space, lease=lease, most=most, lease_seconds=seconds)]


def stored(conn) -> set[int]:
    return {row[0] for row in conn.execute("SELECT id FROM lookalike.gallery").fetchall()}


def queued(conn) -> set[int]:
    return {row[0] for row in conn.execute("SELECT image_id FROM lookalike.jobs").fetchall()}


def test_finish_writes_a_batch_and_removes_its_jobs(auto, space):
    ids = add(auto, 3)
    lease, claimed = claim(auto, space)
    assert claimed == ids
    assert jobs.finish(auto, space, lease=lease, embedded=[embedded(i) for i in ids]) == set(ids)
    assert stored(auto) == set(ids)
    assert not queued(auto)
    assert not jobs.any_left(auto, [space])
    row = auto.execute("SELECT media_type, width, height, sha256, embedding FROM lookalike.gallery").fetchone()
    assert row[:4] == ("image/png", 3, 2, bytes(32))
    assert float(row[4].to_numpy().astype(float) @ embedded(ids[0]).embedding) == pytest.approx(1, abs=1e-3)


def test_a_second_session_skips_jobs_that_the_first_has_locked(conn, other, auto, space):
    ids = add(auto, 10)
    _, first = claim(conn, space, most=6)  # not committed
    _, second = claim(other, space, most=6)
    assert sorted(first + second) == ids
    conn.rollback()
    other.rollback()
    assert claim(auto, space)[1] == ids


def test_claims_of_many_sessions_never_overlap(database_url, auto, space):
    ids = add(auto, 300)
    taken: Counter[int] = Counter()
    lock = threading.Lock()

    def work() -> None:
        with db.connect(database_url, autocommit=True) as own:
            while batch := claim(own, space, most=7)[1]:
                with lock:
                    taken.update(batch)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == Counter(ids)


def test_another_session_gets_the_job_when_its_lease_ends(auto, space):
    (image,) = add(auto, 1)
    old, _ = claim(auto, space, seconds=0)
    new, claimed = claim(auto, space)
    assert claimed == [image]
    assert jobs.finish(auto, space, lease=old, embedded=[embedded(image, 1)]) == set()
    assert jobs.finish(auto, space, lease=new, embedded=[embedded(image, 2)]) == {image}


def test_renew_extends_a_lease(auto, space):
    first, second = add(auto, 2)
    lease, _ = claim(auto, space, seconds=0.2)
    jobs.renew(auto, space, held=[(lease, first), (uuid4(), second)], lease_seconds=60)
    time.sleep(0.25)
    assert claim(auto, space)[1] == [second]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE lookalike.images SET uri = '/another' WHERE id = %s",
        "UPDATE lookalike.images SET sha256 = decode(repeat('ee', 32), 'hex') WHERE id = %s",
    ],
)
def test_nothing_stale_is_written_when_the_content_changed(auto, space, change):
    changed, same = add(auto, 2)
    auto.execute("UPDATE lookalike.images SET sha256 = decode(repeat('dd', 32), 'hex')")
    lease, _ = claim(auto, space)
    auto.execute(change, (changed,))
    assert jobs.finish(auto, space, lease=lease, embedded=[embedded(changed), embedded(same)]) == {same}
    assert stored(auto) == {same}
    job = jobs.claim(auto, space, lease=uuid4(), most=5, lease_seconds=60)
    assert [(one.image_id, one.attempts, one.suspect) for one in job] == [(changed, 1, False)]


def test_nothing_stale_is_written_when_the_first_sha256_arrives(auto, space):
    """While the worker holds the old bytes, a client replaces them and sets a sha256, which was NULL before."""
    embedded_late, failed_late = add(auto, 2)
    lease, _ = claim(auto, space)
    auto.execute("UPDATE lookalike.images SET sha256 = decode(repeat('ee', 32), 'hex')")
    assert jobs.finish(auto, space, lease=lease, embedded=[embedded(embedded_late)]) == set()
    assert jobs.fail(auto, space, lease=lease, errors=[(failed_late, ImageError("decode", "cut off"))]) == set()
    assert stored(auto) == set()
    assert {one.image_id for one in jobs.claim(auto, space, lease=uuid4(), most=5, lease_seconds=60)} == {
        embedded_late,
        failed_late,
    }


def test_a_failed_image_is_retried_when_its_sha256_changes(auto, space):
    (image,) = add(auto, 1)
    lease, _ = claim(auto, space)
    assert jobs.fail(auto, space, lease=lease, errors=[(image, ImageError("decode", "cut off"))]) == {image}
    auto.execute("UPDATE lookalike.images SET sha256 = decode(repeat('ee', 32), 'hex')")
    assert not jobs.failures(auto)
    assert claim(auto, space)[1] == [image]


def test_one_spaces_results_do_not_break_anothers_lease(auto, space):
    other = spaces.create(
        auto, name="other", model="m", weights=None, dimensions=space.dimensions, preprocessing={}, fingerprint="g"
    )
    (image,) = add(auto, 1)
    first, second = claim(auto, space)[0], claim(auto, other)[0]
    assert jobs.finish(auto, space, lease=first, embedded=[embedded(image)]) == {image}
    assert jobs.finish(auto, other, lease=second, embedded=[embedded(image)]) == {image}
    assert not queued(auto)


def test_metadata_changes_do_not_break_a_lease(auto, space):
    (image,) = add(auto, 1)
    lease, _ = claim(auto, space)
    auto.execute("UPDATE lookalike.images SET attributes = '{\"a\": 1}', caption = 'x'")
    assert jobs.finish(auto, space, lease=lease, embedded=[embedded(image)]) == {image}
    auto.execute("UPDATE lookalike.images SET attributes = '{\"a\": 2}'")
    assert not queued(auto)
    assert stored(auto) == {image}


def test_deleted_images_are_skipped(auto, space):
    gone, kept = add(auto, 2)
    lease, _ = claim(auto, space)
    auto.execute("DELETE FROM lookalike.images WHERE id = %s", (gone,))
    assert jobs.finish(auto, space, lease=lease, embedded=[embedded(gone), embedded(kept)]) == {kept}


def locks() -> list[str]:
    return [
        "UPDATE lookalike.images SET uri = '/elsewhere' WHERE id = %s",
        "DELETE FROM lookalike.images WHERE id = %s",
        "SELECT FROM lookalike.images WHERE id = %s FOR UPDATE",
        "SELECT lookalike.enqueue(ARRAY[%s::bigint])",
    ]


@pytest.mark.parametrize("lock", locks())
@pytest.mark.parametrize("act", ["finish", "fail", "release", "renew"])
def test_a_locked_row_is_skipped_and_its_job_stays(auto, other, space, lock, act):
    locked, free = add(auto, 2)
    lease, _ = claim(auto, space)
    other.execute(lock, (locked,))
    auto.execute("SET lock_timeout = '500ms'")
    if act == "finish":
        done = jobs.finish(auto, space, lease=lease, embedded=[embedded(locked), embedded(free)])
        assert done == {free}
    elif act == "fail":
        errors = [(one, ImageError("decode", "bad")) for one in (locked, free)]
        assert jobs.fail(auto, space, lease=lease, errors=errors) == {free}
    elif act == "release":
        assert jobs.release(auto, space, lease=lease, image_ids=[locked, free]) >= 1
    else:
        jobs.renew(auto, space, held=[(lease, locked), (lease, free)], lease_seconds=1)
    other.rollback()
    assert locked in queued(auto)


def test_queueing_missing_images_waits_for_no_lock(auto, other, space):
    first, second = add(auto, 2)
    auto.execute("DELETE FROM lookalike.jobs")
    other.execute("UPDATE lookalike.images SET uri = '/elsewhere' WHERE id = %s", (first,))
    auto.execute("SET lock_timeout = '500ms'")
    assert spaces.backfill(auto, space) == 1
    other.rollback()
    assert spaces.backfill(auto, space) == 1
    assert queued(auto) == {first, second}


def test_failures_have_a_reason_and_can_be_retried(auto, space):
    bad, worse, good = add(auto, 3)
    lease, _ = claim(auto, space)
    errors = [(bad, ImageError("decode", "cut off at \0")), (worse, ImageError("fetch", "no such file"))]
    assert jobs.fail(auto, space, lease=lease, errors=errors) == {bad, worse}
    found = {one.image_id: one for one in jobs.failures(auto)}
    assert found[bad].reason == "cut off at �"
    assert (found[worse].step, found[worse].uri, found[worse].space, found[worse].attempts) == (
        "fetch",
        "/image/1",
        "small",
        1,
    )
    assert queued(auto) == {good}
    assert len(jobs.failures(auto, limit=1, space=space)) == 1
    assert jobs.retry(auto, image_ids=[bad]) == 1
    assert jobs.retry(auto, space=space) == 1
    assert jobs.retry(auto) == 0
    assert queued(auto) == {bad, worse, good}
    assert not jobs.failures(auto)


def test_a_failure_of_a_changed_image_is_not_recorded(auto, space):
    (image,) = add(auto, 1)
    lease, _ = claim(auto, space)
    auto.execute("UPDATE lookalike.images SET uri = '/mended'")
    assert jobs.fail(auto, space, lease=lease, errors=[(image, ImageError("decode", "bad"))]) == set()
    assert not jobs.failures(auto)
    assert claim(auto, space)[1] == [image]


def test_a_released_job_is_due_again_after_its_delay(auto, space):
    soon, later = add(auto, 2)
    lease, _ = claim(auto, space)
    assert jobs.release(auto, space, lease=lease, image_ids=[soon], unattempted=True) == 1
    assert jobs.release(auto, space, lease=lease, image_ids=[later], delay=0.3) == 1
    assert jobs.release(auto, space, lease=lease, image_ids=[soon, later]) == 0
    (job,) = jobs.claim(auto, space, lease=uuid4(), most=5, lease_seconds=60)
    assert (job.image_id, job.attempts, job.suspect) == (soon, 1, False)
    time.sleep(0.35)
    (job,) = jobs.claim(auto, space, lease=uuid4(), most=5, lease_seconds=60)
    assert (job.image_id, job.attempts, job.suspect) == (later, 2, False)


def test_suspect_jobs_come_alone_and_in_small_batches(auto, space):
    def take(seconds: float) -> list[tuple[int, int, bool]]:
        claimed = jobs.claim(auto, space, lease=uuid4(), most=20, lease_seconds=seconds)
        return [(job.image_id, job.attempts, job.suspect) for job in claimed]

    lost = add(auto, 12)
    claim(auto, space, most=20, seconds=0)
    fresh = add(auto, 5, start=100)
    first = take(0)
    assert [job[1:] for job in first] == [(2, True)] * 8
    second = take(60)
    assert [job[1:] for job in second] == [(2, True)] * 4
    assert {job[0] for job in first + second} == set(lost)
    assert take(60) == [(image, 1, False) for image in fresh]
    for _ in range(8):  # the first eight, which were lost twice
        assert [job[1:] for job in take(60)] == [(3, True)]
    assert take(60) == []


def test_only_unit_vectors_of_the_right_dimension_are_written(auto, space):
    (image,) = add(auto, 1)
    lease, _ = claim(auto, space)
    for vector, words in [
        (np.ones(7, np.float32), "8 dimensions"),
        (np.ones(8, np.float32), "not of unit length"),
        (np.full(8, np.nan, np.float32), "not of unit length"),
    ]:
        wrong = Embedded(image_id=image, embedding=vector, sha256=bytes(32), media_type="image/png", width=1, height=1)
        with pytest.raises(InvalidInputError, match=words):
            jobs.finish(auto, space, lease=lease, embedded=[wrong])
    assert not stored(auto)


def test_a_rollback_leaves_no_trace(conn, space):
    add(conn, 2)
    assert len(queued(conn)) == 2
    conn.rollback()
    assert not queued(conn)


def test_a_listener_is_woken_by_the_commit(database_url, auto, space):
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN lookalike_jobs")
        add(auto, 50)
        assert len(list(listener.notifies(timeout=1, stop_after=1))) == 1


def test_embeddings_are_sent_in_binary(auto):
    dumper = Transformer(auto).get_dumper(halfvecs([embedded(1).embedding, None]), PyFormat.AUTO)
    assert dumper.format == Format.BINARY
    sent = auto.execute("SELECT %s::halfvec[]", (halfvecs([embedded(1).embedding, None]),)).fetchone()[0]
    assert sent == [HalfVector(embedded(1).embedding), None]
