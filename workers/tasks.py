"""The records that pass through the worker: a task, its pixels, its outcome."""

import time
from dataclasses import dataclass, field
from uuid import UUID

from app.errors import ImageError
from app.store.jobs import Job
from app.store.query_images import QueryImage
from app.store.spaces import Space
from app.types import Embedding
from workers.preprocess import Pixels


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """An image in the worker: a job with its lease, or a query image."""

    space: Space
    subject: Job | QueryImage
    lease: UUID | None = None
    claimed_at: float = field(default_factory=time.monotonic)

    @property
    def is_query(self) -> bool:
        return isinstance(self.subject, QueryImage)

    @property
    def age(self) -> float:
        """Seconds since the image was queued, or the query requested, on the database's clock."""
        return self.subject.waited + time.monotonic() - self.claimed_at

    @property
    def name(self) -> str:
        """The image's name in the log."""
        return "a query image" if isinstance(self.subject, QueryImage) else self.subject.uri


@dataclass(frozen=True, slots=True)
class Facts:
    """Properties of an image's bytes."""

    sha256: bytes
    media_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A task whose image is ready to be encoded."""

    task: Task
    pixels: Pixels
    facts: Facts
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a task: an embedding and facts, or an error.

    `reused`: the embedding was made for another image with the same bytes.
    """

    task: Task
    result: Embedding | ImageError
    facts: Facts | None = None
    reused: bool = False
