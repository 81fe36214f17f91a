"""The worker on a real server with the real model: any SQL client writes, images become searchable, no job is lost."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from PIL import Image

from app import db
from app.config import Settings
from app.errors import ConfigurationError, ImageError, NotFoundError, SchemaError, TransientImageError
from app.store import jobs, query_images
from app.store.jobs import Job
from tests.support.running import ROOT
from tests.support.worker import PICTURES, Gated, add, cosine, drained, embedding, one, until
from workers import __main__, writer
from workers.encode_batch import DeviceError, encode_each
from workers.encoder import Encoder
from workers.models import load_model
from workers.served_spaces import serve
from workers.tasks import Outcome, Task

pytestmark = pytest.mark.long


@pytest.fixture
def psql(server, database_url) -> Callable[[str], str]:
    def run(statement: str) -> str:
        command = [server.bin_dir / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement, database_url]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return run


def solid(path: Path, color: str) -> Path:
    Image.new("RGB", (40, 30), color).save(path)
    return path


class Fragile(Encoder):
    """The real encoder, which fails on batches with an all-black image, or on all of them."""

    def __init__(self) -> None:
        super().__init__(load_model("tf_efficientnet_lite0"), device="cpu")
        self.dead = False

    def encode(self, batch: np.ndarray) -> np.ndarray:
        if self.dead or (batch.reshape(len(batch), -1).max(axis=1) == 0).any():
            raise RuntimeError("device-side assert")
        return super().encode(batch)


# Any SQL client writes


def test_an_insert_from_psql_becomes_searchable_by_itself(auto, psql, start, served):
    start()
    psql(f"INSERT INTO lookalike.images (uri) VALUES ('{PICTURES[0]}'), ('{PICTURES[1]}')")
    until(lambda: psql("SELECT count(*) FROM lookalike.gallery") == "2")
    first = int(psql(f"SELECT id FROM lookalike.images WHERE uri = '{PICTURES[0]}'"))
    assert psql(f"SELECT id FROM lookalike.search(lookalike.embedding_of({first}), 1)") == str(first)
    assert cosine(served.encoder, embedding(auto, first), PICTURES[0]) >= 0.9999
    with Image.open(PICTURES[0]) as image:
        width, height = image.size
    found = psql("SELECT media_type, width, height, octet_length(sha256) FROM lookalike.images ORDER BY id LIMIT 1")
    assert found == f"image/jpeg|{width}|{height}|32"


def test_a_changed_uri_is_embedded_anew_and_changed_attributes_are_not(auto, psql, start, served):
    start()
    (image,) = add(auto, PICTURES[0])
    until(lambda: embedding(auto, image) is not None)
    version = "SELECT xmin FROM lookalike.embeddings_1"
    before = psql(version)
    psql("UPDATE lookalike.images SET attributes = '{\"price\": 3}', caption = 'x'")
    assert psql("SELECT count(*) FROM lookalike.jobs") == "0"
    assert psql("SELECT count(*) FROM lookalike.gallery WHERE attributes @> '{\"price\": 3}'") == "1"
    time.sleep(0.3)
    assert psql(version) == before
    gone = psql(f"UPDATE lookalike.images SET uri = '{PICTURES[5]}'; SELECT count(*) FROM lookalike.gallery")
    assert gone == "0"
    until(lambda: embedding(auto, image) is not None)
    assert cosine(served.encoder, embedding(auto, image), PICTURES[5]) >= 0.9999


def test_a_delete_is_gone_in_the_same_transaction_and_a_rollback_leaves_nothing(auto, psql, start):
    start()
    first, _ = add(auto, *PICTURES[:2])
    until(lambda: drained(auto))
    search = f"SELECT count(*) FROM lookalike.search(lookalike.embedding_of({first + 1}), 5)"
    count = psql(f"BEGIN; DELETE FROM lookalike.images WHERE id = {first}; {search}; ROLLBACK; {search}")
    assert count.split() == ["1", "2"]
    psql(f"BEGIN; INSERT INTO lookalike.images (uri) VALUES ('{PICTURES[2]}'); ROLLBACK")
    assert psql("SELECT count(*) FROM lookalike.jobs") == "0"
    psql(f"DELETE FROM lookalike.images WHERE id = {first}")
    assert psql("SELECT count(*) FROM lookalike.embeddings_1") == "1"


def test_an_idle_worker_wakes_at_the_commit(auto, start):
    start()
    add(auto, PICTURES[0])
    until(lambda: drained(auto))
    for picture in PICTURES[1:4]:
        time.sleep(0.1)
        began = time.monotonic()
        (image,) = add(auto, picture)
        until(lambda image=image: embedding(auto, image) is not None)
        assert time.monotonic() - began < 3  # some 0.1 s; polling would take up to 5


# What cannot be embedded


def test_bad_images_fail_alone_with_a_reason_and_can_be_retried(auto, tmp_path, start):
    whole = Path(PICTURES[0]).read_bytes()
    bad = {name: tmp_path / name for name in ("missing.jpg", "empty.jpg", "cut.jpg", "text.jpg")}
    bad["empty.jpg"].write_bytes(b"")
    bad["cut.jpg"].write_bytes(whole[: len(whole) // 2])
    bad["text.jpg"].write_text("no image at all")
    start()
    good = add(auto, *PICTURES[:4], *bad.values(), "relative/path.jpg", *PICTURES[4:8])
    until(lambda: drained(auto))
    failed = {Path(failure.uri).name: failure for failure in jobs.failures(auto)}
    assert set(failed) == {*bad, "path.jpg"}
    assert failed["missing.jpg"].step == "fetch"
    assert "there is no file" in failed["missing.jpg"].reason
    assert "empty" in failed["empty.jpg"].reason
    assert "cut off" in failed["cut.jpg"].reason
    assert "not an image" in failed["text.jpg"].reason
    assert "absolute" in failed["path.jpg"].reason
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == 8
    for path in bad.values():
        path.write_bytes(whole)
    assert jobs.retry(auto) == 5
    auto.execute("NOTIFY lookalike_jobs")
    until(lambda: drained(auto))
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == len(good) - 1
    assert [Path(failure.uri).name for failure in jobs.failures(auto)] == ["path.jpg"]


def test_a_poison_image_is_parked_and_its_batch_goes_through(auto, tmp_path, start):
    black = solid(tmp_path / "black.png", "black")
    add(auto, *PICTURES[:5], black, *PICTURES[5:7])
    start(encoder=Fragile(), drain=True).join()
    (failure,) = jobs.failures(auto)
    assert failure.uri == str(black)
    assert failure.step == "encode"
    assert "device-side assert" in failure.reason
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == 7


def test_a_device_that_fails_on_everything_ends_the_worker_and_blames_no_image(auto, start):
    add(auto, *PICTURES[:20])
    encoder = Fragile()
    encoder.dead = True
    thread = start(encoder=encoder)
    thread.join()
    assert isinstance(thread.errors.pop(), DeviceError)
    assert jobs.failures(auto) == []
    assert one(auto, "SELECT count(*) FROM lookalike.jobs WHERE attempts = 0 AND lease IS NULL") == 20
    assert one(auto, "SELECT count(*) FROM lookalike.workers") == 0


def test_invalid_vectors_fail_alone(lite0):
    class Broken(Encoder):
        def _forward(self, batch):
            features = super()._forward(batch)
            features[batch.reshape(len(batch), -1).max(axis=1) == 0] = np.nan
            return features

    encoder = Broken.__new__(Broken)
    encoder.__dict__.update(lite0.__dict__)
    images = np.random.default_rng(0).integers(0, 256, (3, *encoder.input_shape), np.uint8)
    images[1] = 0
    first, second, third = encode_each(encoder, list(images))
    assert isinstance(second, ImageError)
    assert "not finite" in second.reason
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(third) == pytest.approx(1, abs=1e-5)


def test_transient_errors_are_retried_with_backoff_and_parked_in_the_end(auto, served):
    ids = add(auto, "/a", "/b")
    lease = uuid4()
    claimed = jobs.claim(auto, served.space, lease=lease, most=5, lease_seconds=60)
    tasks = [
        Task(served.space, Job(j.image_id, j.uri, a, j.enqueued_at, False), lease)
        for j, a in zip(claimed, (1, 5), strict=True)
    ]
    outcomes = [Outcome(task, TransientImageError("fetch", "the host is down")) for task in tasks]
    written = writer.write_jobs(auto, outcomes, max_attempts=5)
    assert (written.released, len(written.failed)) == (1, 1)
    delay = one(auto, "SELECT extract(epoch FROM available_at - clock_timestamp()) FROM lookalike.jobs")
    assert 0.5 <= float(delay) <= 2
    (failure,) = jobs.failures(auto)
    assert failure.image_id == ids[1]
    assert failure.reason == "the host is down (tried 5 times)"


def test_an_image_that_was_lost_with_worker_after_worker_is_parked(auto, start, served):
    (killer,) = add(auto, PICTURES[0])
    for _ in range(5):
        jobs.claim(auto, served.space, lease=uuid4(), most=5, lease_seconds=0)
    add(auto, *PICTURES[1:4])
    start(drain=True).join()
    (failure,) = jobs.failures(auto)
    assert failure.image_id == killer
    assert "5 workers that had this image in hand died" in failure.reason
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == 3


def test_images_lost_once_with_a_worker_are_embedded_by_the_next(auto, start, served):
    add(auto, *PICTURES[:20])
    for _ in range(2):
        jobs.claim(auto, served.space, lease=uuid4(), most=20, lease_seconds=0)
    start(drain=True).join()
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == 20


# Concurrent changes


def test_content_that_changes_on_the_device_is_not_written(auto, start, served):
    encoder = Gated()
    (image,) = add(auto, PICTURES[0])
    start(encoder=encoder)
    assert encoder.reached.wait(20)
    auto.execute("UPDATE lookalike.images SET uri = %s", (PICTURES[3],))
    encoder.gate.set()
    until(lambda: drained(auto))
    assert cosine(served.encoder, embedding(auto, image), PICTURES[3]) >= 0.9999


def test_no_transaction_is_open_while_the_device_works(auto, start):
    encoder = Gated()
    add(auto, *PICTURES[:3])
    start(encoder=encoder)
    assert encoder.reached.wait(20)
    until(
        lambda: one(
            auto,
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'lookalike worker%%' "
            "AND datname = current_database() AND xact_start IS NOT NULL",
        )
    )
    encoder.gate.set()


def test_a_locked_row_holds_up_nothing_and_is_embedded_afterwards(auto, database_url, start):
    locked, *free = add(auto, *PICTURES[:4])
    with psycopg.connect(database_url) as other:
        other.execute("UPDATE lookalike.images SET caption = 'x' WHERE id = %s", (locked,))
        start()
        until(lambda: all(embedding(auto, image) is not None for image in free))
        assert embedding(auto, locked) is None
        other.commit()
    until(lambda: embedding(auto, locked) is not None)


def test_a_lost_connection_loses_no_job(auto, start):
    start()
    ids = add(auto, *PICTURES[:60])
    terminate = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'lookalike worker%%'"
    )
    for embedded in (1, 20):
        until(lambda embedded=embedded: one(auto, "SELECT count(*) FROM lookalike.gallery") >= embedded)
        assert one(auto, terminate) >= 1
    until(lambda: drained(auto), 40)
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == len(ids)
    assert not jobs.failures(auto)


def test_two_workers_share_the_queue(auto, start):
    ids = add(auto, *PICTURES[:64])
    threads = [start(encoder=Encoder(load_model("tf_efficientnet_lite0"), device="cpu")), start()]
    until(lambda: drained(auto), 60)
    # A worker counts an image a moment after it commits.
    until(lambda: sum(thread.worker._progress.embedded for thread in threads) == len(ids))
    assert all(thread.worker._progress.embedded for thread in threads)


def test_the_first_index_is_built_when_the_queue_is_drained(auto, start):
    add(auto, *PICTURES[:12])
    start(drain=True, index_min_rows=13).join()
    assert one(auto, "SELECT index_name FROM lookalike.space_status") is None
    start(drain=True, index_min_rows=12).join()
    assert one(auto, "SELECT index_valid FROM lookalike.space_status") is True


def test_images_that_triggers_missed_are_found(auto, start):
    auto.execute("ALTER TABLE lookalike.images DISABLE TRIGGER USER")
    add(auto, *PICTURES[:3])
    auto.execute("ALTER TABLE lookalike.images ENABLE TRIGGER USER")
    start(drain=True).join()
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == 3


def test_the_heartbeat_appears_and_disappears(auto, start):
    thread = start()
    add(auto, *PICTURES[:2])
    until(lambda: one(auto, "SELECT coalesce(max(images_embedded), 0) FROM lookalike.workers") == 2)
    assert auto.execute("SELECT state, device, spaces, alive FROM lookalike.worker_status").fetchone() == (
        "idle",
        "cpu, fp32",
        ["lite0"],
        True,
    )
    auto.execute("DELETE FROM lookalike.workers")  # the worker registers anew
    until(lambda: one(auto, "SELECT count(*) FROM lookalike.workers") == 1)
    thread.worker.stop()
    thread.join()
    assert one(auto, "SELECT count(*) FROM lookalike.workers") == 0


# Query images


def test_a_query_image_comes_back_as_its_embedding(auto, start, served):
    start()
    until(lambda: one(auto, "SELECT lookalike.live_workers(%s)", served.space.id))
    found = query_images.embed(auto, Path(PICTURES[7]).read_bytes(), timeout=10)
    assert cosine(served.encoder, found.astype(np.float64), PICTURES[7]) >= 0.9999
    with pytest.raises(ImageError, match="not an image"):
        query_images.embed(auto, b"no picture", timeout=10)


def test_query_images_go_before_a_backlog(auto, start, served):
    add(auto, *PICTURES[:300])
    start()
    until(lambda: one(auto, "SELECT count(*) FROM lookalike.gallery") > 0)
    until(lambda: one(auto, "SELECT lookalike.live_workers(%s)", served.space.id))
    query_images.embed(auto, Path(PICTURES[400]).read_bytes(), timeout=10)
    assert one(auto, "SELECT count(*) FROM lookalike.jobs") > 100


def test_query_images_wait_for_no_statement_on_jobs(database_url, auto, start, served):
    start()
    until(lambda: one(auto, "SELECT lookalike.live_workers(%s)", served.space.id))
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE lookalike.jobs IN SHARE ROW EXCLUSIVE MODE")
        auto.execute("NOTIFY lookalike_jobs")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'lookalike.jobs'::regclass"
        until(lambda: one(auto, waiting))
        query_images.embed(auto, Path(PICTURES[7]).read_bytes(), timeout=10)
        assert one(auto, waiting)


def test_a_flood_of_query_images_does_not_starve_the_backlog(database_url, auto, start, served):
    start()
    until(lambda: one(auto, "SELECT lookalike.live_workers(%s)", served.space.id))
    stop = threading.Event()
    asked = []

    def flood(number: int) -> None:
        with db.connect(database_url, autocommit=True) as own:
            while not stop.is_set():
                buffer = io.BytesIO()
                Image.new("RGB", (8, 8), (len(asked) % 256, len(asked) // 256, number)).save(buffer, "PNG")
                asked.append(number)
                query_images.embed(own, buffer.getvalue(), timeout=20)

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        add(auto, *PICTURES[:20])
        until(lambda: drained(auto))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(asked) > 3


# The process


@pytest.fixture
def process(database_url):
    """Start `python -m workers` with these settings and arguments; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **values: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "LOOKALIKE_DATABASE_URL": database_url, "OMP_NUM_THREADS": "1"}
        environment |= {f"LOOKALIKE_{name.upper()}": str(value) for name, value in values.items()}
        command = [sys.executable, "-m", "workers", *arguments]
        started.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
        )
        return started[-1]

    yield begin
    for running in started:
        if running.poll() is None:
            running.kill()
        running.communicate()


