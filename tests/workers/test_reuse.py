"""The same bytes under another uri are not embedded twice, and no embedding of other bytes is reused."""

import hashlib
import shutil
import threading
from pathlib import Path
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from PIL import Image

from app import db
from app.config import Settings
from app.errors import ImageError
from app.monitoring import status
from app.store import jobs, query_images, spaces
from app.store.spaces import Space
from tests.support.worker import PICTURES, Gated, add, cosine, drained, embedding, one, until
from workers.content_lookup import ContentLookup
from workers.encoder import Encoder
from workers.models import load_model
from workers.served_spaces import Served
from workers.worker import Worker


class Counting(Encoder):
    """The real encoder, which counts the images that it encodes."""

    def __init__(self) -> None:
        Encoder.__init__(self, load_model("tf_efficientnet_lite0"), device="cpu")
        self.images = 0

    def encode(self, batch: np.ndarray) -> np.ndarray:
        self.images += len(batch)
        return super().encode(batch)


class GatedCounting(Counting, Gated):
    """Counts images and waits at a gate."""

    def __init__(self) -> None:
        Counting.__init__(self)
        self.gate, self.reached = threading.Event(), threading.Event()


@pytest.fixture(scope="module")
def encoder() -> Counting:
    return Counting()


@pytest.fixture
def counting(encoder) -> Counting:
    encoder.images = 0
    return encoder


@pytest.fixture
def copies(tmp_path):
    """Copy a picture of the gallery to new names."""

    def copy(number: int, count: int) -> list[str]:
        paths = [tmp_path / f"{number}-{i}-{len(list(tmp_path.iterdir()))}.jpg" for i in range(count)]
        for path in paths:
            shutil.copy(PICTURES[number], path)
        return [str(path) for path in paths]

    return copy


def work(start, encoder: Encoder, **values: object) -> None:
    start(encoder=encoder, drain=True, **values).join()


def digest(path: str | Path) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


def known(conn, space: Space, *paths: str | Path) -> list[bool]:
    found = jobs.known_embeddings(conn, space, [digest(path) for path in paths])
    return [digest(path) in found for path in paths]


def stored(conn) -> dict[int, tuple]:
    rows = conn.execute(
        "SELECT i.id, e.embedding::text, i.sha256, i.media_type, i.width, i.height"
        " FROM lookalike.images i JOIN lookalike.embeddings_1 e ON e.image_id = i.id"
    ).fetchall()
    return {row[0]: row[1:] for row in rows}


# Reused


def test_in_one_batch(auto, start, counting, copies):
    add(auto, *copies(0, 5), *copies(1, 1))
    work(start, counting)
    assert counting.images == 2
    rows = list(stored(auto).values())
    assert len(rows) == 6
    assert len(set(rows)) == 2  # embedding, sha256, media type and size, to the bit
    (minute, *_) = status.read_status(auto).freshness
    assert (minute.images, minute.reused) == (6, 4)


def test_while_the_first_is_on_the_device_or_not_yet_written(auto, start, served, copies):
    encoder = GatedCounting()
    add(auto, *copies(0, 1))
    thread = start(encoder=encoder, batch_size=1)
    assert encoder.reached.wait(20)
    later = add(auto, *copies(0, 3))
    until(lambda: len(thread.worker._jobs) >= 3)
    encoder.gate.set()
    until(lambda: drained(auto))
    assert encoder.images == 1
    assert all(cosine(served.encoder, embedding(auto, image), PICTURES[0]) >= 0.9999 for image in later)


def test_by_a_later_worker(auto, start, counting, copies):
    add(auto, *PICTURES[:3])
    work(start, counting)
    add(auto, *copies(0, 2), *copies(2, 1), *PICTURES[3:5])
    work(start, counting)
    assert counting.images == 5
    rows = stored(auto)
    assert len(rows) == 8
    assert len(set(rows.values())) == 5


def test_bytes_with_an_embedding_are_not_decoded_and_are_looked_up_in_batches(auto, start, counting, copies):
    add(auto, *PICTURES[:48])
    work(start, counting, batch_size=64)
    auto.execute("TRUNCATE lookalike.latencies")
    add(auto, *[path for number in range(48) for path in copies(number, 1)])
    thread = start(encoder=counting, drain=True, batch_size=64)
    thread.join()
    assert counting.images == 48
    assert thread.worker._progress.reused == 48
    counts = dict(auto.execute("SELECT measure, sum(count) FROM lookalike.latencies GROUP BY measure").fetchall())
    assert counts["fetch"] == 48
    assert counts["lookup"] <= 24
    assert "decode" not in counts
    assert "encode" not in counts


