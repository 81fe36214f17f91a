"""Concurrent clients on a small gallery, each with a connection of its own, and their waits for locks."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from pgvector import HalfVector

from app import db
from app.search import request
from app.search.run import run_search

ROWS = 400
DIMENSIONS = 8


def fill(url: str, *, space: str = "s", seed: int = 1) -> None:
    """Create ROWS images with the attribute n, and a space with their embeddings, in a migrated, empty database."""
    with db.connect(url) as conn:
        conn.execute(
            "INSERT INTO lookalike.images (uri, attributes)"
            " SELECT 'file:///' || n, jsonb_build_object('n', n) FROM generate_series(1, %s) n",
            (ROWS,),
        )
        embed(conn, space, seed=seed)


def embed(conn: db.Connection, space: str, *, seed: int) -> int:
    """Create a space with an embedding of every image, and return its id."""
    row = conn.execute("SELECT lookalike.create_space(%s, 'm', %s, '{}', %s)", (space, DIMENSIONS, space)).fetchone()
    assert row is not None
    made = np.random.default_rng(seed).normal(size=(ROWS, DIMENSIONS)).astype(np.float32)
    with conn.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO lookalike.embeddings_{row[0]} VALUES (%s, %s)",
            [(n, HalfVector(one / np.linalg.norm(one))) for n, one in enumerate(made, start=1)],
        )
    conn.execute("DELETE FROM lookalike.jobs")
    return int(str(row[0]))


class Clients:
    """Threads that repeat an action; collects their errors and longest lock wait."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []
        self.errors: list[str] = []
        self.rounds: dict[str, int] = {}
        self.longest = 0.0

    def loop(self, name: str, act: Callable[[db.Connection, int], object]) -> None:
        """Start a client that calls `act` repeatedly with its connection and the number of the round."""

        def run() -> None:
            with db.connect(self._url, autocommit=True, application=name) as conn:
                while not self._done.is_set():
                    try:
                        act(conn, self.rounds.get(name, 0))
                    except Exception as error:  # noqa: BLE001 — reported at the end
                        self.errors.append(f"{name}: {error!r}")
                    self.rounds[name] = self.rounds.get(name, 0) + 1

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def watch(self, conn: db.Connection, _: int) -> None:
        """Record the longest wait of a client for a lock, from pg_locks."""
        row = conn.execute(
            "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart)), 0)::float8"
            " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE NOT l.granted AND a.datname = current_database() AND a.application_name IN ('searcher', 'writer')"
        ).fetchone()
        assert row is not None
        self.longest = max(self.longest, float(str(row[0])))
        time.sleep(0.01)

    def go_on(self) -> None:
        """Return when each client has completed another round."""
        before, deadline = dict(self.rounds), time.monotonic() + 30
        while any(self.rounds.get(one.name, 0) <= before.get(one.name, 0) for one in self._threads):
            assert time.monotonic() < deadline, (before, self.rounds, self.errors)
            time.sleep(0.01)

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(30)


def search(conn: db.Connection, round_: int) -> None:
    """Search with this release's code."""
    found = run_search(conn, request.Request(image_id=round_ % 300 + 1, k=5, filter={"n": {"$lt": 390}}))
    assert len(found.hits) == 5


def plain_search(conn: db.Connection, round_: int) -> None:
    """Search with SQL that every revision from 0002 on supports."""
    rows = conn.execute('SELECT id FROM lookalike.similar(%s, 5, \'{"n": {"$lt": 390}}\')', (round_ % 300 + 1,))
    assert len(rows.fetchall()) == 5


def write(conn: db.Connection, round_: int) -> None:
    """Insert, update and delete in one transaction."""
    with conn.transaction():
        conn.execute("INSERT INTO lookalike.images (uri) VALUES (%s)", (f"file:///new/{round_}",))
        conn.execute("UPDATE lookalike.images SET uri = uri || 'x' WHERE id = %s", (350 + round_ % 20,))
        conn.execute("DELETE FROM lookalike.images WHERE uri = %s", (f"file:///new/{round_ - 20}",))


@contextmanager
def busy(url: str, searching: Callable[[db.Connection, int], object] = search) -> Iterator[Clients]:
    """Run clients within the block, and check that none got an error or waited for a second."""
    clients = Clients(url)
    for name, act in (("searcher", searching), ("writer", write), ("watcher", clients.watch)):
        clients.loop(name, act)
    try:
        clients.go_on()
        yield clients
        clients.go_on()
    finally:
        clients.stop()
    assert clients.errors == []
    assert clients.longest < 1
