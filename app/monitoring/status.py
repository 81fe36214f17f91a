"""Read the state of the whole installation cheaply: spaces, queue, freshness, recall, workers."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from psycopg.rows import class_row

from app.db import Connection, call, schema, sql, translated
from app.db.replicas import Standby
from app.index.running import Build, running_builds
from app.monitoring import recall
from app.monitoring.recall import RecallEstimate
from app.store import jobs
from app.store.jobs import Failure

T = TypeVar("T")

_FAILURES = 24


@dataclass(frozen=True, slots=True)
class SpaceStatus:
    """A row of `lookalike.space_status`. Counts stop at 100,000, except `queued_about`; `bytes` include indexes."""

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
    """A row of `lookalike.freshness`: work in a space in the last `period_seconds`; percentiles in seconds."""

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
    """Total count and seconds of one measure in one bucket of `lookalike.latencies`."""

    space: str
    measure: str
    bucket: int
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FailureReason:
    """A row of `lookalike.failure_reasons`: the number of like failures of a space, with the latest as an example."""

    space: str
    step: str
    reason: str
    images: int
    latest: datetime
    example: str


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the whole installation. `images` stops at 100,000."""

    revision: str
    images: int
    spaces: list[SpaceStatus]
    workers: list[WorkerStatus]
    freshness: list[Freshness]
    failures: list[FailureReason]
    recall: list[RecallEstimate]
    samples_waiting: int | None
    standbys: list[Standby] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OperatorView:
    """The state at one time, with running builds and the latest failures."""

    at: datetime
    status: Status
    builds: list[Build]
    failures: list[Failure]


def read_status(conn: Connection) -> Status:
    """Return the state of the whole installation.

    Raises:
        SchemaError: the schema does not fit this release.
    """
    with translated():
        revision = schema.check(conn)
        row = call(conn, "count_up_to", "images", 100_000).fetchone()
        return Status(
            revision=revision,
            images=int(str(row[0])) if row else 0,
            spaces=_rows(conn, "space_status", SpaceStatus),
            workers=_rows(conn, "worker_status", WorkerStatus),
            freshness=_rows(conn, "freshness", Freshness),
            failures=_rows(conn, "failure_reasons", FailureReason),
            recall=recall.estimates(conn),
            samples_waiting=recall.waiting(conn),
        )


def latency_totals(conn: Connection) -> list[LatencyTotal]:
    """Return the latencies that workers have counted so far, by space, measure and bucket."""
    with translated():
        return _rows(conn, "latency_totals", LatencyTotal)


def api_connections(conn: Connection) -> dict[str, int]:
    """Return the number of connections of all API processes to this database by state: active, idle, …."""
    with translated():
        return {str(state): int(str(count)) for state, count in conn.execute(sql.query("api_connections"))}


def _rows(conn: Connection, query: str, kind: type[T]) -> list[T]:
    with conn.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(sql.query(query)).fetchall()


def read_operator_view(conn: Connection) -> OperatorView:
    """Return the state of the whole installation, with running builds and the latest failures.

    Raises:
        SchemaError: the schema does not fit this release.
    """
    return OperatorView(
        datetime.now(UTC), read_status(conn), running_builds(conn), jobs.failures(conn, limit=_FAILURES)
    )
