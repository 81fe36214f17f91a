"""The state of the whole, cheaply: spaces, queue, freshness, recall, workers."""

from typing import TypeVar

from psycopg.rows import class_row

from app import recall
from app.db import Connection, schema, sql, translated
from app.records import FailureReason, Freshness, LatencyTotal, SpaceStatus, Status, WorkerStatus

T = TypeVar("T")


def read(conn: Connection) -> Status:
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
