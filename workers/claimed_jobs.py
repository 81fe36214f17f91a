"""The jobs that a worker has claimed and not yet written: how many fit, their leases, the suspects among them."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

from app.db import Connection
from app.errors import ImageError
from app.store import jobs
from app.store.jobs import Job
from app.store.spaces import Space
from workers.tasks import Outcome, Task

log = logging.getLogger(__name__)

# One claim on the device, one ready for it, one being loaded.
_MOST_CLAIMS = 3
# Workers may be killed with a healthy image in hand, but an image that loses more leases than this is suspicious.
_FEWEST_LOST_LEASES = 3
# A batch may take longer than a lease, but a device without any outcome for this many leases hangs.
_HUNG_LEASES = 3


class ClaimedJobs:
    """Jobs claimed and not yet written, quarantined ones included. For the worker's thread only."""

    def __init__(self, *, claim_size: int, lease_seconds: float, max_attempts: int, others_beside: bool) -> None:
        """`others_beside`: other spaces have room for a claim even if the active space's jobs fill the worker."""
        self._claim_size = claim_size
        self._lease_seconds = lease_seconds
        self._others_beside = others_beside
        self._most_leases = max(max_attempts, _FEWEST_LOST_LEASES)
        self._tasks: set[Task] = set()
        self._quarantined: list[Task] = []  # suspects among them, not yet submitted
        self._suspects = 0
        self._renew_at = self._outcome_at = time.monotonic()

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, tasks: Iterable[Task]) -> None:
        """Add jobs that are being submitted."""
        if not self._tasks:
            self._outcome_at = time.monotonic()
        self._tasks.update(tasks)

    def quarantine(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Hold suspects until no other job is in work; return failures for those that lost too many leases."""
        self.add(tasks)
        self._suspects += len(tasks)
        outcomes = []
        for task in tasks:
            attempts = _job(task).attempts
            if attempts <= self._most_leases:
                self._quarantined.append(task)
                continue
            reason = (
                f"{attempts - 1} workers that had this image in hand died or were cut off before it was done; "
                "it may be what takes them down"
            )
            outcomes.append(Outcome(task, ImageError("encode", reason)))
        return outcomes

    def take_suspects(self) -> list[Task]:
        """Release the quarantined suspects for submission if no other job is in work, else return none."""
        if not self._quarantined or len(self._quarantined) < len(self._tasks):
            return []
        taken, self._quarantined = self._quarantined, []
        return taken

    def remove(self, tasks: Iterable[Task]) -> None:
        """Remove tasks that are written or will never be."""
        for task in tasks:
            if task in self._tasks:
                self._tasks.remove(task)
                self._suspects -= _job(task).suspect

    def note_outcome(self) -> None:
        """Record that the pipeline has made progress."""
        self._outcome_at = time.monotonic()

    def has_room(self, space: Space | None = None) -> bool:
        """Return whether another claim fits. No claim fits beside a suspect, which must be alone.

        Jobs of other spaces take no room from the active space. Another space has room for one claim beside the active
        space's jobs, so that it has images ready when its turn comes.
        """
        if self._suspects:
            return False
        count = len(self._tasks)
        if space:
            of_active = sum(task.space.active for task in self._tasks)
            if space.active:
                count = of_active
            elif self._others_beside and of_active == count:
                count = 0
        return count <= (_MOST_CLAIMS - 1) * self._claim_size

    def renew(self, conn: Connection, spaces: Iterable[Space]) -> None:
        """Extend the leases as long as the pipeline makes progress; a device that hangs must not keep its jobs."""
        now = time.monotonic()
        if now < self._renew_at or not self._tasks:
            return
        self._renew_at = now + self._lease_seconds / 3
        if now - self._outcome_at > _HUNG_LEASES * self._lease_seconds:
            log.error("no outcome for %.0f s; leaving the jobs in work to other workers", now - self._outcome_at)
            return
        for space in spaces:
            held = [
                (task.lease, _job(task).image_id) for task in self._tasks if task.lease and task.space.id == space.id
            ]
            jobs.renew(conn, space, held=held, lease_seconds=self._lease_seconds)

    def hand_back(self, conn: Connection, spaces: Iterable[Space]) -> None:
        """Release unfinished jobs so that other workers can claim them at once; this counts as no attempt.

        `spaces`: those that still exist; the jobs of a dropped space went with it.
        """
        claims: defaultdict[tuple[int, UUID], list[int]] = defaultdict(list)
        for task in self._tasks:
            if task.lease:
                claims[task.space.id, task.lease].append(_job(task).image_id)
        by_id = {space.id: space for space in spaces}
        released = 0
        for (space_id, lease), image_ids in claims.items():
            if space_id in by_id:
                released += jobs.release(conn, by_id[space_id], lease=lease, image_ids=image_ids, unattempted=True)
        if released:
            conn.execute("NOTIFY lookalike_jobs")
            log.info("handed back %d jobs", released)
        self._tasks.clear()
        self._quarantined.clear()
        self._suspects = 0


def _job(task: Task) -> Job:
    if not isinstance(task.subject, Job):
        raise TypeError("a query image is not a job")
    return task.subject
