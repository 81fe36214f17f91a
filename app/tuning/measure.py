"""Measure the applied index spec by `lookalike.search`: answers, latency, throughput, cost of writes."""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from pgvector import HalfVector
from psycopg import sql as pgsql
from psycopg.rows import scalar_row

from app import db
from app.db import Connection, sql, translated
from app.errors import QueryCanceledError
from app.tuning.metrics import Truth, Vectors
from app.tuning.sample import Sample

STATEMENT_SECONDS = 30  # for one search; a slower index spec is skipped
_SPARE_ROWS = 32  # written in one transaction, as a worker does


@dataclass(frozen=True, slots=True)
class Timed:
    """Answers of one pass over the queries, in their order: found ids, and milliseconds as the client waits."""

    found: list[list[int]]
    milliseconds: list[float]


def prepare(conn: Connection) -> None:
    """Set the statement timeout of a measuring session."""
    conn.execute("SELECT set_config('statement_timeout', %s, false)", (f"{STATEMENT_SECONDS}s",))


def search_pass(conn: Connection, queries: Vectors, *, k: int, order: Sequence[int] | None = None) -> Timed:
    """Search by each query once, one after another, in the given order."""
    found: list[list[int]] = [[] for _ in queries]
    milliseconds = [0.0] * len(queries)
    statement = sql.query("measured_search")
    with translated(), conn.cursor(row_factory=scalar_row, binary=True) as cursor:
        for n in order if order is not None else range(len(queries)):
            values = {"query": HalfVector(queries[n]), "k": k}
            began = time.perf_counter()
            found[n] = cursor.execute(statement, values, prepare=True).fetchall()
            milliseconds[n] = (time.perf_counter() - began) * 1000
    return Timed(found, milliseconds)


def recalls(timed: Timed, truths: Sequence[Truth]) -> list[float]:
    """Return the tie-aware recall of each query."""
    return [truth.recall(ids) for truth, ids in zip(truths, timed.found, strict=True)]


def throughput(url: str, queries: Vectors, *, k: int, clients: int, seconds: float) -> float:
    """Return the queries per second that concurrent clients get answered, each on its own connection."""
    with ExitStack() as stack:
        conns = [
            stack.enter_context(db.connect(url, autocommit=True, application="lookalike tradeoffs"))
            for _ in range(clients)
        ]
        for conn in conns:
            prepare(conn)
        load = _Load(queries, k, seconds, clients)
        threads = [threading.Thread(target=load.run, args=(conn, n), daemon=True) for n, conn in enumerate(conns)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if load.errors:
        raise load.errors[0]
    return load.done / load.seconds


class _Load:
    """The shared state of clients that search concurrently."""

    def __init__(self, queries: Vectors, k: int, seconds: float, clients: int) -> None:
        self._queries = [HalfVector(one) for one in queries]
        self._k = k
        self._duration = seconds
        self._start = threading.Barrier(clients, action=self._begin)
        self._lock = threading.Lock()
        self.done = 0
        self.seconds = seconds
        self.errors: list[Exception] = []

    def _begin(self) -> None:
        self._began = time.perf_counter()

    def run(self, conn: Connection, number: int) -> None:
        done = 0
        try:
            with translated(), conn.cursor(row_factory=scalar_row, binary=True) as cursor:
                statement = sql.query("measured_search")
                at = number * 7919  # each client starts at another query
                # The first searches of a session compile the SQL functions.
                for n in (at, at + 1):
                    self._search(cursor, statement, n)
                self._start.wait(timeout=60)
                while time.perf_counter() - self._began < self._duration:
                    self._search(cursor, statement, at + done)
                    done += 1
        except Exception as error:  # noqa: BLE001 — throughput raises it
            self._start.abort()
            if not isinstance(error, threading.BrokenBarrierError):
                self.errors.append(error)
        with self._lock:
            self.done += done
            self.seconds = max(self.seconds, time.perf_counter() - self._began if done else 0)

    def _search(self, cursor: "object", statement: str, n: int) -> None:
        values = {"query": self._queries[n % len(self._queries)], "k": self._k}
        cursor.execute(statement, values, prepare=True).fetchall()  # type: ignore[attr-defined]


def insert_ms(conn: Connection, sample: Sample) -> float:
    """Return the milliseconds per row of writing embeddings as a worker does, in transactions of 32.

    It deletes the rows afterwards, but an index keeps dead elements, so measure this last.
    """
    statement = pgsql.SQL("INSERT INTO {} (image_id, embedding) VALUES (%s, %s)").format(
        pgsql.Identifier("lookalike", sample.space.table_name)
    )
    rows = [(one, HalfVector(vector)) for one, vector in zip(sample.spare_ids, sample.spare, strict=True)]
    seconds = 0.0
    with translated(), conn.cursor(binary=True) as cursor:
        for start in range(0, len(rows), _SPARE_ROWS):
            part = rows[start : start + _SPARE_ROWS]
            began = time.perf_counter()
            with conn.transaction():
                cursor.executemany(statement, part)
            seconds += time.perf_counter() - began
        cursor.execute(
            pgsql.SQL("DELETE FROM {} WHERE image_id = ANY (%s)").format(
                pgsql.Identifier("lookalike", sample.space.table_name)
            ),
            (sample.spare_ids,),
        )
    return seconds * 1000 / max(len(rows), 1)


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile by linear interpolation."""
    return float(np.quantile(np.asarray(values), share))


def is_timeout(error: Exception) -> bool:
    """Return whether the time limit of `prepare` ended a search."""
    return isinstance(error, QueryCanceledError)
