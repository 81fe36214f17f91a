"""Recall of live searches: save a sample of them, check it against exact search in idle time, and estimate."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pgvector import HalfVector
from psycopg import errors as pg
from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from app.db import Connection, call, sql, translated
from app.errors import DatabaseUnavailableError, LookalikeError
from app.search.request import Request
from app.search.results import SearchResult
from app.search.run import query_of
from app.store import spaces
from app.store.spaces import Space

log = logging.getLogger(__name__)

CHECK_SECONDS = 30.0  # for one check: a search and an exact search
FEWEST = 30  # checks for an estimate; lookalike.recall_status has the same number
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class RecallEstimate:
    """A row of `lookalike.recall_status`: mean recall of checked live searches, with its 95 % interval.

    `recall` None: no search had anything to find. `plan` or `selectivity` None: all of them.
    """

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
    """A row of `lookalike.recall_adjustments`. Depths are multiples of the configured search depth."""

    space: str
    adjusted_at: datetime
    adjusted_by: str
    from_depth: float
    to_depth: float
    reason: str


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall of live searches: estimates by space, period, plan and selectivity, the active space's trend, adjustments.

    `waiting` is the number of saved searches not checked yet; None on a standby.
    """

    waiting: int | None
    estimates: list[RecallEstimate]
    hours: list[RecallPoint]
    days: list[RecallPoint]
    adjustments: list[RecallAdjustment]


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a round of checks; `failed` of the `checked` gave no result."""

    checked: int
    failed: int
    seconds: float


def should_sample(asked: Request, *, share: float) -> bool:
    """Return at random whether to save this search; only approximate searches by lookalike.search count."""
    plain = asked.mode is None and asked.strategy != "exact" and asked.recall != 1
    return plain and random.random() < share  # noqa: S311


def save_sample(conn: Connection, asked: Request, found: SearchResult, *, source: str) -> bool:
    """Save an answered search for a later check; return whether it was saved. In autocommit.

    Errors are logged and not raised, because the search itself succeeded.
    """
    try:
        query = None if _by_id(asked) else query_of(conn, asked)
        values = {
            "query": None if query is None else HalfVector(query),
            "image_id": asked.image_id if query is None else None,
            "k": asked.k,
            "filter": None if asked.filter is None else Jsonb(asked.filter),
            "max_distance": asked.max_distance,
            "exclude": list(asked.exclude) if query is None else asked.left_out,
            "recall": asked.recall,
            "strategy": asked.strategy,
            "proven": bool((found.plan or {}).get("proven")) and asked.max_distance is not None,
            "source": source,
            "space": found.space,
        }
        with translated(), conn.cursor(row_factory=scalar_row) as cursor:
            return bool(cursor.execute(sql.query("sample_search"), values).fetchone())
    except LookalikeError as error:
        log.warning("a search was not saved for a check of its recall: %s", error)
        return False


def _by_id(asked: Request) -> bool:
    """Return whether the query is the embedding of one stored image; the database reads that itself."""
    return asked.image_id is not None and not (
        asked.like or asked.unlike or asked.like_embeddings or asked.unlike_embeddings
    )


def check(
    conn: Connection,
    *,
    seconds: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
    timeout: float = CHECK_SECONDS,
) -> Checked:
    """Check saved searches of the active space, oldest first, until none waits or `seconds` have passed. In autocommit.

    A check that takes longer than `timeout` counts as failed. `stopped` is called between two checks. If a check is
    cancelled from outside, the round ends and the search stays. Only one session checks at a time; others return at
    once.
    """
    began = time.monotonic()
    checked = failed = 0
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        if not cursor.execute("SELECT pg_try_advisory_lock(hashtext('lookalike.recall'))").fetchone():
            return Checked(0, 0, 0.0)
        try:
            conn.execute("SELECT set_config('statement_timeout', %s, false)", (f"{timeout * 1000:.0f}",))
            after = 0
            while not stopped() and (seconds is None or time.monotonic() - began < seconds):
                sample_id = cursor.execute(sql.query("next_sample"), {"after": after}).fetchone()
                if sample_id is None or stopped():
                    break
                after = int(sample_id)
                one_began = time.monotonic()
                try:
                    call(cursor, "check_sample", sample_id)
                except pg.QueryCanceled:
                    spent = time.monotonic() - one_began
                    if stopped() or spent < timeout:
                        break
                    reason = f"an exact search took longer than {timeout:g} s"
                    call(cursor, "give_up_sample", sample_id, reason, spent)
                    failed += 1
                checked += 1
        finally:
            if not conn.closed:
                conn.execute("RESET statement_timeout")
                conn.execute("SELECT pg_advisory_unlock(hashtext('lookalike.recall'))")
    return Checked(checked, failed, time.monotonic() - began)


def allowance(conn: Connection, *, budget: float) -> float:
    """Return the seconds left for checks; `budget` is the share of time allowed over the last minute and hour.

    The mean duration of a check is subtracted, because the last check of a round exceeds the time left.
    """
    with translated():
        row = conn.execute(sql.query("recall_spent")).fetchone() or (0.0, 0.0, 0.0)
    minute, hour, one = (float(str(value)) for value in row)
    return min(budget * 60 - minute, budget * 3600 - hour) - min(one, budget * 30)


def read(conn: Connection, *, hours: int = 48, days: int = 30) -> Recall:
    """Return the recall of live searches."""
    with translated():
        return Recall(
            waiting=waiting(conn),
            estimates=estimates(conn),
            hours=_trend(conn, "hour", hours),
            days=_trend(conn, "day", days),
            adjustments=adjustments(conn),
        )


def waiting(conn: Connection) -> int | None:
    """Return the number of saved searches not checked yet; None on a standby."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        found = call(cursor, "samples_waiting").fetchone()
    return None if found is None else int(found)


