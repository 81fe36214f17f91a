"""Chooses the batch that the device encodes next. It has no threads and no clock, and it never sees an image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Seconds that the first image of a batch waits for images that are still being loaded: if they will fill the batch,
# and if they will not. Under load a full batch is worth more than its first image's time, but an image that hangs must
# not hold up the others.
_FULL_WAIT = 1.0
_PART_WAIT = 0.1


@dataclass(frozen=True, slots=True, order=True)
class QueueKey:
    """Names a queue before the device: the query images, or the jobs, of one space."""

    is_query: bool
    space_id: int


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue with at least one image ready to encode.

    `ready` and `loading` count images; `since` is when the first one became ready, on the clock of `choose`'s `now`.
    """

    key: QueueKey
    ready: int
    loading: int
    since: float
    batch_size: int
    active: bool

    @property
    def _patience(self) -> float:
        """Seconds that the first image waits for a full batch."""
        if not self.loading:
            return 0.0
        return _FULL_WAIT if self.ready + self.loading >= self.batch_size else _PART_WAIT

    def is_due(self, now: float) -> bool:
        """Return whether a batch of jobs should go, full or not."""
        return self.ready >= self.batch_size or now - self.since >= self._patience

    def due_in(self, now: float) -> float:
        """Return the seconds until the first image has waited long enough."""
        return max(0.0, self.since + self._patience - now)


@dataclass(frozen=True, slots=True)
class Choice:
    """The queue whose batch goes next; if None, the longest wait before the next call (None: until a change)."""

    key: QueueKey | None
    wait_seconds: float | None = None


class Scheduler:
    """Shares the device between query images and jobs, and between the active space and the others.

    It counts the batches that it has chosen, so each choice must be encoded. Callers hold a lock.
    """

    def __init__(self, *, query_share: int, job_share: int, active_share: int) -> None:
        """While both kinds wait, `query_share` batches of query images alternate with `job_share` batches of jobs.

        `active_share` batches of the active space's jobs alternate with one batch of another space's. If it is 0, the
        other spaces wait until the active space has no jobs.
        """
        self._query_share = query_share
        self._job_share = job_share
        self._active_share = active_share
        # Batches in a row of one kind, while the other kind waited.
        self._query_batches = self._job_batches = 0
        self._active_batches = 0  # in a row, while another space's jobs waited

    def choose(self, queues: Iterable[Queue], *, now: float, queries_only: bool = False) -> Choice:
        """Choose the next batch from the queues that have images ready.

        Query images go at once, in any number. A batch of jobs goes when it is full, when nothing more is being loaded
        for it, or when its first image has waited long enough. So a single image goes at once, and a backlog fills its
        batches, even if large images take longer to decode than to encode.
        """
        oldest_first = sorted(queues, key=lambda queue: (queue.since, queue.key))
        queries = [queue for queue in oldest_first if queue.key.is_query]
        jobs = [queue for queue in oldest_first if not queue.key.is_query]
        due = self._due(jobs, now)
        if queries and not (due and self._query_batches >= self._query_share):
            self._count_queries(jobs_wait=bool(due))
            return Choice(queries[0].key)
        if queries_only:
            return Choice(None)
        if due:
            self._count_jobs(due[0], queries_wait=bool(queries), others_wait=any(not queue.active for queue in jobs))
            return Choice(due[0].key)
        return Choice(None, min((queue.due_in(now) for queue in jobs), default=None))

    def _due(self, jobs: Sequence[Queue], now: float) -> list[Queue]:
        """Return the queues of jobs whose batch should go, first the one whose turn it is.

        The active space comes first because nobody searches the images of the others yet.
        """
        others_turn = self._active_share > 0 and self._active_batches >= self._active_share
        return sorted((queue for queue in jobs if queue.is_due(now)), key=lambda queue: queue.active is others_turn)

    def _count_queries(self, *, jobs_wait: bool) -> None:
        self._query_batches = self._query_batches + 1 if jobs_wait else 0
        self._job_batches = 0

    def _count_jobs(self, chosen: Queue, *, queries_wait: bool, others_wait: bool) -> None:
        self._job_batches += 1
        if not queries_wait or self._job_batches >= self._job_share:
            self._query_batches = 0
        self._active_batches = self._active_batches + 1 if chosen.active and others_wait else 0
