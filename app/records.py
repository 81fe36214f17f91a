"""What is passed between modules: one frozen record a kind of row or answer."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Anything that JSON can hold at the top of an object.
Json = dict[str, Any]

# One embedding: float32, shape (dimensions,), unit length.
Embedding = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Image:
    """A row of `lookalike.images`; sha256 in hex."""

    id: int
    uri: str
    sha256: str | None
    media_type: str | None
    width: int | None
    height: int | None
    caption: str | None
    attributes: Json
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Neighbor:
    """One result of a search; distance is L2 between unit vectors, 0 to 2."""

    distance: float
    image: Image


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found, nearest first, in which space, and how (`lookalike.explain_search`)."""

    neighbors: list[Neighbor]
    space: str
    plan: Json


@dataclass(frozen=True, slots=True)
class Space:
    """A row of `lookalike.embedding_spaces`; `encoded_dimensions`: the model's, where it is reduced."""

    id: int
    name: str
    model: str
    weights: str | None
    preprocessing: Json
    fingerprint: str
    dimensions: int
    index_options: Json
    table_name: str
    active: bool
    created_at: datetime
    encoded_dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The active space, as `spaces.hold` gives it."""

    id: int
    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class SpaceCounts:
    """How far a space is: all images, and those embedded, queued and failed in it; workers that serve it."""

    images: int
    embedded: int
    queued: int
    failed: int
    live_workers: int


@dataclass(frozen=True, slots=True)
class SpaceLack:
    """What searches would lose by a space: images found now and not embedded in it (queued, failed), its index."""

    missing: int
    queued: int
    failed: int
    index_missing: bool


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


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A row of `lookalike.api_keys`, less the hash of the key."""

    id: int
    name: str
    prefix: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    expired: bool


@dataclass(frozen=True, slots=True)
class SpaceStatus:
    """A row of `lookalike.space_status`; counts stop at 100,000 but for `queued_about`; bytes include indexes."""

    id: int
    name: str
    model: str
    dimensions: int
    active: bool
    embedded: int
    queued: int
    failed: int
    oldest_job_seconds: float | None
    live_workers: int
    index_name: str | None
    index_valid: bool | None
    bytes: int
    queued_about: int


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A row of `lookalike.worker_status`."""

    id: int
    name: str
    version: str
    device: str
    state: str
    spaces: list[str]
    alive: bool
    started_at: datetime
    heartbeat_at: datetime
    images_embedded: int
    images_failed: int
    queries_answered: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Freshness:
    """A row of `lookalike.freshness`: what happened in a space in the last `period_seconds`; times in seconds."""

    space: str
    period_seconds: int
    images: int
    images_per_second: float
    reused: int
    failed: int
    searchable_p50: float | None
    searchable_p95: float | None
    searchable_p99: float | None
    queries: int
    queries_per_second: float
    query_p50: float | None
    query_p95: float | None
    query_p99: float | None


@dataclass(frozen=True, slots=True)
class LatencyTotal:
    """How many things of one measure ended in one bucket of `lookalike.latencies` so far, and their seconds in all."""

    space: str
    measure: str
    bucket: int
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FailureReason:
    """A row of `lookalike.failure_reasons`: like failures of a space, counted, with the latest as an example."""

    space: str
    step: str
    reason: str
    images: int
    latest: datetime
    example: str


@dataclass(frozen=True, slots=True)
class RecallEstimate:
    """A row of `lookalike.recall_status`: mean recall of checked live searches, with its 95 % interval; None: nothing
    to find in any. `plan` and `selectivity` None: all."""

    space: str
    period_seconds: int
    plan: str | None
    selectivity: str | None
    searches: int
    recall: float | None
    low: float | None
    high: float | None
    goal: float | None
    below: bool | None
    unchecked: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RecallPoint:
    """A row of `lookalike.recall_trend`."""

    began_at: datetime
    searches: int
    recall: float
    low: float
    high: float
    goal: float


@dataclass(frozen=True, slots=True)
class RecallAdjustment:
    """A row of `lookalike.recall_adjustments`: how many times deeper than set up searches were, and are from then."""

    space: str
    adjusted_at: datetime
    adjusted_by: str
    from_depth: float
    to_depth: float
    reason: str


@dataclass(frozen=True, slots=True)
class Standby:
    """A server that searches may go to: whether they do, how far it is behind, why they do not; what to mend."""

    host: str
    fit: bool
    lag_seconds: float | None
    reason: str | None
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the whole: spaces, workers, freshness, failures, recall of live searches over all plans and filters,
    and the number of images (up to 100,000)."""

    revision: str
    images: int
    spaces: list[SpaceStatus]
    workers: list[WorkerStatus]
    freshness: list[Freshness]
    failures: list[FailureReason]
    recall: list[RecallEstimate]
    samples_waiting: int | None
    standbys: list[Standby] = field(default_factory=list)
