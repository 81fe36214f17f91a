"""Query images: asked for here, embedded by a worker, answered through the database."""

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

# Between two looks at whether a worker is still alive.
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class QueryImage:
    """A claimed query image: the SHA-256 of its bytes names it."""

    sha256: bytes
    image: bytes
    waited: float = 0.0  # seconds from the question to the claim


@dataclass(frozen=True, slots=True)
class _State:
    embedding: HalfVector | None
    live_workers: int
    reason: str | None = None


# The asking side


def embed(conn: Connection, image: bytes, *, timeout: float, space: Space | None = None) -> Embedding:
    """Return the embedding of an image file's bytes in `space` (None: the active one), by way of a worker.

    The connection is in autocommit, and afterwards as it was before. Raises NoWorkerError at once where no worker is
    alive, or as soon as the last one is no more; ImageError where the bytes cannot be embedded; QueryTimeoutError
    after `timeout` seconds.
    """
    if not conn.autocommit:
        raise ValueError("a question must be committed before a worker sees it: pass a connection in autocommit")
    space = space or spaces.active(conn)
    digest = hashlib.sha256(image)
    channel = pgsql.Identifier(f"lookalike_answer_{digest.hexdigest()[:40]}")
    with translated():
        # First listen, then ask: so no answer can slip by in between.
        conn.execute(pgsql.SQL("LISTEN {}").format(channel))
        try:
            return _ask(conn, space, image, digest.digest(), timeout)
        finally:
            if not conn.broken:
                conn.execute(pgsql.SQL("UNLISTEN {}").format(channel))
                _forget_notifications(conn)


def _ask(conn: Connection, space: Space, image: bytes, sha256: bytes, timeout: float) -> Embedding:
    began = time.monotonic()
    question = {"space_id": space.id, "image": image}
    state = None
    with conn.cursor(binary=True, row_factory=class_row(_State)) as cursor:
        while True:
            # Asked again only where the question is gone: the table does not survive a crash of the server.
            state = state or cursor.execute(sql.query("ask_embedding"), question).fetchone() or _State(None, 0)
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
            for _ in conn.notifies(timeout=min(left, _LOOK_SECONDS), stop_after=1):
                pass
            state = cursor.execute(sql.query("answer_of"), {"space_id": space.id, "sha": sha256}).fetchone()


def _forget_notifications(conn: Connection) -> None:
    """Read what still came in, so that the next user of the connection does not."""
    for _ in conn.notifies(timeout=0):
        pass


# The answering side


def claim(conn: Connection, space: Space, *, most: int, lease_seconds: float) -> list[QueryImage]:
    """Claim up to `most` unanswered query images; those not answered within `lease_seconds` are free again."""
    values = {"space_id": space.id, "most": most, "lease_seconds": lease_seconds}
    with translated(), conn.cursor(binary=True, row_factory=class_row(QueryImage)) as cursor:
        return cursor.execute(sql.query("claim_queries"), values).fetchall()


def answer(conn: Connection, space: Space, answers: Sequence[tuple[bytes, Embedding | ImageError]]) -> None:
    """Answer query images, given by their SHA-256, and notify those who wait when the transaction commits."""
    hashes = [sha256 for sha256, _ in answers]
    embeddings = halfvecs(None if isinstance(given, ImageError) else given for _, given in answers)
    # PostgreSQL's text holds no NUL, which a damaged file's message may quote.
    reasons = [given.reason.replace("\0", "�") if isinstance(given, ImageError) else None for _, given in answers]
    with translated():
        call(conn, "answer_queries", space.id, hashes, embeddings, reasons)


def forget(conn: Connection, *, age_seconds: float) -> int:
    """Remove query images asked longer than `age_seconds` ago; return how many."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return int(call(cursor, "forget_answers", age_seconds).fetchone() or 0)
