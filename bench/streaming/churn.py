"""Recall, size and speed before and after half of the rows change: left alone, vacuumed, and with `maintain`.

Each way starts from a copy of the same database. Autovacuum is off, so that VACUUM is measured by itself.
"""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app import db
from app.index import maintenance
from app.index.build import list_indexes, rebuild_index
from app.store import jobs, spaces
from app.store.jobs import Embedded
from app.store.spaces import Space
from bench.search import data
from bench.streaming.truth import DEPTHS, VISIBLE, Asked, Vectors, ask, recall_at, recalls

_NEAREST = """
SELECT split_part(i.uri, ':', 2)::int
FROM (SELECT e.image_id, e.embedding <-> %s::halfvec AS distance FROM lookalike.active_embeddings e
      ORDER BY distance LIMIT 10) n
JOIN lookalike.images i ON i.id = n.image_id ORDER BY n.distance
"""
_BATCH = 500
_ROUNDS = 3
WAYS = ("left alone", "VACUUM", "lookalike maintain")


def run(
    admin: str,
    url: str,
    vectors: Vectors,
    queries: Vectors,
    *,
    make_space: Callable[[db.Connection, int], Space],
    seed: int,
) -> dict[str, Any]:
    """Load four fifths of the vectors, change half of these rows with the rest, and measure each way."""
    rng = np.random.default_rng(seed)
    initial = len(vectors) * 4 // 5
    with db.connect(url, autocommit=True) as conn:
        conn.execute("ALTER SYSTEM SET autovacuum = off")
        conn.execute("SELECT pg_reload_conf()")
        space = make_space(conn, vectors.shape[1])
        _put(conn, space, np.arange(initial), vectors)
        rebuild_index(conn, space)  # index after the load, like a gallery
        conn.execute(f"VACUUM (ANALYZE) lookalike.{space.table_name}")
        result: dict[str, Any] = {"before": _measure(conn, space, vectors, queries)}
        began = time.monotonic()
        changes = _churn(conn, space, initial, vectors, rng)
        result["churn"] = {**changes, "rows": initial, "seconds": time.monotonic() - began}
    copies = {way: make_conninfo(url, dbname=f"churned_{n}") for n, way in enumerate(WAYS)}
    with psycopg.connect(admin, autocommit=True) as conn:
        for copy in copies.values():
            name, source = conninfo_to_dict(copy)["dbname"], conninfo_to_dict(url)["dbname"]
            conn.execute(f"DROP DATABASE IF EXISTS {name}")
            conn.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
    for way, copy in copies.items():
        with db.connect(copy, autocommit=True) as conn:
            result[way] = _on(conn, way, dead=changes["deleted"] + changes["updated"])
            result[way] |= _measure(conn, spaces.active(conn), vectors, queries)
    return result


def _on(conn: db.Connection, way: str, *, dead: int) -> dict[str, Any]:
    """Apply one way; return its seconds and, for maintain, its reason."""
    space = spaces.active(conn)
    began = time.monotonic()
    why = None
    if way == "VACUUM":
        conn.execute(f"VACUUM (ANALYZE) lookalike.{space.table_name}")
    elif way == "lookalike maintain":
        # A copied database has no statistics, like one after a crash: ANALYZE counts the dead rows.
        conn.execute(f"ANALYZE lookalike.{space.table_name}")
        conn.execute("SELECT pg_stat_force_next_flush()")
        (churn,) = maintenance.read_churn(conn)
        decision = maintenance.decide(churn)
        if not (decision.rebuild and decision.vacuum):
            raise ValueError(f"{dead} rows are dead, but maintain does nothing: {decision.why}")
        maintenance.maintain(conn, decision)
        why = decision.why
    else:
        conn.execute(f"ANALYZE lookalike.{space.table_name}")
    return {"seconds": time.monotonic() - began, "why": why}


def _put(conn: db.Connection, space: Space, numbers: Any, vectors: Vectors) -> None:  # noqa: ANN401
    """Insert images with these numbers and write their embeddings, like a worker."""
    for start in range(0, len(numbers), _BATCH):
        uris = [f"bench:{number}" for number in numbers[start : start + _BATCH]]
        conn.execute("INSERT INTO lookalike.images (uri) SELECT unnest(%s::text[])", (uris,))
        _work(conn, space, vectors)


