"""Streams vectors into a database at a fixed rate while searches run; see bench.streaming.

The processes are spawned, so their functions must not live in a `__main__` module.
"""

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from app import db
from app.db import schema
from app.index.build import build_index, list_indexes
from app.store import jobs, spaces
from app.store.jobs import Embedded
from app.store.spaces import Space
from bench.search import data
from bench.streaming.truth import Asked, Vectors, ask, recalls

STAGES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_TICK = 0.1  # seconds between two inserts
_CLAIM = 64
_GROUP = 20  # queries in one snapshot
_SPAWN = multiprocessing.get_context("spawn")
_ENOUGH = "SELECT count(*) = 10 FROM (SELECT FROM lookalike.active_embeddings LIMIT 10) few"
# Like lookalike ingest and uploads, with the facts of the bytes.
_INSERT = """
INSERT INTO lookalike.images (uri, sha256, media_type, width, height)
SELECT 'bench:' || n, decode(lpad(to_hex(n), 64, '0'), 'hex'), 'image/jpeg', 224, 224
FROM generate_series(%s::int, %s::int - 1) n
"""


@dataclass(frozen=True)
class Stage:
    """The queries at one share of the rows; times are seconds since the first insert."""

    share: float
    began: float
    ended: float
    asked: list[Asked]


def make_space(conn: db.Connection, dimensions: int) -> Space:
    """Create the space and its index, which is never rebuilt."""
    spaces.create(
        conn,
        name="bench",
        model="none",
        weights=None,
        dimensions=dimensions,
        preprocessing={},
        fingerprint="none",
    )
    space = spaces.active(conn)
    build_index(conn, space)
    return space


def insert(url: str, rate: int, rows: int, began: float) -> None:
    """Insert `rows` images in order at `rate` a second, starting at `began` (time.monotonic)."""
    done = 0
    with db.connect(url, autocommit=True, application="bench inserts") as conn:
        while done < rows:
            time.sleep(max(0.0, began + done / rate - time.monotonic()))
            due = min(rows, int((time.monotonic() - began + _TICK) * rate))
            conn.execute(_INSERT, (done, due))
            done = due


def embed(url: str, vectors_file: str, over: Event, found: Any) -> None:  # noqa: ANN401
    """Claim and finish jobs like a worker, with vectors from the file; put (time, count) of each commit."""
    vectors = np.load(vectors_file, mmap_mode="r")
    commits: list[tuple[float, int]] = []
    with db.connect(url, autocommit=True, application="bench embeds") as conn:
        conn.execute("LISTEN lookalike_jobs")
        space = spaces.active(conn)
        while True:
            lease = uuid4()
            claimed = jobs.claim(conn, space, lease=lease, most=_CLAIM, lease_seconds=60)
            if claimed:
                embedded = [_embedded(job.image_id, job.uri, vectors) for job in claimed]
                done = jobs.finish(conn, space, lease=lease, embedded=embedded)
                commits.append((time.monotonic(), len(done)))
                # Another claim may lock a job's row for a moment: release the job at once, like the worker.
                if again := sorted({job.image_id for job in claimed} - done):
                    jobs.release(conn, space, lease=lease, image_ids=again, delay=_TICK, unattempted=True)
            elif over.is_set():
                break
            else:
                for _ in conn.notifies(timeout=_TICK, stop_after=1):
                    pass
    found.put(commits)


def _embedded(image_id: int, uri: str, vectors: Vectors) -> Embedded:
    number = int(uri.partition(":")[2])
    return Embedded(
        image_id=image_id,
        embedding=np.asarray(vectors[number], dtype=np.float32),
        sha256=number.to_bytes(32, "big"),
        media_type="image/jpeg",
        width=224,
        height=224,
    )


def search(url: str, queries_file: str, a_second: float, over: Event, found: Any) -> None:  # noqa: ANN401
    """Search `a_second` times a second from the first ten rows until `over`; put (time, seconds, missing rows)."""
    queries = np.load(queries_file)
    taken: list[tuple[float, float, int]] = []
    rng = np.random.default_rng()
    with db.connect(url, autocommit=True, application="bench searches") as conn:
        literals = [data.literal(query) for query in queries]
        while conn.execute(_ENOUGH).fetchone() != (True,):
            time.sleep(_TICK)
        due = time.monotonic()
        while not over.is_set():
            due = max(due + rng.exponential(1 / a_second), time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            rows = conn.execute(
                "SELECT * FROM lookalike.search(%s::halfvec, 10)", (literals[rng.integers(len(literals))],)
            ).fetchall()
            taken.append((began, time.monotonic() - began, 10 - len(rows)))
    found.put(taken)


def run(url: str, vectors: Vectors, queries: Vectors, *, rate: int, writers: int, folder: Path) -> dict[str, Any]:
    """Stream all vectors in at this rate; return the raw measurements."""
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    schema.upgrade(url)
    with db.connect(url, autocommit=True) as conn:
        space = make_space(conn, vectors.shape[1])
    over, found, taken = _SPAWN.Event(), _SPAWN.Queue(), _SPAWN.Queue()
    embedders = [
        _SPAWN.Process(target=embed, args=(url, str(folder / "vectors.npy"), over, found)) for _ in range(writers)
    ]
    searchers = [
        _SPAWN.Process(target=search, args=(url, str(folder / "queries.npy"), 10.0, over, taken)) for _ in range(2)
    ]
    for process in (*embedders, *searchers):
        process.start()
    time.sleep(3)  # enough to connect
    began = time.monotonic() + 1
    inserter = _SPAWN.Process(target=insert, args=(url, rate, len(vectors), began))
    inserter.start()
    stages = []
    with db.connect(url, autocommit=True, application="bench stages") as conn:
        for share in STAGES:
            _await(conn, space, int(share * len(vectors)), len(vectors) / rate * 10)
            at = time.monotonic() - began
            groups = [queries[start : start + _GROUP] for start in range(0, len(queries), _GROUP)]
            asked = [one for n, group in enumerate(groups) for one in ask(conn, group, first=n * _GROUP)]
            stages.append(Stage(share, at, time.monotonic() - began, asked))
            print(f"  {share:4.0%} after {at:6.1f} s", flush=True)
        indexes_now = [index.bytes for index in list_indexes(conn, space)]
    inserter.join()
    over.set()
    commits = sorted(one for _ in embedders for one in found.get(timeout=60))
    searches = sorted(one for _ in searchers for one in taken.get(timeout=60))
    for process in (*embedders, *searchers):
        process.join()
    return {
        "rate": rate,
        "writers": writers,
        "seconds": commits[-1][0] - began,
        "index_bytes": indexes_now[0],
        "commits": [[round(at - began, 3), count] for at, count in commits],
        "searches": [[round(at - began, 3), round(seconds, 5), short] for at, seconds, short in searches],
        "stages": [
            {
                "share": stage.share,
                "began": round(stage.began, 2),
                "ended": round(stage.ended, 2),
                "rows": [len(one.visible) for one in stage.asked[::_GROUP]],
                "short": sum(one.k - len(one.ids) for one in stage.asked),
                **recalls(stage.asked, vectors, queries),
            }
            for stage in stages
        ],
    }


def _await(conn: db.Connection, space: Space, rows: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    statement = f"SELECT count(*) FROM lookalike.{space.table_name}"  # noqa: S608
    while int(str((conn.execute(statement).fetchone() or (0,))[0])) < rows:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{rows} rows were not embedded within {patience:.0f} s")
        time.sleep(0.1)
