"""Query images: requests, embeddings, and the errors when no worker responds."""

import hashlib
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from app import db
from app.errors import ImageError, NoWorkerError, QueryTimeoutError, SchemaError
from app.store import query_images, spaces
from app.store.spaces import Space

DIMENSIONS = 8
UNIT = np.full(DIMENSIONS, DIMENSIONS**-0.5, np.float32)


@pytest.fixture
def space(auto) -> Space:
    return spaces.create(
        auto, name="small", model="none", weights=None, dimensions=DIMENSIONS, preprocessing={}, fingerprint="f"
    )


def register(conn, space) -> int:
    """Insert the row of a worker with a recent heartbeat."""
    return int(conn.execute("SELECT lookalike.begin_worker('test:1', '0', 'cpu', %s)", ([space.id],)).fetchone()[0])


@contextmanager
def answering(database_url, space, answer, *, delay: float = 0.0):
    """Answer every request from a session of its own, as a worker does; yield the list of claims."""
    claims: list[list[bytes]] = []
    stop = threading.Event()

    def work() -> None:
        with db.connect(database_url, autocommit=True) as own:
            own.execute("LISTEN lookalike_queries")
            while not stop.is_set():
                claimed = query_images.claim(own, space, most=10, lease_seconds=60)
                if claimed:
                    claims.append([one.image for one in claimed])
                    time.sleep(delay)
                    query_images.answer(own, space, [(one.sha256, answer) for one in claimed])
                list(own.notifies(timeout=0.1, stop_after=1))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield claims
    finally:
        stop.set()
        thread.join()


def clean(conn) -> bool:
    """Return whether a connection listens to nothing, has no open transaction and no pending notification."""
    channels = conn.execute("SELECT pg_listening_channels()").fetchall()
    return not channels and conn.info.transaction_status == 0 and not list(conn.notifies(timeout=0))


def test_without_a_worker_the_answer_is_an_error_at_once(auto, space):
    began = time.monotonic()
    with pytest.raises(NoWorkerError, match=r'small.*"lookalike worker"'):
        query_images.embed(auto, b"picture", timeout=10)
    assert time.monotonic() - began < 1
    assert clean(auto)


def test_a_worker_without_a_heartbeat_does_not_count(auto, space):
    register(auto, space)
    auto.execute("UPDATE lookalike.workers SET heartbeat_at = clock_timestamp() - interval '11 s'")
    with pytest.raises(NoWorkerError):
        query_images.embed(auto, b"picture", timeout=10)


def test_a_worker_of_another_space_does_not_count(auto, space):
    other = spaces.create(
        auto, name="other", model="none", weights=None, dimensions=2, preprocessing={}, fingerprint="g"
    )
    register(auto, space)
    with pytest.raises(NoWorkerError, match="other"):
        query_images.embed(auto, b"picture", timeout=10, space=other)


def test_the_last_worker_may_die_while_a_request_waits(database_url, auto, space):
    worker = register(auto, space)

    def kill() -> None:
        time.sleep(0.3)
        with db.connect(database_url, autocommit=True) as own:
            own.execute("DELETE FROM lookalike.workers WHERE id = %s", (worker,))

    thread = threading.Thread(target=kill)
    thread.start()
    began = time.monotonic()
    with pytest.raises(NoWorkerError):
        query_images.embed(auto, b"picture", timeout=10)
    assert time.monotonic() - began < 3
    thread.join()


def test_without_a_space_the_error_names_the_way_out(auto):
    with pytest.raises(SchemaError, match="lookalike worker"):
        query_images.embed(auto, b"picture", timeout=1)


