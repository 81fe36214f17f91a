"""The jobs that a worker has claimed and not yet written: their room, their leases, and suspects among them."""

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

# Claimed and not yet written: one claim on the device, one ready for it, one being loaded.
_MOST_CLAIMS = 3
# A healthy image may well be in the hands of workers that are killed: more often than this is suspicious.
_FEWEST_LOST_LEASES = 3
# A batch may take longer than a lease; without any outcome for so many leases the device hangs.
_HUNG_LEASES = 3


class ClaimedJobs:
    """Jobs in work, those held back included; used in the worker's thread."""

    def __init__(self, *, claim_size: int, lease_seconds: float, max_attempts: int, others_beside: bool) -> None:
        """`others_beside`: jobs of other spaces have room beside those of the active one."""
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
        """Take note of jobs that are being submitted."""
        if not self._tasks:
            self._outcome_at = time.monotonic()
        self._tasks.update(tasks)

    def quarantine(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Keep suspects until nothing else is in work; return the outcomes of those that were lost too often."""
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
        """Return the suspects held back, where nothing else is in work now: they are to be submitted."""
        if not self._quarantined or len(self._quarantined) < len(self._tasks):
            return []
        taken, self._quarantined = self._quarantined, []
        return taken

    def remove(self, tasks: Iterable[Task]) -> None:
        """Take note that these are written, or will never be."""
        for task in tasks:
            if task in self._tasks:
                self._tasks.remove(task)
                self._suspects -= _job(task).suspect

    def note_outcome(self) -> None:
        """Take note that something has come out of the pipeline."""
        self._outcome_at = time.monotonic()

    def has_room(self, space: Space | None = None) -> bool:
        """Tell whether there is room for a batch, and no suspect, which must be alone.

        The active space has room beside whatever is in work for others; these have it for one claim beside the active
        one's, so that there is something to take when it is their turn.
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
        """Move the end of the leases, as long as work goes on: a device that hangs must not keep its jobs."""
        now = time.monotonic()
        if now < self._renew_at or not self._tasks:
            return
        self._renew_at = now + self._lease_seconds / 3
        if now - self._outcome_at > _HUNG_LEASES * self._lease_seconds:
            log.error("nothing has come out for %.0f s; the jobs in work are left to others", now - self._outcome_at)
            return
        for space in spaces:
            held = [
                (task.lease, _job(task).image_id) for task in self._tasks if task.lease and task.space.id == space.id
            ]
            jobs.renew(conn, space, held=held, lease_seconds=self._lease_seconds)

    def hand_back(self, conn: Connection, spaces: Iterable[Space]) -> None:
        """Release what is not done, so that other workers can have it at once: no attempt of theirs.

        `spaces`: those that are there still; the jobs of others went with them.
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
        raise TypeError("a query image is no job")
    return task.subject
