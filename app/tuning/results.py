"""Store and read runs and measurements."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from psycopg.rows import class_row, dict_row, scalar_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.errors import ConflictError, NotFoundError
from app.index.kinds import KINDS
from app.store.spaces import Space
from app.tuning.records import Measurement, Request, Run
from app.types import Json


def begin(conn: Connection, space: Space, request: Request, *, rows_total: int, conditions: Json) -> Run:
    """Insert a new run."""
    values = {
        "space": space.name,
        "fingerprint": space.fingerprint,
        "dimensions": space.dimensions,
        "rows_total": rows_total,
        "request": Jsonb(asdict(request)),
        "conditions": Jsonb(conditions),
    }
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        run_id = cursor.execute(sql.query("begin_run"), values).fetchone()
    return get(conn, int(str(run_id)))


def end(conn: Connection, run: Run) -> None:
    """Mark a run as complete."""
    with translated():
        conn.execute(sql.query("end_run"), {"run_id": run.id})


def get(conn: Connection, run_id: int) -> Run:
    """Return the run of this number.

    Raises:
        NotFoundError: there is no such run; the message lists the latest runs.
    """
    found = _runs(conn, run_id=run_id)
    if not found:
        known = ", ".join(str(run.id) for run in _runs(conn)[:10]) or "none yet"
        raise NotFoundError(f"there is no run {run_id} of measurements; the latest are: {known}")
    return found[0]


def of_space(conn: Connection, space: Space, run_id: int) -> Run:
    """Return the run of this number, which must have measured this space.

    Raises:
        NotFoundError: there is no such run, or it measured another space.
    """
    run = get(conn, run_id)
    if run.fingerprint != space.fingerprint:
        raise NotFoundError(f"run {run_id} measured space {run.space}, not {space.name}; pass a run of this space")
    return run


def latest(conn: Connection, space: Space | None = None) -> Run | None:
    """Return the latest run with measurements, of this space or of any; None without one."""
    return next((run for run in _runs(conn, fingerprint=space.fingerprint if space else None) if run.choices), None)


def interrupted(conn: Connection, space: Space) -> Run:
    """Return the latest run of this space, which must be incomplete.

    Raises:
        NotFoundError: the space has no run.
        ConflictError: the latest run is complete.
    """
    found = _runs(conn, fingerprint=space.fingerprint)
    if not found:
        raise NotFoundError(f"nothing was measured in space {space.name} yet; measure: lookalike tradeoffs")
    if found[0].ended_at is not None:
        raise ConflictError(f"run {found[0].id} is complete; show it: lookalike tradeoffs --show")
    return found[0]


def _runs(conn: Connection, *, run_id: int | None = None, fingerprint: str | None = None) -> list[Run]:
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql.query("runs"), {"run_id": run_id, "fingerprint": fingerprint}).fetchall()
    return [Run(**{**row, "request": parse_request(row["request"])}) for row in rows]


def parse_request(stored: dict[str, Any]) -> Request:
    """Return a stored request; fields unknown to this release are skipped."""
    known = {one.name for one in fields(Request)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items() if name in known
    }
    return Request(**values)


def add(conn: Connection, run: Run, measured: Sequence[Measurement]) -> None:
    """Store measurements in one transaction; an earlier measurement of the same choice is replaced."""
    rows = [
        {
            **asdict(one),
            "run_id": run.id,
            "options": Jsonb(one.options),
            "qps": Jsonb(one.qps),
            "median_ms": one.p50_ms,
            "tail_ms": one.p95_ms,
            "far_tail_ms": one.p99_ms,
            "tail_ceiling_ms": one.p95_ceiling_ms,
        }
        for one in measured
    ]
    with translated(), conn.transaction(), conn.cursor() as cursor:
        cursor.executemany(sql.query("add_measurement"), rows)


def measurements(conn: Connection, run: Run) -> list[Measurement]:
    """Return the measurements of a run so far, in the order of measurement.

    Index kinds that this release does not have are skipped.
    """
    with translated(), conn.cursor(row_factory=class_row(Measurement)) as cursor:
        rows = cursor.execute(sql.query("measurements"), {"run_id": run.id}).fetchall()
    return [row for row in rows if row.options.get("kind", "hnsw") in KINDS]
