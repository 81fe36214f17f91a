"""Recall of live searches: a share of them is kept, checked against exact search when there is time, and summed up."""

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

# Of one check: a search, and an exact one.
CHECK_SECONDS = 30.0
# Checks that say something; lookalike.recall_status has the same number.
FEWEST = 30
_DAY = 86_400.0


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
class Recall:
    """What live searches find of their true neighbours: kept searches that wait (None on a standby), estimates by
    space, period, plan and selectivity, the active space's trend, changes of the search depth."""

    waiting: int | None
    estimates: list[RecallEstimate]
    hours: list[RecallPoint]
    days: list[RecallPoint]
    adjustments: list[RecallAdjustment]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a round of checks did: how many, of these without a result, and seconds."""

    checked: int
    failed: int
    seconds: float


def should_sample(asked: Request, *, share: float) -> bool:
    """Tell whether this search is one to be kept: by chance, of those that lookalike.search answers inexactly."""
    plain = asked.mode is None and asked.strategy != "exact" and asked.recall != 1
    return plain and random.random() < share  # noqa: S311


def save_sample(conn: Connection, asked: Request, found: SearchResult, *, source: str) -> bool:
    """Keep a search that was answered, to be checked later; return whether it was.

    What goes wrong is logged and is nothing to the searcher, who has the answer. In autocommit.
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
        log.warning("a search is not kept for checking its recall: %s", error)
        return False


def _by_id(asked: Request) -> bool:
    """Whether the query is the embedding of one stored image, which the database looks up itself."""
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
    """Check kept searches of the active space, the oldest first, until none waits or `seconds` have passed.

    In autocommit. A check that takes longer than `timeout` is given up. `stopped` is asked between two checks; one that
    is cancelled from outside ends the round, and its search stays. One session at a time: another one checks nothing.
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
    """Return the seconds of checks that a budget, a share of the time, has left: over the last minute and hour.

    Less what one check takes, on the average: the last one of a round goes beyond what was left.
    """
    with translated():
        row = conn.execute(sql.query("recall_spent")).fetchone() or (0.0, 0.0, 0.0)
    minute, hour, one = (float(str(value)) for value in row)
    return min(budget * 60 - minute, budget * 3600 - hour) - min(one, budget * 30)


def read(conn: Connection, *, hours: int = 48, days: int = 30) -> Recall:
    """Return all that is known of live recall."""
    with translated():
        return Recall(
            waiting=waiting(conn),
            estimates=estimates(conn),
            hours=_trend(conn, "hour", hours),
            days=_trend(conn, "day", days),
            adjustments=adjustments(conn),
        )


def waiting(conn: Connection) -> int | None:
    """Return how many kept searches wait; None on a standby."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        found = call(cursor, "samples_waiting").fetchone()
    return None if found is None else int(found)


def estimates(conn: Connection) -> list[RecallEstimate]:
    """Return lookalike.recall_status: the active space first, the shortest period first, the whole before its parts."""
    with translated(), conn.cursor(row_factory=class_row(RecallEstimate)) as cursor:
        return cursor.execute(sql.query("recall_status")).fetchall()


def adjustments(conn: Connection, *, most: int = 20) -> list[RecallAdjustment]:
    """Return the latest changes of the search depth."""
    with translated(), conn.cursor(row_factory=class_row(RecallAdjustment)) as cursor:
        return cursor.execute(sql.query("recall_adjustments"), {"most": most}).fetchall()


def _trend(conn: Connection, step: str, most: int) -> list[RecallPoint]:
    with conn.cursor(row_factory=class_row(RecallPoint)) as cursor:
        return cursor.execute(sql.query("recall_trend"), {"step": step, "most": most}).fetchall()


def current_estimate(found: list[RecallEstimate], space: str) -> RecallEstimate | None:
    """Return the estimate over all searches of a space that says most: of the last hour, if 30 were checked, or day
    or week."""
    whole = [one for one in found if one.space == space and one.plan is None and one.selectivity is None]
    return next((one for one in whole if one.searches >= FEWEST), whole[-1] if whole else None)


def adjust(conn: Connection, space: Space, *, most: float) -> RecallAdjustment | None:
    """Make searches in a space half as deep again where recall is below its goal, up to `most` times the depth that is
    set up; return what was done, None where nothing was. It never makes them shallower."""
    with translated(), conn.cursor(row_factory=class_row(RecallAdjustment)) as cursor:
        return cursor.execute(sql.query("adjust_recall"), {"space_id": space.id, "most": most}).fetchone()


def set_depth(conn: Connection, space: Space, depth: float) -> RecallAdjustment:
    """Set how many times deeper than set up the searches in a space are; InvalidInputError beyond 1 to 100."""
    with translated(), conn.cursor(row_factory=class_row(RecallAdjustment)) as cursor:
        done = cursor.execute(sql.query("set_search_depth"), {"space_id": space.id, "depth": depth}).fetchone()
    if done is None:
        raise DatabaseUnavailableError("the change of the search depth left no line")
    return done


def forget(conn: Connection, *, days: float) -> int:
    """Remove kept searches older than so many days, and checks older than 90; return how many rows went."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return int(call(cursor, "forget_recall", days * _DAY).fetchone() or 0)


def warning(conn: Connection) -> str | None:
    """Return what to say where the active space does not find what its searches ask for; None where it does."""
    space = spaces.active(conn)
    return warning_text(current_estimate(estimates(conn), space.name))


def warning_text(now: RecallEstimate | None) -> str | None:
    """Return the warning that an estimate gives cause for."""
    if now is None or not now.below or now.recall is None or now.high is None or now.goal is None:
        return None
    return (
        f"live searches in space {now.space} find {now.recall:.3f} of their true neighbours (at most {now.high:.3f} by "
        f"{now.searches} checked), and ask for {now.goal:.3f}; lookalike recall shows where, lookalike doctor says why"
    )


def adjustment_text(done: RecallAdjustment) -> str:
    """Return the line that tells of a change of the search depth."""
    return (
        f"space {done.space}: {done.reason}: searches are {done.to_depth:.2f} times as deep as set up from now on, "
        f"before {done.from_depth:.2f}"
    )