def test_facts_are_read_from_the_bytes(auto, start, counting, tmp_path):
    turned = tmp_path / "turned.jpg"
    with Image.open(PICTURES[0]) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.convert("RGB").save(turned, exif=exif)
    (first,) = add(auto, turned)
    work(start, counting)
    facts = auto.execute("SELECT media_type, width, height FROM lookalike.images").fetchone()
    # A writer may store wrong facts of the first.
    auto.execute("UPDATE lookalike.images SET media_type = 'image/nonsense', width = 1, height = 2")
    again = tmp_path / "again.jpg"
    shutil.copy(turned, again)
    (second,) = add(auto, again)
    work(start, counting)
    assert counting.images == 1
    assert stored(auto)[second][2:] == facts
    assert facts[1:] == image.size[::-1]
    assert stored(auto)[first][0] == stored(auto)[second][0]


def test_a_query_image_that_is_stored_needs_no_worker(auto, start, counting):
    (image,) = add(auto, PICTURES[0])
    work(start, counting)
    found = query_images.embed(auto, Path(PICTURES[0]).read_bytes(), timeout=5)
    assert found @ embedding(auto, image) == pytest.approx(1, abs=1e-4)
    assert one(auto, "SELECT count(*) FROM lookalike.query_images") == 0
    assert counting.images == 1


def test_the_same_query_image_asked_by_many_sessions_is_encoded_once(database_url, auto, start, served):
    encoder = GatedCounting()
    for _ in range(2):
        start(encoder=encoder)
    until(lambda: one(auto, "SELECT lookalike.live_workers(%s)", served.space.id) == 2)
    picture, answers = Path(PICTURES[9]).read_bytes(), []

    def ask() -> None:
        with db.connect(database_url, autocommit=True) as own:
            answers.append(query_images.embed(own, picture, timeout=20))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert encoder.reached.wait(20)
    asked = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND state = 'idle' AND query ~ 'ask_embedding|answer_of'"
    )
    until(lambda: one(auto, asked) == 6)
    encoder.gate.set()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert encoder.images == 1
    assert all((answer == answers[0]).all() for answer in answers)


# Not reused


def test_a_sha256_that_a_writer_only_claims_poisons_nothing(auto, start, served, counting, copies):
    first, *_ = add(auto, PICTURES[0])
    work(start, counting)
    # On the embedded image, another picture's hash.
    auto.execute("UPDATE lookalike.images SET sha256 = %s WHERE id = %s", (digest(PICTURES[1]), first))
    assert known(auto, served.space, PICTURES[0], PICTURES[1]) == [False, False]
    # The same on a new image.
    auto.execute("INSERT INTO lookalike.images (uri, sha256) VALUES (%s, %s)", (PICTURES[2], digest(PICTURES[1])))
    assert known(auto, served.space, PICTURES[1]) == [False]
    (second,) = add(auto, PICTURES[1])
    work(start, counting)
    assert cosine(served.encoder, embedding(auto, second), PICTURES[1]) >= 0.9999
    assert cosine(served.encoder, embedding(auto, first), PICTURES[0]) >= 0.9999
    assert known(auto, served.space, *PICTURES[:3]) == [True, True, True]


def test_nor_does_one_in_a_snapshot_that_saw_no_embedding(database_url, auto, start, served, counting):
    """The trigger of a REPEATABLE READ writer cannot delete embeddings newer than its snapshot."""
    insert = "INSERT INTO lookalike.images (uri, sha256, media_type, width, height) VALUES (%s, %s, %s, %s, %s)"
    with Image.open(PICTURES[0]) as image:
        auto.execute(insert, (PICTURES[0], digest(PICTURES[0]), "image/jpeg", *image.size))
    with psycopg.connect(database_url) as writer:
        writer.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        writer.execute("SELECT 1")
        work(start, counting)
        writer.execute("UPDATE lookalike.images SET sha256 = %s", (digest(PICTURES[1]),))
    # The embedding is of the old bytes beside the new sha256. If this no longer holds, such a writer is harmless.
    assert one(auto, "SELECT count(*) FROM lookalike.embeddings_1") == 1
    assert known(auto, served.space, PICTURES[1]) == [False]
    auto.execute(
        "WITH gone AS (DELETE FROM lookalike.jobs RETURNING image_id, space_id)"
        " INSERT INTO lookalike.failures (image_id, space_id, uri, step, reason, attempts)"
        " SELECT image_id, space_id, 'x', 'fetch', 'gone', 1 FROM gone"
    )
    assert known(auto, served.space, PICTURES[1]) == [False]
    # If the new bytes cannot be embedded, the failure removes it.
    jobs.retry(auto)
    lease = uuid4()
    (job,) = jobs.claim(auto, served.space, lease=lease, most=1, lease_seconds=60)
    jobs.fail(auto, served.space, lease=lease, errors=[(job.image_id, ImageError("decode", "it is none"))])
    assert one(auto, "SELECT count(*) FROM lookalike.embeddings_1") == 0


