"""The state of the whole, cheaply: spaces, queue, freshness, recall, workers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from psycopg.rows import class_row

from app.db import Connection, schema, sql, translated
from app.index.build import Build, running_builds
from app.monitoring import recall
from app.records import Failure, FailureReason, Freshness, LatencyTotal, SpaceStatus, Status, WorkerStatus
from app.store import jobs

T = TypeVar("T")


_FAILURES = 24


@dataclass(frozen=True, slots=True)
class OperatorView:
    """The state at one moment; failures are the latest ones."""

    at: datetime
    status: Status
    builds: list[Build]
    failures: list[Failure]


def read_status(conn: Connection) -> Status:
    """Return the state of images, spaces, workers, freshness; SchemaError where database and code do not fit."""
    with translated():
        revision = schema.check(conn)
        row = conn.execute(sql.query("count_images")).fetchone()
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
    """Return all that workers have counted so far, by space, measure and bucket."""
    with translated():
        return _rows(conn, "latency_totals", LatencyTotal)


def api_connections(conn: Connection) -> dict[str, int]:
    """Count the connections of all API processes to this database by state: active, idle, ..."""
    with translated():
        return {str(state): int(str(count)) for state, count in conn.execute(sql.query("api_connections"))}


def _rows(conn: Connection, query: str, kind: type[T]) -> list[T]:
    with conn.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(sql.query(query)).fetchall()


def read_operator_view(conn: Connection) -> OperatorView:
    """Return the state of everything, cheaply; SchemaError where database and code do not fit."""
    return OperatorView(
        datetime.now(UTC), read_status(conn), running_builds(conn), jobs.failures(conn, limit=_FAILURES)
    )
