"""The queue of images to embed: claim, finish, fail, release and retry jobs.

Each function runs one statement of `sql/functions/`, whose header describes its locks. The caller owns the transaction.
A lease identifies one claim. Jobs that a claim does not finish are due again when its lease ends. Nothing is written
for an image that was changed, deleted or claimed again meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import numpy as np
from psycopg.rows import class_row, scalar_row, tuple_row

from app.db import Connection, call, sql, translated
from app.db.vectors import halfvecs
from app.errors import ImageError, InvalidInputError
from app.store.spaces import Space
from app.types import Embedding

# Tolerance of unit length: far above float32's rounding error, far below the error of any mistake.
_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job. `attempts` includes this claim.

    `suspect`: the worker with the last claim never finished or released it, so the image may crash workers.
    """

    image_id: int
    uri: str
    attempts: int
    enqueued_at: datetime
    suspect: bool
    waited: float = 0.0  # seconds from `enqueued_at` to the claim


@dataclass(frozen=True, slots=True)
class Failure:
    """A row of `lookalike.failures`."""

    image_id: int
    space: str
    uri: str
    step: str
    reason: str
    attempts: int
    failed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A worker's result for one image: its embedding, and the properties of its bytes."""

    image_id: int
    embedding: Embedding
    sha256: bytes
    media_type: str
    width: int
    height: int


def claim(conn: Connection, space: Space, *, lease: UUID, most: int, lease_seconds: float) -> list[Job]:
    """Claim up to `most` due jobs under a new lease, oldest first. Suspects come in small batches of their own."""
    values = {"space_id": space.id, "lease": lease, "most": most, "lease_seconds": lease_seconds}
    with translated(), conn.cursor(row_factory=class_row(Job)) as cursor:
        return cursor.execute(sql.query("claim_jobs"), values).fetchall()


def finish(conn: Connection, space: Space, *, lease: UUID, embedded: Sequence[Embedded]) -> set[int]:
    """Write embeddings and remove their jobs, in one transaction; return the ids of the images written.

    Skip images that were changed, deleted or claimed again since, or whose rows another transaction has locked.

    Raises:
        InvalidInputError: an embedding is not a unit vector of the space; nothing is written.
    """
    for one in embedded:
        check_embedding(one.embedding, space)
    values = {
        "space_id": space.id,
        "lease": lease,
        "image_ids": [one.image_id for one in embedded],
        "embeddings": halfvecs(one.embedding for one in embedded),
        "hashes": [one.sha256 for one in embedded],
        "media_types": [one.media_type for one in embedded],
        "widths": [one.width for one in embedded],
        "heights": [one.height for one in embedded],
    }
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return set(cursor.execute(sql.query("finish_jobs"), values).fetchall())


def known_embeddings(conn: Connection, space: Space, hashes: Sequence[bytes]) -> dict[bytes, Embedding]:
    """Return the stored embeddings, bit for bit, that `space` has for files with these SHA-256, by SHA-256.

    Skip embeddings that are not unit vectors, because they could not be written again.
    """
    values = {"space_id": space.id, "hashes": list(hashes)}
    with translated(), conn.cursor(binary=True, row_factory=tuple_row) as cursor:
        rows = cursor.execute(sql.query("known_embeddings"), values).fetchall()
    found = {sha256: embedding.to_numpy().astype(np.float32) for sha256, embedding in rows}
    return {sha256: embedding for sha256, embedding in found.items() if _defect(embedding, space) is None}


def check_embedding(embedding: Embedding, space: Space) -> None:
    """Raise InvalidInputError unless `embedding` is a finite vector of the space's dimensions and of length 1."""
    if defect := _defect(embedding, space):
        raise InvalidInputError(defect)


def _defect(embedding: Embedding, space: Space) -> str | None:
    if embedding.shape not in ((space.dimensions,), (space.encoded_dimensions,)):
        return (
            f"an embedding of shape {embedding.shape} is not one of space {space.name}: {space.dimensions} dimensions"
        )
    length = float(np.linalg.norm(embedding))
    if not abs(length - 1) <= _NORM_TOLERANCE:  # true for NaN too
        return f"an embedding of length {length:g} is not of unit length (space {space.name})"
    return None


def fail(conn: Connection, space: Space, *, lease: UUID, errors: Sequence[tuple[int, ImageError]]) -> set[int]:
    """Store images as failures with their errors' step and reason, and remove their jobs; return the ids stored."""
    values = {
        "space_id": space.id,
        "lease": lease,
        "image_ids": [image_id for image_id, _ in errors],
        "steps": [error.step for _, error in errors],
        # Text in PostgreSQL cannot hold NUL, which a damaged file's message may quote.
        "reasons": [error.reason.replace("\0", "�") for _, error in errors],
    }
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return set(cursor.execute(sql.query("fail_jobs"), values).fetchall())


def release(
    conn: Connection,
    space: Space,
    *,
    lease: UUID,
    image_ids: Sequence[int],
    delay: float = 0,
    unattempted: bool = False,
) -> int:
    """Release these jobs, due again after `delay` seconds; return how many the lease still held.

    `unattempted`: the claim does not count as an attempt. No notification is sent; the next poll finds the jobs.
    """
    return _number(conn, "release_jobs", space.id, lease, list(image_ids), delay, unattempted)


def renew(conn: Connection, space: Space, *, held: Sequence[tuple[UUID, int]], lease_seconds: float) -> None:
    """Extend leases, given as (lease, image id), to `lease_seconds` from now, for work that takes long."""
    values = {
        "space_id": space.id,
        "leases": [lease for lease, _ in held],
        "image_ids": [image_id for _, image_id in held],
        "lease_seconds": lease_seconds,
    }
    with translated():
        conn.execute(sql.query("renew_jobs"), values)


def any_left(conn: Connection, spaces: Sequence[Space]) -> bool:
    """Return whether any of these spaces has a job, whether it is claimed or not and due or not."""
    with translated():
        row = conn.execute(sql.query("any_job"), {"space_ids": [space.id for space in spaces]}).fetchone()
    return row is not None and bool(row[0])


def retry(conn: Connection, *, image_ids: Sequence[int] | None = None, space: Space | None = None) -> int:
    """Queue failures again; return how many. `image_ids` and `space` restrict them; by default all are queued."""
    ids = None if image_ids is None else list(image_ids)
    return _number(conn, "retry_failures", ids, space.id if space else None)


def failures(conn: Connection, *, limit: int = 100, space: Space | None = None) -> list[Failure]:
    """Return up to `limit` failures of one space or of all, latest first."""
    values = {"space_id": space.id if space else None, "most": limit}
    with translated(), conn.cursor(row_factory=class_row(Failure)) as cursor:
        return cursor.execute(sql.query("failures"), values).fetchall()


def _number(conn: Connection, function: LiteralString, *arguments: object) -> int:
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return int(call(cursor, function, *arguments).fetchone() or 0)
