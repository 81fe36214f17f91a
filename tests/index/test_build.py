"""ANN indexes: rebuild beside the old one, progress, cancel, interrupt and resume, while others search."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import psycopg
import pytest

from app import db
from app.db import sql
from app.errors import (
    BuildRunningError,
    ConfigurationError,
    ConflictError,
    DatabaseUnavailableError,
    InvalidInputError,
    NotFoundError,
)
from app.index.build import Rebuilt, build_index, cancel_build, list_indexes, rebuild_index
from app.index.resources import Needs, Resources, check_disk, estimate_build, parse_memory, shortage
from app.index.running import running_builds
from app.index.target import target
from app.search import functions
from app.store import spaces
from app.store.spaces import Space
from tests.support import running
from tests.support.cli import Command, runner
from tests.support.gallery_data import filled, states

ROWS = 300


@pytest.fixture
def space(auto: db.Connection) -> Space:
    """An active space of 300 embeddings, with an index."""
    made = filled(auto, ROWS)
    assert build_index(auto, made)
    return made


def oid(conn: db.Connection) -> object:
    row = conn.execute("SELECT to_regclass('lookalike.embeddings_1_hnsw')::oid").fetchone()
    return row[0] if row else None


def wanted(conn: db.Connection, space: Space) -> bool:
    row = conn.execute(sql.query("index_wanted"), {"space_id": space.id, "min_rows": 500}).fetchone()
    return bool(row and row[0])


@contextmanager
def brake(url: str) -> Iterator[db.Connection]:
    """Hold a snapshot. Every CONCURRENTLY build waits for it at its end, when the index is filled but not yet valid."""
    with db.connect(url) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT 1")
        yield conn


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def at_brake(conn: db.Connection) -> bool:
    return any(one.phase == "waiting for old snapshots" for one in running_builds(conn))


class Builder(threading.Thread):
    """A session that rebuilds. `outcome` is its result or its exception."""

    def __init__(self, url: str, space: Space, **options: int) -> None:
        super().__init__()
        self.url, self.space, self.options = url, space, options
        self.outcome: object = None
        self.start()

    def run(self) -> None:
        with db.connect(self.url, autocommit=True, application="builder") as conn:
            try:
                self.outcome = rebuild_index(conn, self.space, **self.options)
            except Exception as error:  # noqa: BLE001 — the test checks it
                self.outcome = error


def test_a_rebuild_puts_a_new_index_in_the_old_ones_place_and_records_it(auto: db.Connection, space: Space) -> None:
    before = oid(auto)
    done = rebuild_index(auto, space, m=8, ef_construction=40)
    assert oid(auto) != before
    assert (done.index.name, done.index.m, done.index.ef_construction) == ("embeddings_1_hnsw", 8, 40)
    assert done.bytes_before > 0
    assert states(auto) == {"embeddings_1_hnsw": True}
    assert spaces.active(auto).index_options == {"kind": "hnsw", "m": 8, "ef_construction": 40}
    again = rebuild_index(auto, spaces.active(auto))
    assert (again.index.m, again.index.ef_construction, again.resumed) == (8, 40, False)
    assert not build_index(auto, space)


@pytest.mark.parametrize(
    "options", [{"m": 1}, {"m": 40}, {"ef_construction": 1001}, {"m": 101, "ef_construction": 300}]
)
def test_options_out_of_bounds_are_refused(auto: db.Connection, space: Space, options: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match=r"2 to 100|twice m|4 to 1000"):
        rebuild_index(auto, space, **options)
    assert states(auto) == {"embeddings_1_hnsw": True}


def test_the_old_index_serves_until_the_new_one_is_valid(database_url: str, auto: db.Connection, space: Space) -> None:
    before = oid(auto)
    with brake(database_url) as holder:
        builder = Builder(database_url, space)
        wait_for(lambda: at_brake(auto))
        (now,) = running_builds(auto)
        assert (now.space, now.application, now.ours, now.creating) == ("s", "builder", True, True)
        assert f"lookalike (pid {holder.info.backend_pid}, in a transaction" in str(now.waits_for)
        assert states(auto) == {"embeddings_1_hnsw": True, "embeddings_1_hnsw_new": False}
        with pytest.raises(
            BuildRunningError, match=rf"builder \(pid {now.pid}\) is building the index of space s: wait"
        ):
            rebuild_index(auto, space)
        assert not build_index(auto, space)
        assert not wanted(auto, space)
        with auto.transaction():
            auto.execute("SET LOCAL enable_seqscan = off")
            plan = auto.execute(
                "EXPLAIN SELECT id FROM lookalike.gallery ORDER BY embedding <-> lookalike.embedding_of(1) LIMIT 5"
            ).fetchall()
        assert "embeddings_1_hnsw " in str(plan)
    builder.join(30)
    assert isinstance(builder.outcome, Rebuilt)
    assert oid(auto) != before
    assert states(auto) == {"embeddings_1_hnsw": True}


def test_another_session_cancels_and_nothing_invalid_is_left(
    database_url: str, auto: db.Connection, space: Space
) -> None:
    before = oid(auto)
    with brake(database_url):
        builder = Builder(database_url, space, m=8)
        wait_for(lambda: at_brake(auto))
        assert cancel_build(auto, space).application == "builder"
        builder.join(30)
    assert isinstance(builder.outcome, ConflictError)
    assert "was cancelled" in str(builder.outcome)
    assert oid(auto) == before
    assert states(auto) == {"embeddings_1_hnsw": True}
    assert spaces.active(auto).index_options["m"] == 16
    with pytest.raises(NotFoundError, match="no index of space s is being built"):
        cancel_build(auto, space)


def test_a_build_by_hand_is_listed_and_named(database_url: str, auto: db.Connection, space: Space) -> None:
    def by_hand() -> None:
        with db.connect(database_url, autocommit=True, application="psql") as conn:
            conn.execute("REINDEX INDEX CONCURRENTLY lookalike.embeddings_1_hnsw")

    with brake(database_url):
        thread = threading.Thread(target=by_hand)
        thread.start()
        wait_for(lambda: at_brake(auto))
        with pytest.raises(BuildRunningError, match="psql"):
            rebuild_index(auto, space)
        with pytest.raises(ConflictError, match=r"by hand; SELECT pg_cancel_backend"):
            cancel_build(auto, space)
    thread.join(30)
    assert states(auto) == {"embeddings_1_hnsw": True}


def test_the_next_build_drops_what_a_killed_backend_left(database_url: str, auto: db.Connection, space: Space) -> None:
    with brake(database_url):
        builder = Builder(database_url, space)
        wait_for(lambda: at_brake(auto))
        auto.execute("SELECT pg_terminate_backend(%s)", (running_builds(auto)[0].pid,))
        builder.join(30)
    assert isinstance(builder.outcome, DatabaseUnavailableError)
    assert states(auto) == {"embeddings_1_hnsw": True, "embeddings_1_hnsw_new": False}
    assert wanted(auto, space)
    assert not build_index(auto, space)
    assert states(auto) == {"embeddings_1_hnsw": True}
    assert not wanted(auto, space)


def test_leftovers_of_reindex_are_dropped(database_url: str, auto: db.Connection, space: Space) -> None:
    with brake(database_url), db.connect(database_url, autocommit=True) as conn:
        conn.execute("SET statement_timeout = '500ms'")
        for index in ("embeddings_1_hnsw", "embeddings_1_pkey"):
            with pytest.raises(psycopg.errors.QueryCanceled):
                conn.execute(f"REINDEX INDEX CONCURRENTLY lookalike.{index}")
    assert states(auto)["embeddings_1_hnsw_ccnew"] is False
    rebuild_index(auto, space)
    left = auto.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone()
    assert left == (0,)
    assert states(auto) == {"embeddings_1_hnsw": True}


def test_a_build_survives_its_killed_client(database_url: str, auto: db.Connection, space: Space) -> None:
    before = oid(auto)
    command = [sys.executable, "-m", "app.cli", "index", "rebuild", "--m", "8"]
    with brake(database_url):
        with subprocess.Popen(command, env=running.environment(database_url), stderr=subprocess.DEVNULL) as client:
            wait_for(lambda: at_brake(auto))
            client.kill()
        assert [one.application for one in running_builds(auto)] == ["lookalike cli"]
    wait_for(lambda: not running_builds(auto))
    assert states(auto) == {"embeddings_1_hnsw": True, "embeddings_1_hnsw_new": True}
    assert wanted(auto, space)
    done = rebuild_index(auto, space, m=8)
    assert done.resumed
    assert oid(auto) != before
    assert states(auto) == {"embeddings_1_hnsw": True}
    assert spaces.active(auto).index_options["m"] == 8


def test_a_rebuild_interrupted_between_drop_and_rename_is_finished(auto: db.Connection, space: Space) -> None:
    auto.execute("ALTER INDEX lookalike.embeddings_1_hnsw RENAME TO embeddings_1_hnsw_new")
    assert not build_index(auto, space)
    assert states(auto) == {"embeddings_1_hnsw": True}


def test_searches_are_right_while_indexes_come_and_go(database_url: str, auto: db.Connection, space: Space) -> None:
    queries = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    exact = "SELECT e.image_id FROM lookalike.embeddings_1 e ORDER BY (e.embedding <-> %s::halfvec) + 0 LIMIT 10"
    truth = [[row[0] for row in auto.execute(exact, (str(one.tolist()),))] for one in queries]
    stop = threading.Event()
    wrong: list[object] = []
    asked = [0]

    def ask() -> None:
        with db.connect(database_url, autocommit=True) as conn:
            while not stop.is_set():
                number = asked[0] % len(queries)
                asked[0] += 1
                try:
                    answer = functions.search(conn, queries[number], k=10)
                    found = [one.image.id for one in answer.hits]
                    if len(set(found) & set(truth[number])) < 9:
                        wrong.append((found, truth[number]))
                except Exception as error:  # noqa: BLE001 — the test checks it
                    wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for m in (8, 16, 12):
            rebuild_index(auto, space, m=m)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert asked[0] > 10
    assert not wrong


def test_a_graph_that_does_not_fit_is_logged(auto: db.Connection, caplog: pytest.LogCaptureFixture) -> None:
    space = filled(auto, 3000)
    small = Resources(memory=2**20, workers=0)
    assert shortage(estimate_build(auto, target(space))) is None
    assert build_index(auto, space, resources=small)
    assert "hnsw graph no longer fits into maintenance_work_mem after" in caplog.text
    assert "maintenance_work_mem is 1.0 MB: after some" in caplog.text
    assert auto.execute("SELECT current_setting('maintenance_work_mem') = '1MB'").fetchone() == (False,)


def test_the_size_of_an_index_is_estimated(auto: db.Connection, space: Space) -> None:
    needs = estimate_build(auto, target(space))
    (index,) = list_indexes(auto, space)
    assert needs.rows == ROWS
    assert needs.index == pytest.approx(index.bytes, rel=0.1)
    assert needs.disk_free is not None
    assert needs.machine_memory is not None


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources(memory=1000), "too few"),
        (Resources(memory=2**60), "more than the machine has"),
        (Resources(workers=65), r"65 parallel workers: choose 0 to \d+"),
        (Resources(workers=-1), "-1 parallel workers"),
    ],
)
def test_resources_have_bounds(auto: db.Connection, space: Space, resources: Resources, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        rebuild_index(auto, space, resources=resources)
    assert states(auto) == {"embeddings_1_hnsw": True}


def test_a_full_disk_is_reported_before_the_build() -> None:
    needs = Needs(rows=10, graph=1, memory=1, workers=0, index=2**30, disk=2**31, disk_free=2**20, machine_memory=None)
    with pytest.raises(ConfigurationError, match=r"take about 2\.0 GB, and 1\.0 MB are free"):
        check_disk(needs)


@pytest.mark.parametrize(("text", "size"), [("4GB", 2**32), ("512 mb", 2**29), ("1.5GB", 3 * 2**29)])
def test_memory_has_the_notation_of_postgresql(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.fixture
def lookalike(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Command:
    return runner(monkeypatch, database_url)


def test_the_commands(lookalike: Command, database_url: str, auto: db.Connection, space: Space) -> None:
    (listed,) = json.loads(lookalike("index", "ls", "--json").stdout)
    assert (listed["name"], listed["valid"], listed["m"]) == ("embeddings_1_hnsw", True, 16)
    assert "no index is being built" in lookalike("index", "status").stdout
    done = lookalike("index", "rebuild", "--m", 8, "--memory", "64MB", "--workers", 0)
    assert done.exit_code == 0
    assert "embeddings_1_hnsw: m 8, ef_construction 64, built in" in done.stdout
    assert "maintenance_work_mem 64.0 MB" in done.stderr
    assert json.loads(lookalike("index", "rebuild", "s", "--json").stdout)["rebuilt"]["index"]["m"] == 8
    with brake(database_url):
        builder = Builder(database_url, space)
        wait_for(lambda: at_brake(auto))
        shown = lookalike("index", "status").stdout
        assert "waiting for old snapshots" in shown
        assert "in a transaction for" in shown
        (listed,) = json.loads(lookalike("index", "status", "--json").stdout)["builds"]
        assert listed["waits_for"]
        assert "being built" in lookalike("index", "ls").stdout
        assert "stopped building the index of s" in lookalike("index", "cancel").stdout
        builder.join(30)
    assert states(auto) == {"embeddings_1_hnsw": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rebuild", "--memory", "much"), '"much" is not a size of memory; write it as 512MB or 4GB'),
        (("rebuild", "--m", "50"), "less than twice m"),
        (("rebuild", "nowhere"), 'there is no embedding space "nowhere"; there are: s'),
        (("cancel",), "no index of space s is being built"),
    ],
)
def test_mistakes(lookalike: Command, space: Space, arguments: tuple[str, ...], message: str) -> None:
    result = lookalike("index", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
