"""Find why searches have low recall or are slow: dead rows, an index older than its data, drift, too little memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from app.db import Connection, sql, translated
from app.index.drift import Drift
from app.index.maintenance import DEAD_SHARE, LEAST_ROWS
from app.index.resources import shown

# If this share of the rows came after the build, the graph was made for other data.
NEW_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Evidence:
    """The state of the active space's index; sizes in bytes. `built_rows` None: its build did not record it."""

    space: str
    rows: int
    dead: int
    built_rows: int | None
    built_at: datetime | None
    index_bytes: int
    shared_buffers: int
    cache: int
    search_depth: float


@dataclass(frozen=True, slots=True)
class Cause:
    """One possible cause: whether it is as it should be, what was found, and the way out."""

    name: str
    ok: bool
    found: str
    remedy: str


def read_evidence(conn: Connection) -> Evidence | None:
    """Return the evidence; None if no space is active."""
    with translated(), conn.cursor(row_factory=class_row(Evidence)) as cursor:
        return cursor.execute(sql.query("index_health")).fetchone()


def drift_cause(drift: Drift) -> Cause:
    """Return whether the latest embeddings still resemble those that the transform was fitted on."""
    then, now = f"{drift.explained_then:.0%}", f"{drift.explained_now:.0%}"
    return Cause(
        "drift",
        ok=drift.ok,
        found=f"the transform fitted {drift.fitted_at.astimezone():%Y-%m-%d %H:%M} holds {now} of the variance of the "
        f"latest {drift.recent:,} embeddings ({then} of the sample's); their mean has moved by {drift.moved:.2f} "
        "standard deviations",
        remedy="fit it anew: lookalike index choose CHOICE --refit",
    )


def causes(evidence: Evidence) -> Iterator[Cause]:
    """Yield the causes that the evidence shows; nothing if there is no index."""
    if not evidence.index_bytes:
        return
    share = evidence.dead / max(evidence.dead + evidence.rows, 1)
    yield Cause(
        "dead rows",
        ok=share < DEAD_SHARE or evidence.rows + evidence.dead < LEAST_ROWS,
        found=f"{share:.0%} of the rows in the index are dead; searches walk through them and count them",
        remedy="lookalike maintain",
    )
    if evidence.built_rows is not None and evidence.built_at is not None:
        new = max(evidence.rows - evidence.built_rows, 0) / max(evidence.rows, 1)
        yield Cause(
            "index age",
            ok=new < NEW_SHARE or evidence.rows < LEAST_ROWS,
            found=f"built {evidence.built_at.astimezone():%Y-%m-%d %H:%M} of {evidence.built_rows:,} rows; "
            f"{new:.0%} of those there are now came after",
            remedy="lookalike index rebuild",
        )
    yield Cause(
        "memory",
        ok=evidence.index_bytes <= evidence.cache,
        found=f"the index has {shown(evidence.index_bytes)}; the server's cache is {shown(evidence.cache)}, of this "
        f"{shown(evidence.shared_buffers)} its own",
        remedy="more memory for the server (shared_buffers, effective_cache_size), or a smaller index: beyond the "
        "cache every search reads from disk",
    )
