"""Small galleries of synthetic unit vectors, and exact results to compare with SQL's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg.types.json import Jsonb

from app import db
from app.index.build import (
    list_indexes,
)
from app.store import spaces
from app.store.spaces import Space

CLUSTERED_DIMENSIONS = 48
Vectors = NDArray[np.float32]

FILL = """
WITH made AS (
    INSERT INTO lookalike.images (uri) SELECT '/' || n FROM generate_series(1, %s) n RETURNING id
)
INSERT INTO lookalike.embeddings_1
SELECT m.id, l2_normalize(array_agg(random() - 0.5)::vector)::halfvec(8)
FROM made m, generate_series(1, 8) d GROUP BY m.id
"""


def unit(count: int, dimensions: int, *, seed: int = 0) -> Vectors:
    """Return random unit vectors, rounded as halfvec stores them."""
    drawn = np.random.default_rng(seed).normal(size=(count, dimensions))
    return as_stored(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def as_stored(vectors: Any) -> Vectors:
    return np.asarray(vectors).astype(np.float16).astype(np.float32)


def make_space(conn: db.Connection, dimensions: int) -> None:
    """Create a space, the active one of an empty database, in the caller's transaction."""
    conn.execute("SELECT lookalike.create_space('small', 'none', %s, '{}', 'f')", (dimensions,))


def _table(conn: db.Connection) -> str:
    row = conn.execute("SELECT table_name FROM lookalike.embedding_spaces WHERE active").fetchone()
    assert row is not None
    return f"lookalike.{row[0]}"


def fill(
    conn: db.Connection,
    vectors: Vectors,
    attributes: Sequence[dict[str, Any]] | None = None,
    captions: Sequence[str | None] | None = None,
) -> NDArray[np.int64]:
    """Store images with these embeddings, attributes and captions; return their ids, in the same order."""
    count, table = len(vectors), _table(conn)
    with conn.cursor() as cursor:
        rows = cursor.execute(
            """
            INSERT INTO lookalike.images (uri, attributes, caption)
            SELECT '/image/' || clock_timestamp() || n, a, c
            FROM unnest(%s::jsonb[], %s::text[]) WITH ORDINALITY u (a, c, n) ORDER BY n RETURNING id
            """,
            ([Jsonb(one) for one in attributes or [{}] * count], list(captions or [None] * count)),
        ).fetchall()
        ids = np.array([row[0] for row in rows], dtype=np.int64)
        with cursor.copy(f"COPY {table} (image_id, embedding) FROM STDIN") as copy:
            for image_id, vector in zip(ids.tolist(), vectors.tolist(), strict=True):
                copy.write_row((image_id, "[" + ",".join(f"{value:.6g}" for value in vector) + "]"))
        cursor.execute("DELETE FROM lookalike.jobs")
        cursor.execute(f"ANALYZE lookalike.images, {table}")
    return ids


def index(conn: db.Connection) -> None:
    conn.execute(f"CREATE INDEX ON {_table(conn)} USING hnsw (embedding halfvec_l2_ops)")


def half(vector: Any) -> HalfVector:
    return HalfVector(np.asarray(vector, dtype=np.float32))


def distances(vectors: Vectors, query: Any) -> NDArray[np.float64]:
    difference = vectors.astype(np.float64) - np.asarray(query, dtype=np.float64)
    return np.sqrt((difference**2).sum(axis=1))


def order(vectors: Vectors, query: Any) -> NDArray[np.int64]:
    """Return the positions of the vectors, nearest first, ties in order of position."""
    return np.lexsort((np.arange(len(vectors)), distances(vectors, query).astype(np.float32)))


def filled(conn: db.Connection, rows: int) -> Space:
    made = spaces.create(conn, name="s", model="m", weights=None, dimensions=8, preprocessing={}, fingerprint="f")
    conn.execute(FILL, (rows,))
    conn.execute("DELETE FROM lookalike.jobs")
    return made


def states(conn: db.Connection) -> dict[str, bool]:
    return {one.name: one.valid for one in list_indexes(conn)}


def clustered(count: int, seed: int = 0) -> Vectors:
    """Return non-negative unit vectors from a few latent factors, similar to pooled CNN features."""
    weights = np.random.default_rng(5).normal(size=(10, CLUSTERED_DIMENSIONS))
    made = np.maximum(np.random.default_rng(seed).normal(size=(count, 10)) @ weights + 1, 0)
    return as_stored(made / np.linalg.norm(made, axis=1, keepdims=True))
