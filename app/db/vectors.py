"""Convert embeddings between numpy and PostgreSQL's halfvec, in binary format.

psycopg sends a list as text by default: a batch of 32 embeddings takes 80 ms as text and 4 ms in binary.
"""

from collections.abc import Iterable

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg.types.array import ListBinaryDumper

from app.types import Embedding

Ids = NDArray[np.int64]
HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
# The fields of a halfvec before its floats.
HALFVEC = [("size", ">i4"), ("dimensions", ">i2"), ("unused", ">i2")]
ID = [("fields", ">i2"), ("id_size", ">i4"), ("id", ">i8")]


class HalfVectors(list[HalfVector | None]):
    """A halfvec[] parameter that psycopg sends in binary."""


psycopg.adapters.register_dumper(HalfVectors, ListBinaryDumper)


def halfvecs(embeddings: Iterable[Embedding | None]) -> HalfVectors:
    """Return a halfvec[] parameter; None becomes NULL."""
    return HalfVectors(None if one is None else HalfVector(one) for one in embeddings)


def unit(vector: HalfVector) -> Embedding:
    """Return a stored embedding as float32, normalized again because halfvec rounded it."""
    values = vector.to_numpy().astype(np.float32)
    embedding: Embedding = values / np.linalg.norm(values)
    return embedding


def pack_rows(ids: Ids, vectors: NDArray[np.floating]) -> bytes:
    """Return binary COPY rows (bigint, halfvec) without header and trailer; shapes (n,) and (n, dimensions)."""
    rows = np.zeros(len(ids), _row(vectors.shape[1]))
    rows["fields"], rows["id_size"], rows["id"] = 2, 8, ids
    rows["size"], rows["dimensions"], rows["vector"] = 4 + 2 * vectors.shape[1], vectors.shape[1], vectors
    return rows.tobytes()


def unpack_rows(blocks: Iterable[bytes | bytearray | memoryview], dimensions: int) -> tuple[Ids, NDArray[np.float16]]:
    """Return ids, shape (n,), and embeddings, shape (n, dimensions), from a complete COPY of (bigint, halfvec)."""
    data = b"".join(blocks)
    row = _row(dimensions)
    rows = np.frombuffer(data, row, (len(data) - len(HEAD) - len(END)) // row.itemsize, len(HEAD))
    return rows["id"].astype(np.int64), rows["vector"].astype(np.float16)


def _row(dimensions: int) -> np.dtype[np.void]:
    return np.dtype([*ID, *HALFVEC, ("vector", ">f2", (dimensions,))])