def _work(conn: db.Connection, space: Space, vectors: Vectors) -> None:
    lease = uuid4()
    while claimed := jobs.claim(conn, space, lease=lease, most=_BATCH, lease_seconds=600):
        embedded = [
            Embedded(
                image_id=job.image_id,
                embedding=vectors[int(job.uri.partition(":")[2])],
                sha256=int(job.uri.partition(":")[2]).to_bytes(32, "big"),
                media_type="image/jpeg",
                width=224,
                height=224,
            )
            for job in claimed
        ]
        jobs.finish(conn, space, lease=lease, embedded=embedded)


def _churn(
    conn: db.Connection, space: Space, initial: int, vectors: Vectors, rng: np.random.Generator
) -> dict[str, int]:
    """Change half of the rows: a quarter get another picture, a quarter are deleted, and as many are inserted."""
    spare = np.arange(initial, len(vectors))
    chosen = rng.choice(initial, initial // 2, replace=False)
    updated, deleted = np.split(chosen, [len(chosen) // 2])
    # Inserts use vectors not stored yet, then those of deleted rows, so that the number of rows stays the same.
    fresh = np.concatenate([spare, deleted])[: len(updated) + len(deleted)]
    rounds = 20
    parts = zip(
        *(np.array_split(part, rounds) for part in (updated, deleted, fresh[: len(updated)], fresh[len(updated) :])),
        strict=True,
    )
    inserted = 0
    for update, delete, replacing, new in parts:
        uris = [f"bench:{number}" for number in delete]
        conn.execute("DELETE FROM lookalike.images WHERE uri = ANY (%s)", (uris,))
        conn.execute(
            "UPDATE lookalike.images i SET uri = u.new FROM unnest(%s::text[], %s::text[]) u (old, new) "
            "WHERE i.uri = u.old",
            ([f"bench:{n}" for n in update], [f"bench:{n}" for n in replacing]),
        )
        _work(conn, space, vectors)
        _put(conn, space, new, vectors)
        inserted += len(new)
    return {"updated": len(updated), "deleted": len(deleted), "inserted": inserted}


def _plain(conn: db.Connection, queries: Vectors, vectors: Vectors) -> dict[str, float]:
    """Return the recall of pgvector's scan with its defaults: ef_search 40, no iterative scan."""
    asked = []
    with conn.transaction():
        conn.execute("SET LOCAL hnsw.ef_search = 40")
        conn.execute("SET LOCAL hnsw.iterative_scan = off")
        conn.execute("SET LOCAL enable_seqscan = off")
        row: Any = conn.execute(VISIBLE).fetchone()
        visible = np.array(row[0], dtype=np.int64)
        for n, query in enumerate(queries):
            rows: list[Any] = conn.execute(_NEAREST, (data.literal(query),)).fetchall()
            asked.append(Asked(n, DEPTHS[0], [one[0] for one in rows], visible))
    return recall_at(asked, DEPTHS[0], vectors, queries)


def _measure(conn: db.Connection, space: Space, vectors: Vectors, queries: Vectors) -> dict[str, Any]:
    """Return recall in one snapshot, times of each query over a few rounds, and sizes."""
    found: dict[str, Any] = recalls(ask(conn, queries, first=0), vectors, queries)
    literals = [data.literal(query) for query in queries]
    for k in DEPTHS:
        taken = []
        for _ in range(_ROUNDS):
            for literal in literals:
                began = time.perf_counter()
                conn.execute("SELECT * FROM lookalike.search(%s::halfvec, %s)", (literal, k)).fetchall()
                taken.append(round((time.perf_counter() - began) * 1000, 3))
        found[f"ms_at_{k}"] = taken
    found["plain_at_10"] = _plain(conn, queries, vectors)
    (index,) = list_indexes(conn, space)
    table = f"lookalike.{space.table_name}"
    row: Any = conn.execute("SELECT count(*), pg_table_size(%s) FROM lookalike.active_embeddings", (table,)).fetchone()
    return {**found, "index_bytes": index.bytes, "rows": row[0], "table_bytes": row[1]}