def test_sigterm_finishes_the_batch_in_hand_and_hands_back_the_rest(auto, process):
    worker = process(batch_size=4)
    # The first worker of a database makes the space, and queues what is there already.
    add(auto, *PICTURES[:400])
    until(lambda: one(auto, "SELECT count(*) FROM lookalike.gallery") > 0, 180)
    worker.send_signal(signal.SIGTERM)
    _, log = worker.communicate(timeout=20)
    assert worker.returncode == 0, log
    left = one(auto, "SELECT count(*) FROM lookalike.jobs")
    assert 0 < left < 400
    assert one(auto, "SELECT count(*) FROM lookalike.jobs WHERE lease IS NULL AND attempts = 0") == left
    assert one(auto, "SELECT count(*) FROM lookalike.gallery") == 400 - left
    assert one(auto, "SELECT count(*) FROM lookalike.workers") == 0
    assert "finishing the batch in hand" in log
    assert one(auto, "SELECT name FROM lookalike.embedding_spaces WHERE active") == "tf_efficientnet_lite0"


def test_a_killed_worker_loses_nothing(auto, process, served, start):
    ids = add(auto, *PICTURES[:80])
    worker = process(batch_size=4, lease_seconds=2)
    until(lambda: one(auto, "SELECT count(*) FROM lookalike.gallery") > 0, 180)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert one(auto, "SELECT count(*) FROM lookalike.jobs WHERE lease IS NOT NULL") > 0
    start(drain=True).join()
    rows = auto.execute("SELECT id, uri, embedding FROM lookalike.gallery ORDER BY id").fetchall()
    assert [row[0] for row in rows] == ids
    for _, uri, found in rows[::10]:
        assert cosine(served.encoder, found.to_numpy().astype(np.float64), uri) >= 0.9999
    assert not jobs.failures(auto)


def test_user_errors_end_the_process_with_one_line(new_database, monkeypatch, caplog, served, database_url):
    for url, arguments, expected in [
        (new_database(), [], "lookalike migrate"),
        (database_url, ["--space", "nowhere"], 'there is no embedding space "nowhere"'),
    ]:
        monkeypatch.setattr(__main__, "settings", lambda url=url: Settings(database_url=url))
        caplog.clear()
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            assert __main__.main(arguments) == 1
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert expected in line


def test_a_model_that_is_not_the_spaces_is_refused(auto, served):
    auto.execute("UPDATE lookalike.embedding_spaces SET fingerprint = 'another'")
    with pytest.raises(ConfigurationError, match=r"lite0.*fingerprint"):
        serve(auto, Settings(), names=["lite0"])
    with pytest.raises(NotFoundError):
        serve(auto, Settings(), names=["lite1"])
    auto.execute("UPDATE lookalike.embedding_spaces SET active = false")
    with pytest.raises(SchemaError, match="no embedding space is active"):
        serve(auto, Settings())
