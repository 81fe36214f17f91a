"""Embeddings as PostgreSQL's COPY (FORMAT binary) carries them, far faster than rows one by one.

Format: the signature, flags and an extension of no length; of each row the number of fields, then of each field its
length and bytes, in network order; the end. A halfvec is its dimensions, two unused bytes and its floats.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
# Of a halfvec field, before its floats.
HALFVEC = [("size", ">i4"), ("dimensions", ">i2"), ("unused", ">i2")]
ID = [("fields", ">i2"), ("id_size", ">i4"), ("id", ">i8")]


def packed(ids: Ids, vectors: NDArray[np.floating]) -> bytes:
    """Return rows (bigint, halfvec), of shapes (n,) and (n, dimensions), without head and end."""
    rows = np.zeros(len(ids), _row(vectors.shape[1]))
    rows["fields"], rows["id_size"], rows["id"] = 2, 8, ids
    rows["size"], rows["dimensions"], rows["vector"] = 4 + 2 * vectors.shape[1], vectors.shape[1], vectors
    return rows.tobytes()


def unpacked(blocks: Iterable[bytes | bytearray | memoryview], dimensions: int) -> tuple[Ids, NDArray[np.float16]]:
    """Return ids and embeddings, of shapes (n,) and (n, dimensions), of a whole COPY of (bigint, halfvec)."""
    data = b"".join(blocks)
    row = _row(dimensions)
    rows = np.frombuffer(data, row, (len(data) - len(HEAD) - len(END)) // row.itemsize, len(HEAD))
    return rows["id"].astype(np.int64), rows["vector"].astype(np.float16)


def _row(dimensions: int) -> np.dtype[np.void]:
    return np.dtype([*ID, *HALFVEC, ("vector", ">f2", (dimensions,))])
