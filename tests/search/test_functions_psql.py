"""A picture embedded from psql: through a live worker, and what is said where there is none."""

import base64
import os
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector

from app import db
from app.db.embedded import EmbeddedServer
from app.errors import NoWorkerError, QueryTimeoutError
from tests.support.gallery_data import make_space
from tests.support.running import Running

PICTURE = Path(__file__).parents[2] / "app/demo/gallery/mammals-01.jpg"
PLAIN = ["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-At"]


def psql(server: EmbeddedServer, url: str, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [server.bin_dir / "psql", url, *PLAIN, "-f", "-"],
        input=script,
        env={**os.environ, "PICTURE": str(PICTURE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_psql_searches_by_a_local_file(server: EmbeddedServer, live: Running) -> None:
    done = psql(
        server,
        live.url,
        """
        \\set picture `base64 < "$PICTURE"`
        CALL lookalike.embed_image(decode(:'picture', 'base64')) \\gset
        SELECT i.uri FROM lookalike.search(:'embedding', 3) s JOIN lookalike.images i USING (id) ORDER BY s.distance;
        """,
    )
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    assert len(rows) == 3
    assert rows[0].endswith("mammals-01.jpg")


def test_the_second_time_the_answer_is_there_already(live: Running) -> None:
    with psycopg.connect(live.url, autocommit=True) as conn:
        first = conn.execute("CALL lookalike.embed_image(%s)", (PICTURE.read_bytes(),)).fetchone()
        began = time.monotonic()
        assert conn.execute("CALL lookalike.embed_image(%s)", (PICTURE.read_bytes(),)).fetchone() == first
        assert time.monotonic() - began < 1


def test_bytes_that_are_no_picture_are_refused_with_the_reason(server: EmbeddedServer, live: Running) -> None:
    noise = base64.b64encode(b"no picture").decode()
    done = psql(server, live.url, f"CALL lookalike.embed_image(decode('{noise}', 'base64'));")
    assert done.returncode == 3
    assert "the picture cannot be embedded: " in done.stderr


@pytest.fixture
def auto(database_url):
    with db.connect(database_url, autocommit=True) as conn:
        make_space(conn, 8)
        yield conn


def begin_worker(conn) -> int:
    space = conn.execute("SELECT id FROM lookalike.embedding_spaces").fetchone()[0]
    return conn.execute("SELECT lookalike.begin_worker('test:1', '0', 'cpu', %s::smallint[])", ([space],)).fetchone()[0]


def test_without_a_worker_it_is_said_at_once(auto) -> None:
    began = time.monotonic()
    message = r"no worker is alive for embedding space small.*lookalike worker"
    with pytest.raises(NoWorkerError, match=message), db.translated():
        auto.execute("CALL lookalike.embed_image('abc')")
    assert time.monotonic() - began < 2
    assert auto.execute("SELECT count(*) FROM lookalike.query_images").fetchone() == (0,)


def test_a_worker_that_does_not_answer_runs_into_the_timeout(auto) -> None:
    begin_worker(auto)
    with pytest.raises(QueryTimeoutError, match=r"did not embed the picture within 0\.3 s"), db.translated():
        auto.execute("CALL lookalike.embed_image('abc', timeout => 0.3)")
    # The question stands, and a later call gets its answer.
    assert auto.execute("SELECT count(*) FROM lookalike.query_images").fetchone() == (1,)


def test_an_answer_ends_the_wait_and_a_dead_worker_too(auto, database_url) -> None:
    worker = begin_worker(auto)
    got: list[object] = []

    def ask(image: bytes) -> threading.Thread:
        def call() -> None:
            with db.connect(database_url, autocommit=True) as own:
                try:
                    got.append(own.execute("CALL lookalike.embed_image(%s, NULL, 20)", (image,)).fetchone()[0])
                except psycopg.Error as error:
                    got.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        asked = "SELECT 1 FROM lookalike.query_images WHERE sha256 = sha256(%s)"
        while not auto.execute(asked, (image,)).fetchone():
            assert thread.is_alive(), got
            time.sleep(0.01)
        return thread

    thread = ask(b"one")
    answer = HalfVector(np.eye(8, dtype=np.float32)[0])
    auto.execute(
        "SELECT lookalike.answer_queries(space_id, ARRAY[sha256], %s, ARRAY[NULL]) FROM lookalike.query_images",
        ([answer],),
    )
    thread.join(10)
    assert got == [answer]

    thread = ask(b"two")
    auto.execute("UPDATE lookalike.workers SET heartbeat_at = now() - interval '1 minute' WHERE id = %s", (worker,))
    thread.join(10)
    assert isinstance(got[1], psycopg.Error)
    assert got[1].sqlstate == "LK001"


def test_a_lost_question_is_asked_again(auto, database_url) -> None:
    begin_worker(auto)
    stop = threading.Event()

    def lose_one_and_answer() -> None:
        with db.connect(database_url, autocommit=True) as own:
            while not own.execute("DELETE FROM lookalike.query_images RETURNING 1").fetchone():
                time.sleep(0.01)
            answer = HalfVector(np.eye(8, dtype=np.float32)[1])
            while not stop.is_set():
                own.execute(
                    "SELECT lookalike.answer_queries(space_id, ARRAY[sha256], %s, ARRAY[NULL])"
                    " FROM lookalike.query_images",
                    ([answer],),
                )
                time.sleep(0.01)

    thread = threading.Thread(target=lose_one_and_answer)
    thread.start()
    try:
        assert auto.execute("CALL lookalike.embed_image('abc', timeout => 10)").fetchone()[0] is not None
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("values", "message"),
    [("NULL", "the image is NULL"), ("''", "the image is empty"), ("'a', NULL, -1", "timeout is -1")],
)
def test_bad_values_are_refused_by_name(auto, values, message) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=message):
        auto.execute(f"CALL lookalike.embed_image({values})")


def test_inside_a_transaction_it_is_refused(auto) -> None:
    begin_worker(auto)
    with auto.transaction(), pytest.raises(psycopg.errors.InvalidTransactionTermination), auto.transaction():
        auto.execute("CALL lookalike.embed_image('abc')")
