"""Writes outcomes to the database: embeddings, answers, failures and retries.

Every function may be repeated with the same outcomes, because after a lost connection the commit is uncertain.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from uuid import UUID

import numpy as np

from app.db import Connection
from app.db.retry import backoff
from app.errors import (
    DatabaseUnavailableError,
    ImageError,
    LookalikeError,
    NotFoundError,
    SchemaError,
    TransientImageError,
)
from app.store import jobs, query_images
from app.store.jobs import Embedded, Job
from app.store.query_images import QueryImage
from app.store.spaces import Space
from workers.tasks import Outcome, Task

log = logging.getLogger(__name__)

# Delay of an image whose row another transaction locks; most transactions end sooner.
_LOCKED_SECONDS = 2.0
# Retries of transient errors: after 2, 8, 32, 128 s, less a random part of up to a half.
_RETRY_SECONDS, _RETRY_FACTOR, _MOST_RETRY_SECONDS = 2.0, 4.0, 600.0


@dataclass(slots=True)
class Written:
    """The result of writing outcomes. `poll_at`: when the first released job is due (monotonic)."""

    embedded: list[Task] = field(default_factory=list)
    failed: list[Task] = field(default_factory=list)
    released: int = 0
    passed_over: int = 0
    poll_at: float | None = None
    grown: list[Space] = field(default_factory=list)
    last_error: str | None = None

    def note_release(self, count: int, delay: float) -> None:
        due = time.monotonic() + delay
        self.released += count
        self.poll_at = due if self.poll_at is None else min(self.poll_at, due)


def answer_queries(conn: Connection, outcomes: Sequence[Outcome]) -> int:
    """Write the answers of the query images among `outcomes`, in a transaction per space; return how many."""
    answered = 0
    for space in {one.task.space.id: one.task.space for one in outcomes}.values():
        answers = [
            (one.task.subject.sha256, one.result)
            for one in outcomes
            if one.task.space.id == space.id and isinstance(one.task.subject, QueryImage)
        ]
        if answers:
            query_images.answer(conn, space, answers)
        answered += len(answers)
    return answered


def write_jobs(conn: Connection, outcomes: Sequence[Outcome], *, max_attempts: int) -> Written:
    """Write outcomes of jobs in one transaction; if the database refuses it, write each alone, or its failure."""
    if not outcomes:
        return Written()
    try:
        return _write(conn, outcomes, max_attempts)
    except (DatabaseUnavailableError, SchemaError, NotFoundError):
        raise  # not an image's fault
    except LookalikeError as error:
        log.warning("%d outcomes cannot be written together: %s", len(outcomes), error)
    total = Written()
    for one in outcomes:
        try:
            _add(total, _write(conn, [one], max_attempts))
        except (DatabaseUnavailableError, SchemaError, NotFoundError):
            raise
        except LookalikeError as error:
            failed = Outcome(one.task, ImageError("write", f"its embedding cannot be written: {error}"))
            _add(total, _write(conn, [failed], max_attempts))
    return total


def _write(conn: Connection, outcomes: Sequence[Outcome], max_attempts: int) -> Written:
    written = Written()
    claims = sorted(outcomes, key=_claim)
    with conn.transaction():
        for _, claimed in groupby(claims, key=_claim):
            _write_claim(conn, list(claimed), max_attempts, written)
    return written


def _claim(outcome: Outcome) -> tuple[int, UUID]:
    if outcome.task.lease is None:
        raise ValueError("a query image is not a job")
    return outcome.task.space.id, outcome.task.lease


def _write_claim(conn: Connection, outcomes: list[Outcome], max_attempts: int, written: Written) -> None:
    """Write the outcomes of one claim."""
    space, lease = outcomes[0].task.space, _claim(outcomes[0])[1]
    embedded = [_embedded(one) for one in outcomes if not isinstance(one.result, ImageError)]
    failed, again = _sort_errors(outcomes, max_attempts)
    done: set[int] = set()
    if embedded:
        done |= jobs.finish(conn, space, lease=lease, embedded=embedded)
        written.embedded += _tasks(outcomes, done)
        written.grown += [space] if done else []
    if failed:
        parked = jobs.fail(conn, space, lease=lease, errors=failed)
        _log_failures(space, parked, failed, written)
        written.failed += _tasks(outcomes, parked)
        done |= parked
    for job, error in again:
        delay = backoff(job.attempts, first=_RETRY_SECONDS, most=_MOST_RETRY_SECONDS, factor=_RETRY_FACTOR)
        count = jobs.release(conn, space, lease=lease, image_ids=[job.image_id], delay=delay)
        written.note_release(count, delay)
        written.last_error = f"{job.uri}: {error.reason}"
        log.info("retrying image %d in %.0f s (attempt %d failed): %s", job.image_id, delay, job.attempts, error.reason)
    over = ({one.image_id for one in embedded} | {image_id for image_id, _ in failed}) - done
    if over:
        # Images that were changed, deleted or claimed anew left this lease. Locked ones are released for a retry.
        locked = jobs.release(conn, space, lease=lease, image_ids=sorted(over), delay=_LOCKED_SECONDS, unattempted=True)
        written.passed_over += len(over)
        written.note_release(locked, _LOCKED_SECONDS)
        log.debug("passed over %d images changed or deleted meanwhile, %d locked", len(over) - locked, locked)


def _tasks(outcomes: list[Outcome], image_ids: set[int]) -> list[Task]:
    return [
        one.task for one in outcomes if isinstance(one.task.subject, Job) and one.task.subject.image_id in image_ids
    ]


def _embedded(outcome: Outcome) -> Embedded:
    job, facts = outcome.task.subject, outcome.facts
    if not isinstance(job, Job) or not isinstance(outcome.result, np.ndarray) or facts is None:
        raise TypeError(f"not the outcome of an embedded job: {outcome}")
    return Embedded(
        image_id=job.image_id,
        embedding=outcome.result,
        sha256=facts.sha256,
        media_type=facts.media_type,
        width=facts.width,
        height=facts.height,
    )


def _sort_errors(
    outcomes: list[Outcome], max_attempts: int
) -> tuple[list[tuple[int, ImageError]], list[tuple[Job, TransientImageError]]]:
    """Split errors into those that park their image and those after which it is retried."""
    failed: list[tuple[int, ImageError]] = []
    again: list[tuple[Job, TransientImageError]] = []
    for one in outcomes:
        job, error = one.task.subject, one.result
        if not isinstance(job, Job) or not isinstance(error, ImageError):
            continue
        if not isinstance(error, TransientImageError):
            failed.append((job.image_id, error))
        elif job.attempts >= max_attempts:
            tried = f"{error.reason} (tried {job.attempts} times)" if job.attempts > 1 else error.reason
            failed.append((job.image_id, ImageError(error.step, tried)))
        else:
            again.append((job, error))
    return failed, again


def _log_failures(space: Space, parked: set[int], failed: list[tuple[int, ImageError]], written: Written) -> None:
    for image_id, error in failed:
        if image_id in parked:
            written.last_error = f"image {image_id}: {error.reason}"
            log.info("image %d failed in space %s (%s): %s", image_id, space.name, error.step, error.reason)


def _add(total: Written, more: Written) -> None:
    total.embedded += more.embedded
    total.failed += more.failed
    total.released += more.released
    total.passed_over += more.passed_over
    total.grown += more.grown
    total.poll_at = min((at for at in (total.poll_at, more.poll_at) if at is not None), default=None)
    total.last_error = more.last_error or total.last_error