def test_bytes_that_change_are_embedded_though_the_old_ones_are_known(auto, start, served, counting, copies):
    add(auto, PICTURES[0])
    work(start, counting)
    (path,) = copies(0, 1)
    (image,) = add(auto, path)
    work(start, counting)
    shutil.copy(PICTURES[1], path)
    auto.execute("UPDATE lookalike.images SET sha256 = %s WHERE id = %s", (digest(path), image))
    work(start, counting)
    assert counting.images == 2
    assert cosine(served.encoder, embedding(auto, image), PICTURES[1]) >= 0.9999


def test_content_that_changes_in_flight_and_a_source_that_is_deleted(auto, start, served, copies):
    encoder = GatedCounting()
    first, second, third = add(auto, *copies(0, 3))
    thread = start(encoder=encoder, batch_size=1)
    assert encoder.reached.wait(20)
    until(lambda: len(thread.worker._jobs) == 3)
    auto.execute("DELETE FROM lookalike.images WHERE id = %s", (first,))
    auto.execute("UPDATE lookalike.images SET uri = %s WHERE id = %s", (PICTURES[3], second))
    encoder.gate.set()
    until(lambda: drained(auto))
    assert embedding(auto, first) is None
    assert cosine(served.encoder, embedding(auto, second), PICTURES[3]) >= 0.9999
    assert cosine(served.encoder, embedding(auto, third), PICTURES[0]) >= 0.9999
    auto.execute("DELETE FROM lookalike.images WHERE id = %s", (third,))
    assert known(auto, served.space, PICTURES[0]) == [False]


def test_bytes_that_cannot_be_decoded_fail_under_each_uri(auto, start, counting, tmp_path):
    paths = [tmp_path / f"{i}.jpg" for i in range(3)]
    for path in paths:
        path.write_bytes(Path(PICTURES[0]).read_bytes()[:2000])
    add(auto, *paths, PICTURES[1])
    work(start, counting)
    assert {failure.uri for failure in jobs.failures(auto)} == {str(path) for path in paths}
    assert counting.images == 1


def test_another_space_reuses_nothing(auto, database_url, served, counting, copies):
    other = spaces.create(
        auto,
        name="other",
        model=counting.model_name,
        weights=None,
        dimensions=counting.dimensions,
        preprocessing={},
        fingerprint="another",
    )
    add(auto, PICTURES[0])
    settings = Settings(batch_size=8)
    Worker(database_url, [Served(served.space, counting)], settings, drain=True).run()
    assert known(auto, served.space, PICTURES[0]) == [True]
    assert known(auto, other, PICTURES[0]) == [False]


def test_a_damaged_embedding_is_not_reused(auto, start, served, counting, copies):
    add(auto, PICTURES[0])
    work(start, counting)
    auto.execute("UPDATE lookalike.embeddings_1 SET embedding = array_fill(0.5, ARRAY[1280])::halfvec")
    (image,) = add(auto, *copies(0, 1))
    work(start, counting)
    assert counting.images == 2
    assert cosine(served.encoder, embedding(auto, image), PICTURES[0]) >= 0.9999


def test_work_goes_on_if_lookups_fail(auto, start, served, counting, copies):
    nowhere = ContentLookup("postgresql://127.0.0.1:1/none")
    assert nowhere.find(served.space, [b"x" * 32]) == {}
    nowhere.close()
    add(auto, PICTURES[0])
    thread = start(encoder=counting)
    until(lambda: drained(auto))
    auto.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'lookalike worker known'"
    )
    add(auto, *copies(0, 2))
    until(lambda: drained(auto))
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == 3
    assert not jobs.failures(auto)
    thread.worker.stop()
