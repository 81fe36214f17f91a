"""Data for benches: vectors, attributes and queries from one seed, and their bulk load."""

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from app.db.vectors import END, HEAD, pack_rows

SHARES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 0.0001)
SCALE = 1_000_000  # attributes that stand for a rank run from 0 to SCALE - 1
FAR_QUERIES = 20  # queries with their own attribute for the anti-correlated filter

Vectors = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Rows to store and held-out queries, both of unit length; row i has id i + 1."""

    vectors: Vectors
    queries: Vectors
    query_positions: Ints  # position of each query among the rows, from 0 to SCALE
    position: Ints
    random: Ints
    far: Ints  # (FAR_QUERIES, rows): rank by distance to that query, 0 = farthest


def unit(vectors: Vectors) -> Vectors:
    """Scale each row to length 1 and round it to halfvec's precision."""
    scaled = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rounded: Vectors = scaled.astype(np.float16).astype(np.float32)
    return rounded


def made_vectors(rows: int, dimensions: int, rng: np.random.Generator) -> Vectors:
    """Return synthetic vectors: non-negative, clustered, neighbours next to each other."""
    centres = rng.gamma(0.4, 1.0, (max(rows // 40, 8), dimensions)).astype(np.float32)
    # A walk between centres, so that neighbouring positions are similar, like crops of one drawing.
    place = np.linspace(0, len(centres) - 1.001, rows)
    left = place.astype(int)
    share = (place - left)[:, None].astype(np.float32)
    mixed = centres[left] * (1 - share) + centres[left + 1] * share
    noise = rng.gamma(0.4, 0.6, mixed.shape).astype(np.float32)
    return unit(mixed + noise)


def make(*, rows: int, queries: int, file: Path | None, dimensions: int, seed: int) -> Dataset:
    """Hold out evenly spaced queries and extend the rest to `rows` rows by repeating them with noise.

    A repeat lies at a distance of 0.1 to 0.4 from its source, the range of real near neighbours here. Its position is
    next to the source's, so that position stays correlated with content. Repetitions are stored one after the other,
    because HNSW's recall falls if each row is stored beside its repeats (see README).
    """
    rng = np.random.default_rng(seed)
    source = (
        unit(np.load(file).astype(np.float32)) if file else made_vectors(min(rows, 20_000) + queries, dimensions, rng)
    )
    held = np.linspace(0, len(source) - 1, queries).astype(int)
    base = np.delete(source, held, axis=0)
    rest = np.sort(rng.choice(len(base), rows % len(base), replace=False))
    origin = np.r_[np.tile(np.arange(len(base)), rows // len(base)), rest]
    vectors = base[origin]
    for start in range(len(base) if rows > len(base) else rows, rows, 20_000):
        part = slice(start, start + 20_000)
        noise = rng.standard_normal(vectors[part].shape, dtype=np.float32) / np.sqrt(vectors.shape[1])
        reach = rng.uniform(0.1, 0.4, (len(noise), 1)).astype(np.float32)
        vectors[part] = unit(vectors[part] + noise * reach)
    position = np.empty(rows, dtype=np.int64)
    position[np.argsort(origin, kind="stable")] = np.arange(rows) * SCALE // rows
    order = np.arange(len(vectors), dtype=np.int64)
    far = np.empty((min(FAR_QUERIES, queries), rows), dtype=np.int64)
    far_queries = far_query_indexes(queries)
    for n, q in enumerate(far_queries):
        closeness = vectors @ source[held[q]]
        far[n, np.argsort(closeness, kind="stable")] = order * SCALE // rows
    return Dataset(
        vectors=vectors,
        queries=source[held],
        query_positions=(held.astype(np.int64) * SCALE) // len(source),
        position=position,
        random=rng.permutation(rows).astype(np.int64) * SCALE // rows,
        far=far,
    )


def far_query_indexes(queries: int) -> list[int]:
    """Return the indexes of the queries with an anti-correlated attribute, spread over all queries."""
    return [int(i) for i in np.linspace(0, queries - 1, min(FAR_QUERIES, queries))]


def load(conn: psycopg.Connection[Any], data: Dataset, *, table: str) -> None:
    """Copy images with their attributes, and their embeddings into `table`; the caller owns the transaction."""
    with conn.cursor().copy("COPY lookalike.images (id, uri, attributes) FROM STDIN") as copy:
        for i in range(len(data.vectors)):
            copy.write_row((i + 1, f"bench:{i + 1}", json.dumps(attributes(data, i))))
    load_vectors(conn, data.vectors, table=table)


def load_vectors(conn: psycopg.Connection[Any], vectors: Vectors, *, table: str) -> None:
    """Copy the embeddings of images 1, 2, ... into `table`; the caller owns the transaction."""
    with conn.cursor().copy(f"COPY {table} (image_id, embedding) FROM STDIN (FORMAT binary)") as copy:
        copy.write(HEAD)
        for start in range(0, len(vectors), 10_000):
            part = vectors[start : start + 10_000]
            copy.write(pack_rows(np.arange(start + 1, start + len(part) + 1), part))
        copy.write(END)


def attributes(data: Dataset, i: int) -> dict[str, Any]:
    """Return the attributes of row i: ranks for range filters, labels for equality filters, a rank per far query."""
    label = [f"r{share:g}" for share in SHARES if data.random[i] < share * SCALE]
    far = {f"far{n:02d}": int(rank) for n, rank in enumerate(data.far[:, i])}
    return {"random": int(data.random[i]), "position": int(data.position[i]), "labels": label, **far}


def literal(vector: npt.NDArray[Any]) -> str:
    """Return the vector in pgvector's text format."""
    return "[" + ",".join(map(repr, vector.astype(np.float16).tolist())) + "]"


def conditions(conn: psycopg.Connection[Any], *, seed: int) -> dict[str, Any]:
    """Return the conditions of a result: hardware, versions, server settings and seed."""
    row = conn.execute(
        """
        SELECT version(), (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
               current_setting('shared_buffers'), current_setting('work_mem'),
               current_setting('max_parallel_workers_per_gather'), current_setting('jit')
        """
    ).fetchone()
    names = ("postgresql", "pgvector", "shared_buffers", "work_mem", "max_parallel_workers_per_gather", "jit")
    info = Path("/proc/cpuinfo")
    models = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if (info.exists())
        else [platform.processor()]
    )
    return {
        **dict(zip(names, row or (), strict=True)),
        "cpu": models[0] if models else platform.machine(),
        "cores": len(models),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "seed": seed,
    }
