"""The queue of images to embed: claim, finish, fail, release, retry; what is embedded already.

Each function is one statement of `sql/functions/`, which says what it locks; the caller owns the transaction. A lease
names one claim. Whatever a claim did not finish is due again when its lease ends, and nothing is written for an image
that was changed, deleted or claimed anew meanwhile.
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

# An embedding is as long as 1 up to this; far wider than float32's rounding, far narrower than any mistake.
_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job: the image to embed, and how often it has been claimed, this time included.

    `suspect`: the last to claim it was not heard of again, so the image may take workers down.
    """

    image_id: int
    uri: str
    attempts: int
    enqueued_at: datetime
    suspect: bool
    waited: float = 0.0  # seconds from then to the claim


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
    """What a worker learnt of one image: its embedding, and what its bytes told."""

    image_id: int
    embedding: Embedding
    sha256: bytes
    media_type: str
    width: int
    height: int


def claim(conn: Connection, space: Space, *, lease: UUID, most: int, lease_seconds: float) -> list[Job]:
    """Claim up to `most` due jobs under a new lease, oldest first; suspects come few at a time and by themselves."""
    values = {"space_id": space.id, "lease": lease, "most": most, "lease_seconds": lease_seconds}
    with translated(), conn.cursor(row_factory=class_row(Job)) as cursor:
        return cursor.execute(sql.query("claim_jobs"), values).fetchall()


def finish(conn: Connection, space: Space, *, lease: UUID, embedded: Sequence[Embedded]) -> set[int]:
    """Write embeddings and remove their jobs, in one transaction; return the ids written.

    Passed over are images changed, deleted or claimed anew since, and those whose row another transaction holds.
    Raises InvalidInputError, before anything is written, where an embedding is no unit vector of the space.
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
    """Return the embeddings that `space` has of files with these SHA-256, by SHA-256: as stored, to the bit.

    One that somebody has damaged, so that it could not be written again, is not known.
    """
    values = {"space_id": space.id, "hashes": list(hashes)}
    with translated(), conn.cursor(binary=True, row_factory=tuple_row) as cursor:
        rows = cursor.execute(sql.query("known_embeddings"), values).fetchall()
    found = {sha256: embedding.to_numpy().astype(np.float32) for sha256, embedding in rows}
    return {sha256: embedding for sha256, embedding in found.items() if _trouble(embedding, space) is None}


def check_embedding(embedding: Embedding, space: Space) -> None:
    """Raise InvalidInputError unless `embedding` is a finite vector of the space's dimension and of length 1."""
    if trouble := _trouble(embedding, space):
        raise InvalidInputError(trouble)


def _trouble(embedding: Embedding, space: Space) -> str | None:
    if embedding.shape not in ((space.dimensions,), (space.encoded_dimensions,)):
        return (
            f"an embedding of shape {embedding.shape} is not one of space {space.name}: {space.dimensions} dimensions"
        )
    length = float(np.linalg.norm(embedding))
    if not abs(length - 1) <= _NORM_TOLERANCE:  # so that not-a-number is refused as well
        return f"an embedding of length {length:g} is not of unit length (space {space.name})"
    return None


def fail(conn: Connection, space: Space, *, lease: UUID, errors: Sequence[tuple[int, ImageError]]) -> set[int]:
    """Park images as failures, each with its error's step and reason, and remove their jobs; return the ids parked."""
    values = {
        "space_id": space.id,
        "lease": lease,
        "image_ids": [image_id for image_id, _ in errors],
        "steps": [error.step for _, error in errors],
        # PostgreSQL's text holds no NUL, which a damaged file's message may quote.
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
    """Give up the lease on these jobs, due again after `delay` seconds; `unattempted`: the claim does not count.

    Returns how many the lease still held. No notification: whoever looks next finds them.
    """
    return _number(conn, "release_jobs", space.id, lease, list(image_ids), delay, unattempted)


def renew(conn: Connection, space: Space, *, held: Sequence[tuple[UUID, int]], lease_seconds: float) -> None:
    """Let leases, given as (lease, image id), end `lease_seconds` from now, for work that takes long."""
    values = {
        "space_id": space.id,
        "leases": [lease for lease, _ in held],
        "image_ids": [image_id for _, image_id in held],
        "lease_seconds": lease_seconds,
    }
    with translated():
        conn.execute(sql.query("renew_jobs"), values)


def any_left(conn: Connection, spaces: Sequence[Space]) -> bool:
    """Tell whether any of these spaces has a job left, whoever holds it and whenever it is due."""
    with translated():
        row = conn.execute(sql.query("any_job"), {"space_ids": [space.id for space in spaces]}).fetchone()
    return row is not None and bool(row[0])


def retry(conn: Connection, *, image_ids: Sequence[int] | None = None, space: Space | None = None) -> int:
    """Put failures back into the queue: all, those of these images, those of this space; return how many."""
    ids = None if image_ids is None else list(image_ids)
    return _number(conn, "retry_failures", ids, space.id if space else None)


def failures(conn: Connection, *, limit: int = 100, space: Space | None = None) -> list[Failure]:
    """Return up to `limit` failures, the latest first, of one space or of all."""
    values = {"space_id": space.id if space else None, "most": limit}
    with translated(), conn.cursor(row_factory=class_row(Failure)) as cursor:
        return cursor.execute(sql.query("failures"), values).fetchall()


def _number(conn: Connection, function: LiteralString, *arguments: object) -> int:
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return int(call(cursor, function, *arguments).fetchone() or 0)
