"""The API under gunicorn, and through an outage of its database."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from flask.testing import FlaskClient

from app.db import embedded, schema
from tests.conftest import FAST
from tests.support.api import fill
from tests.support.gunicorn import fetched, gunicorn

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
# The block around `serve` in the CLI must be left only once, although every worker process exits too.


def warm(url: str) -> int:
    """Return the number of API connections that are idle after a search or another statement."""
    with psycopg.connect(url) as conn:
        found = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lookalike api' "
            "AND datname = current_database() AND state = 'idle' AND query LIKE '%lookalike.%'"
        ).fetchone()
    assert found is not None
    return int(found[0])


def test_gunicorn(gallery_url: str, tmp_path: Path) -> None:
    with gunicorn(gallery_url, tmp_path) as (address, process):
        assert fetched(f"{address}/healthz") == (200, {"status": "ok"})
        assert fetched(f"{address}/readyz")[0] == 200
        # Two processes with two threads: all connections are open and have searched before the first request.
        deadline = time.monotonic() + 30
        while warm(gallery_url) != 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)

        def search(n: int) -> tuple[int, int]:
            status, answer = fetched(f"{address}/v1/search", {"image_id": n % 29 + 1, "k": 5})
            return status, len(answer["results"])  # type: ignore[arg-type]

        with ThreadPoolExecutor(16) as threads:
            assert set(threads.map(search, range(200))) == {(200, 5)}
        assert warm(gallery_url) == 4
        process.terminate()
        out, err = process.communicate(timeout=40)
        assert process.returncode == 0, err
        assert out == f"left by {process.pid}\n"
        assert "Traceback" not in err


HANDOVER = """
import os, signal, sys, time
from app.web.graceful_reload import Handover

ended = []

def end(*_):
    print("ended", flush=True)
    ended.append(1)

signal.signal(signal.SIGTERM, end)
handover = Handover(1)
handover.ready()
if "reload" in sys.argv:
    handover.begin()
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
print("ready", flush=True)
if "reload" in sys.argv:
    if os.fork() == 0:
        handover.ready()
        os._exit(0)
    while not ended:
        time.sleep(0.01)
"""


@pytest.mark.parametrize(("arguments", "out"), [((), ["ended", "ended", "ready"]), (("reload",), ["ready", "ended"])])
def test_a_process_that_is_replaced_ends_when_its_successor_is_ready(
    arguments: tuple[str, ...], out: list[str]
) -> None:
    """Without a successor it stops at once."""
    done = subprocess.run(
        [sys.executable, "-c", HANDOVER, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == out


def test_a_reload_loses_no_request(gallery_url: str, tmp_path: Path) -> None:
    """SIGHUP replaces the processes; meanwhile each request is answered by an old or a new one."""
    with gunicorn(gallery_url, tmp_path) as (address, process):
        stop = threading.Event()

        def search(_: int) -> set[int]:
            statuses = set()
            while not stop.is_set():
                statuses.add(fetched(f"{address}/v1/search", {"image_id": 1, "k": 5})[0])
            return statuses

        def children() -> set[str]:
            return set(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split())

        with ThreadPoolExecutor(4) as threads:
            running = threads.map(search, range(4))
            try:
                for _ in range(2):
                    before = children()
                    process.send_signal(signal.SIGHUP)
                    deadline = time.monotonic() + 60
                    while children() & before or len(children()) != 2:
                        assert time.monotonic() < deadline
                        time.sleep(0.05)
            finally:
                stop.set()
            assert set.union(*running) == {200}


def test_connections_cut_by_the_server_are_replaced(client: FlaskClient, gallery_url: str) -> None:
    assert client.get("/v1/images/1").status_code == 200
    with psycopg.connect(gallery_url, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE application_name = 'lookalike api' AND datname = current_database()"
        )
    assert client.get("/v1/images/1").status_code == 200


def test_an_outage_of_the_database(make_client: Callable[..., FlaskClient]) -> None:
    """Requests continue: each gets a response or Retry-After, and the service recovers by itself."""
    home = Path(tempfile.mkdtemp(prefix="lookalike-outage-"))
    home.chmod(0o755)
    body = {"image_id": 1, "k": 3}
    answers: set[tuple[int, str | None, bool]] = set()
    stop = threading.Event()

    def keep_asking(client: FlaskClient) -> None:
        while not stop.is_set():
            response = client.post("/v1/search", json=body)
            code = response.json.get("error", {}).get("code")
            answers.add((response.status_code, code, "Retry-After" in response.headers))

    try:
        with ThreadPoolExecutor(3) as threads:
            with embedded.running(home, settings=FAST) as server:
                schema.upgrade(server.url)
                fill(server.url)
                client = make_client(server.url)
                before = client.post("/v1/search", json=body)
                assert before.status_code == 200
                asking = [threads.submit(keep_asking, client.application.test_client()) for _ in range(3)]
            for attempt in range(3):
                began = time.monotonic()
                response = client.post("/v1/search", json=body)
                assert response.status_code == 503
                assert time.monotonic() - began < (6 if attempt == 0 else 2)
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 503
            with gunicorn(server.url, home, ("-m", "app.cli", "serve")) as (
                address,
                _,
            ):  # starts without the database
                with pytest.raises(urllib.error.HTTPError, match="503"):
                    fetched(f"{address}/v1/search", body)
                with embedded.running(home, settings=FAST):
                    deadline = time.monotonic() + 10
                    while client.get("/v1/images/1").status_code != 200:
                        assert time.monotonic() < deadline
                        time.sleep(0.1)
                    assert client.get("/readyz").status_code == 200
                    assert client.post("/v1/search", json=body).json == before.json
                    stop.set()
                    for one in asking:
                        one.result()
                    assert fetched(f"{address}/v1/search", body) == (200, before.json)
        assert answers == {(200, None, False), (503, "database_unavailable", True)}
    finally:
        stop.set()
        shutil.rmtree(home, ignore_errors=True)
