"""Runs and measurements in the database."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from psycopg.rows import class_row, dict_row, scalar_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.errors import ConflictError, NotFoundError
from app.index.spec import KINDS
from app.store.spaces import Space
from app.tuning.records import Measurement, Request, Run
from app.types import Json


def begin(conn: Connection, space: Space, request: Request, *, rows_total: int, conditions: Json) -> Run:
    """Record a run that begins."""
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
    """Record that a run has measured all it was to measure."""
    with translated():
        conn.execute(sql.query("end_run"), {"run_id": run.id})


def get(conn: Connection, run_id: int) -> Run:
    """Return a run; NotFoundError where there is none of this number."""
    found = _runs(conn, run_id=run_id)
    if not found:
        known = ", ".join(str(run.id) for run in _runs(conn)[:10]) or "none yet"
        raise NotFoundError(f"there is no run {run_id} of measurements; there are: {known}")
    return found[0]


def of_space(conn: Connection, space: Space, run_id: int) -> Run:
    """Return a run of this space; NotFoundError where it is none of it."""
    run = get(conn, run_id)
    if run.fingerprint != space.fingerprint:
        raise NotFoundError(f"run {run_id} measured space {run.space}, not {space.name}")
    return run


def latest(conn: Connection, space: Space | None = None) -> Run | None:
    """Return the last run that measured something, of this space or of any."""
    return next((run for run in _runs(conn, fingerprint=space.fingerprint if space else None) if run.choices), None)


def interrupted(conn: Connection, space: Space) -> Run:
    """Return the last run of this space; NotFoundError without any, ConflictError where that one is complete."""
    found = _runs(conn, fingerprint=space.fingerprint)
    if not found:
        raise NotFoundError(f"nothing was measured in space {space.name} yet; lookalike tradeoffs begins")
    if found[0].ended_at is not None:
        raise ConflictError(f"run {found[0].id} is complete; lookalike tradeoffs --show prints it")
    return found[0]


def _runs(conn: Connection, *, run_id: int | None = None, fingerprint: str | None = None) -> list[Run]:
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql.query("runs"), {"run_id": run_id, "fingerprint": fingerprint}).fetchall()
    return [Run(**{**row, "request": request_of(row["request"])}) for row in rows]


def request_of(stored: dict[str, Any]) -> Request:
    """Return a request as it was stored: what this code does not know is passed over."""
    known = {one.name for one in fields(Request)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items() if name in known
    }
    return Request(**values)


def add(conn: Connection, run: Run, measured: Sequence[Measurement]) -> None:
    """Store what was measured, in one transaction; a choice measured again replaces what was there."""
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
    """Return what a run has measured so far, in the order of its measurement.

    Kinds of index that this release no longer has are skipped.
    """
    with translated(), conn.cursor(row_factory=class_row(Measurement)) as cursor:
        rows = cursor.execute(sql.query("measurements"), {"run_id": run.id}).fetchall()
    return [row for row in rows if row.options.get("kind", "hnsw") in KINDS]
