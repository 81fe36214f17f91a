"""Finds embeddings that the database already has of files with the same bytes."""

import logging
import time
from collections.abc import Mapping, Sequence

from app import db
from app.errors import LookalikeError, NotFoundError
from app.store import jobs
from app.store.spaces import Space
from app.types import Embedding

log = logging.getLogger(__name__)

# A lookup must not take longer than embedding. After an error, lookups find nothing for a while.
_MOST_SECONDS = 2.0
_PAUSE_SECONDS = 5.0


class ContentLookup:
    """Looks embeddings up over its own connection, in one thread. An error of the database only means no matches."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._conn: db.Connection | None = None
        self._again_at = 0.0

    def find(self, space: Space, hashes: Sequence[bytes]) -> Mapping[bytes, Embedding]:
        """Return the embeddings in `space` of files with these SHA-256 hashes, by hash."""
        if time.monotonic() < self._again_at:
            return {}
        try:
            return jobs.known_embeddings(self._connection(), space, hashes)
        except NotFoundError:  # the space was dropped just now
            return {}
        except LookalikeError as error:
            log.warning("embeddings of the same bytes are not reused for now: %s", error)
            self._again_at = time.monotonic() + _PAUSE_SECONDS
            self.close()
            return {}

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _connection(self) -> db.Connection:
        if self._conn is None:
            self._conn = db.connect(self._url, autocommit=True, application="lookalike worker known")
            with db.translated():
                self._conn.execute(f"SET statement_timeout = {1000 * _MOST_SECONDS:.0f}")
        return self._conn