def estimates(conn: Connection) -> list[RecallEstimate]:
    """Return lookalike.recall_status: active space first, then shortest period first, totals before their parts."""
    with translated(), conn.cursor(row_factory=class_row(RecallEstimate)) as cursor:
        return cursor.execute(sql.query("recall_status")).fetchall()


def adjustments(conn: Connection, *, most: int = 20) -> list[RecallAdjustment]:
    """Return the latest changes of the search depth, newest first."""
    with translated(), conn.cursor(row_factory=class_row(RecallAdjustment)) as cursor:
        return cursor.execute(sql.query("recall_adjustments"), {"most": most}).fetchall()


def _trend(conn: Connection, step: str, most: int) -> list[RecallPoint]:
    with conn.cursor(row_factory=class_row(RecallPoint)) as cursor:
        return cursor.execute(sql.query("recall_trend"), {"step": step, "most": most}).fetchall()


def current_estimate(found: list[RecallEstimate], space: str) -> RecallEstimate | None:
    """Return a space's estimate over all searches of the shortest period with 30 checks, else of the longest."""
    whole = [one for one in found if one.space == space and one.plan is None and one.selectivity is None]
    return next((one for one in whole if one.searches >= FEWEST), whole[-1] if whole else None)


def adjust(conn: Connection, space: Space, *, most: float) -> RecallAdjustment | None:
    """Make searches in a space deeper by half if recall is below its goal; return the change, or None.

    The depth grows to `most` times the configured depth, and never shrinks.
    """
    with translated(), conn.cursor(row_factory=class_row(RecallAdjustment)) as cursor:
        return cursor.execute(sql.query("adjust_recall"), {"space_id": space.id, "most": most}).fetchone()


def set_depth(conn: Connection, space: Space, depth: float) -> RecallAdjustment:
    """Set the search depth of a space, as a multiple of the configured depth.

    Raises:
        InvalidInputError: `depth` is not from 1 to 100.
    """
    with translated(), conn.cursor(row_factory=class_row(RecallAdjustment)) as cursor:
        done = cursor.execute(sql.query("set_search_depth"), {"space_id": space.id, "depth": depth}).fetchone()
    if done is None:
        raise DatabaseUnavailableError("the change of the search depth was not recorded; try again")
    return done


def forget(conn: Connection, *, days: float) -> int:
    """Delete saved searches older than `days` days, and checks older than 90; return the number of rows."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return int(call(cursor, "forget_recall", days * _DAY).fetchone() or 0)


def warning(conn: Connection) -> str | None:
    """Return a warning if the recall of the active space is below its goal, else None."""
    space = spaces.active(conn)
    return warning_text(current_estimate(estimates(conn), space.name))


def warning_text(now: RecallEstimate | None) -> str | None:
    """Return a warning if this estimate is below its goal, else None."""
    if now is None or not now.below or now.recall is None or now.high is None or now.goal is None:
        return None
    return (
        f"live searches in space {now.space} find {now.recall:.3f} of their true neighbours (at most {now.high:.3f} by "
        f"{now.searches} checks), below their goal of {now.goal:.3f}; lookalike recall shows them by filter, "
        "lookalike doctor finds the cause"
    )


def adjustment_text(done: RecallAdjustment) -> str:
    """Return a change of the search depth as a line of text."""
    return (
        f"space {done.space}: {done.reason}: searches are now {done.to_depth:.2f} times as deep as configured, "
        f"before {done.from_depth:.2f} times"
    )