def test_an_overloaded_worker_raises_a_timeout(auto, space):
    register(auto, space)
    began = time.monotonic()
    with pytest.raises(QueryTimeoutError, match=r"within 0\.3 s"):
        query_images.embed(auto, b"picture", timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 2
    assert clean(auto)


def test_the_embedding_is_a_unit_vector_and_is_cached(database_url, auto, space):
    register(auto, space)
    with answering(database_url, space, UNIT) as claims:
        first = query_images.embed(auto, b"picture", timeout=5)
        assert clean(auto)
        again = query_images.embed(auto, b"picture", timeout=5)
    assert claims == [[b"picture"]]
    assert first.dtype == np.float32
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(first, UNIT, atol=1e-3)
    np.testing.assert_array_equal(first, again)
    row = auto.execute("SELECT image, answered_at IS NOT NULL FROM lookalike.query_images").fetchone()
    assert row == (None, True)


def test_a_cached_embedding_needs_no_worker(database_url, auto, space):
    worker = register(auto, space)
    with answering(database_url, space, UNIT):
        query_images.embed(auto, b"picture", timeout=5)
    auto.execute("DELETE FROM lookalike.workers WHERE id = %s", (worker,))
    np.testing.assert_allclose(query_images.embed(auto, b"picture", timeout=5), UNIT, atol=1e-3)


def test_a_bad_image_has_a_reason_and_can_be_requested_again_at_once(database_url, auto, space):
    register(auto, space)
    with answering(database_url, space, ImageError("decode", "the file is \0 not an image")) as claims:
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(ImageError, match="the file is � not an image"):
                query_images.embed(auto, b"picture", timeout=5)
            assert time.monotonic() - began < 2
    assert len(claims) == 2


def test_an_image_requested_by_many_is_embedded_once(database_url, auto, space):
    register(auto, space)
    results: list[np.ndarray] = []

    def ask() -> None:
        with db.connect(database_url, autocommit=True) as own:
            results.append(query_images.embed(own, b"picture", timeout=5))

    with answering(database_url, space, UNIT, delay=0.2) as claims:
        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 5
    assert claims == [[b"picture"]]


def test_each_request_gets_the_embedding_of_its_own_image(database_url, auto, space):
    register(auto, space)
    wrong: list[str] = []
    stop = threading.Event()

    def vector(sha256: bytes) -> np.ndarray:
        values = np.frombuffer(sha256[:DIMENSIONS], np.uint8).astype(np.float32) + 1
        return values / np.linalg.norm(values)

    def serve() -> None:
        with db.connect(database_url, autocommit=True) as own:
            while not stop.is_set():
                claimed = query_images.claim(own, space, most=3, lease_seconds=60)
                query_images.answer(own, space, [(one.sha256, vector(one.sha256)) for one in claimed])
                time.sleep(0.01)

    def ask(number: int) -> None:
        image = f"picture {number}".encode()
        with db.connect(database_url, autocommit=True) as own:
            got = query_images.embed(own, image, timeout=10)
        if got @ vector(hashlib.sha256(image).digest()) < 0.999:
            wrong.append(image.decode())

    server = threading.Thread(target=serve)
    askers = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in (server, *askers):
        thread.start()
    for thread in askers:
        thread.join()
    stop.set()
    server.join()
    assert not wrong


def test_a_request_lost_in_a_crash_is_repeated(database_url, auto, space):
    register(auto, space)

    def crash_then_answer() -> None:
        with db.connect(database_url, autocommit=True) as own:
            time.sleep(0.2)
            own.execute("DELETE FROM lookalike.query_images")  # as recovery empties an unlogged table
            for _ in range(50):
                for one in query_images.claim(own, space, most=3, lease_seconds=60):
                    query_images.answer(own, space, [(one.sha256, UNIT)])
                time.sleep(0.05)

    thread = threading.Thread(target=crash_then_answer)
    thread.start()
    np.testing.assert_allclose(query_images.embed(auto, b"picture", timeout=10), UNIT, atol=1e-3)
    thread.join()


def test_a_request_within_a_transaction_is_refused(conn, space):
    with pytest.raises(ValueError, match="autocommit"):
        query_images.embed(conn, b"picture", timeout=1)


def test_an_unanswered_claim_is_free_again(auto, space):
    auto.execute("SELECT lookalike.ask_embedding(%s, 'picture'::bytea)", (space.id,))
    assert len(query_images.claim(auto, space, most=5, lease_seconds=0)) == 1
    assert len(query_images.claim(auto, space, most=5, lease_seconds=60)) == 1
    assert query_images.claim(auto, space, most=5, lease_seconds=60) == []


def test_old_requests_are_removed(auto, space):
    auto.execute("SELECT lookalike.ask_embedding(%s, 'picture'::bytea)", (space.id,))
    assert query_images.forget(auto, age_seconds=60) == 0
    assert query_images.forget(auto, age_seconds=0) == 1
