"""Query images: searches send them to a worker through the database, and the embeddings come back the same way."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pgvector import HalfVector
from psycopg import sql as pgsql
from psycopg.rows import class_row, scalar_row

from app.db import Connection, call, sql, translated
from app.db.vectors import halfvecs, unit
from app.errors import ImageError, NoWorkerError, QueryTimeoutError
from app.store import spaces
from app.store.spaces import Space
from app.types import Embedding

# Interval of the check whether a worker is alive.
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class QueryImage:
    """A claimed query image, identified by the SHA-256 of its bytes."""

    sha256: bytes
    image: bytes
    waited: float = 0.0  # seconds from the request to the claim


@dataclass(frozen=True, slots=True)
class _State:
    embedding: HalfVector | None
    live_workers: int
    reason: str | None = None


# The requesting side


def embed(conn: Connection, image: bytes, *, timeout: float, space: Space | None = None) -> Embedding:
    """Return the embedding of an image file's bytes in `space` (None: the active space), computed by a worker.

    The connection is in autocommit and listens to nothing afterwards.

    Raises:
        NoWorkerError: no worker is alive, or the last one ended meanwhile.
        ImageError: the bytes cannot be embedded.
        QueryTimeoutError: no worker responded within `timeout` seconds.
    """
    if not conn.autocommit:
        raise ValueError("a worker sees only committed requests: pass a connection in autocommit")
    space = space or spaces.active(conn)
    digest = hashlib.sha256(image)
    channel = pgsql.Identifier(f"lookalike_answer_{digest.hexdigest()[:40]}")
    with translated():
        # Listen before the request, so that no notification is missed.
        conn.execute(pgsql.SQL("LISTEN {}").format(channel))
        try:
            return _request(conn, space, image, digest.digest(), timeout)
        finally:
            if not conn.broken:
                conn.execute(pgsql.SQL("UNLISTEN {}").format(channel))
                _discard_notifications(conn)


def _request(conn: Connection, space: Space, image: bytes, sha256: bytes, timeout: float) -> Embedding:
    began = time.monotonic()
    request = {"space_id": space.id, "image": image}
    state = None
    with conn.cursor(binary=True, row_factory=class_row(_State)) as cursor:
        while True:
            # Request it again if the row is gone, because the table does not survive a crash of the server.
            state = state or cursor.execute(sql.query("ask_embedding"), request).fetchone() or _State(None, 0)
            if state.embedding is not None:
                return unit(state.embedding)
            if state.reason is not None:
                raise ImageError("decode", state.reason)
            if not state.live_workers:
                raise NoWorkerError(
                    f"no worker is alive for embedding space {space.name}, so a query image cannot be embedded; "
                    'start one with "lookalike worker"'
                )
            left = began + timeout - time.monotonic()
            if left <= 0:
                raise QueryTimeoutError(
                    f"the workers of embedding space {space.name} did not embed the query image within {timeout:g} s; "
                    "they are overloaded: try again, start more workers, or raise LOOKALIKE_QUERY_TIMEOUT"
                )
            for _ in conn.notifies(timeout=min(left, _POLL_SECONDS), stop_after=1):
                pass
            state = cursor.execute(sql.query("answer_of"), {"space_id": space.id, "sha": sha256}).fetchone()


def _discard_notifications(conn: Connection) -> None:
    """Read pending notifications, so that the next user of the connection does not get them."""
    for _ in conn.notifies(timeout=0):
        pass


# The worker's side


def claim(conn: Connection, space: Space, *, most: int, lease_seconds: float) -> list[QueryImage]:
    """Claim up to `most` pending query images; others may claim them again after `lease_seconds`."""
    values = {"space_id": space.id, "most": most, "lease_seconds": lease_seconds}
    with translated(), conn.cursor(binary=True, row_factory=class_row(QueryImage)) as cursor:
        return cursor.execute(sql.query("claim_queries"), values).fetchall()


def answer(conn: Connection, space: Space, answers: Sequence[tuple[bytes, Embedding | ImageError]]) -> None:
    """Store an embedding or an error for each SHA-256. The commit notifies the waiting searches."""
    hashes = [sha256 for sha256, _ in answers]
    embeddings = halfvecs(None if isinstance(given, ImageError) else given for _, given in answers)
    # Text in PostgreSQL cannot hold NUL, which a damaged file's message may quote.
    reasons = [given.reason.replace("\0", "�") if isinstance(given, ImageError) else None for _, given in answers]
    with translated():
        call(conn, "answer_queries", space.id, hashes, embeddings, reasons)


def forget(conn: Connection, *, age_seconds: float) -> int:
    """Remove query images requested more than `age_seconds` ago; return how many."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return int(call(cursor, "forget_answers", age_seconds).fetchone() or 0)
