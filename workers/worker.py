"""The worker: one loop that claims, hands to the pipeline and writes; all database work on the queue is in its thread.

Imports the other modules of workers and `app`.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from uuid import UUID, uuid4

import psycopg

from app import db, jobs, queries, schema, spaces
from app.config import Settings
from app.errors import DatabaseUnavailableError, ImageError, NotFoundError, SchemaError
from app.limits import limits_of
from app.reconnect import until_available
from app.records import Job, Space
from workers import writer
from workers.batch_size import claim_size
from workers.bell import Bell
from workers.heartbeat import Heartbeat, Progress
from workers.housekeeping import Housekeeping
from workers.known import Known
from workers.outbox import Outbox
from workers.pipeline import Pipeline
from workers.roster import Roster
from workers.serving import Served, check_fingerprint
from workers.summary import Summary
from workers.tasks import Outcome, Task
from workers.timings import Timings

log = logging.getLogger(__name__)

# Notifications wake the worker. This is for what sends none: leases that end, jobs that others released.
_LOOK_SECONDS = 5.0
_DRAIN_LOOK_SECONDS = 0.5
_QUERY_LEASE_SECONDS = 10.0
# Claimed and not yet written: one claim on the device, one ready for it, one being loaded.
_CLAIMS_IN_WORK = 3
# A healthy image may well be in the hands of workers that are killed: more often than this is suspicious.
_FEWEST_LOST_LEASES = 3
# A batch may take longer than a lease; without any outcome for so many leases the device hangs.
_HUNG_LEASES = 3


class Worker:
    """Serves spaces until stopped, or with `drain` until their queues are empty. `run` once, in one thread."""

    def __init__(
        self,
        url: str,
        served: Sequence[Served],
        settings: Settings,
        *,
        drain: bool = False,
        load: Callable[[Space], Served] | None = None,
    ) -> None:
        """With `load`, which loads a space's model, the worker serves other spaces too, as they come."""
        self._url = url
        self._bell = Bell()
        self._roster = Roster(served, load=load, wake=self._spaces_changed)
        self._spaces, self._encoders = self._roster.spaces, self._roster.encoders
        self._spaces_due = False
        self._heartbeat: Heartbeat | None = None
        self._settings = settings
        self._claim_size = settings.batch_size or max(claim_size(one.encoder) for one in served)
        self._drain = drain
        self._stopping = False
        self._in_work: set[Task] = set()  # claimed, not yet written
        self._held_back: list[Task] = []  # suspects among them, not yet submitted
        self._outbox = Outbox(enough=self._claim_size)
        self._jobs_due = self._queries_due = True
        self._look_seconds = min(_DRAIN_LOOK_SECONDS if drain else _LOOK_SECONDS, settings.lease_seconds / 3)
        self._look_at = self._renew_at = self._outcome_at = time.monotonic()
        self._progress = Progress()
        self._timings = Timings()
        self._summary = Summary(self._progress, self._timings)
        self._housekeeping = Housekeeping(
            url,
            self._spaces,
            index_min_rows=settings.index_min_rows,
            wake=self._bell.ring,
            **({} if settings.maintain else {"maintain_seconds": None}),
        )

    def stop(self) -> None:
        """Ask the worker to finish the batch in hand and end; for signal handlers and other threads."""
        self._stopping = True
        self._bell.ring()

    def run(self) -> None:
        """Work until stopped or drained; a database that cannot be reached is waited for.

        Raises SchemaError, ConfigurationError or NotFoundError where waiting would not help, and encoding.DeviceError
        where the device fails on every image.
        """
        names = ", ".join(space.name for space in self._spaces)
        device = "; ".join(sorted({encoder.description for encoder in self._encoders.values()}))
        log.info("serving %s on %s, claims of up to %d", names, device, self._claim_size)
        self._heartbeat = heartbeat = Heartbeat(
            self._url, self._spaces, device=device, progress=self._progress, timings=self._timings
        )
        pipeline = Pipeline(
            self._encoders,
            limits=limits_of(self._settings),
            known=Known(self._url),
            batch_size=self._settings.batch_size,
            threads=self._settings.loader_threads,
            timings=self._timings,
            wake=self._bell.ring,
            shares=(self._settings.query_share, self._settings.job_share),
            active_share=self._settings.active_share,
        )
        try:
            heartbeat.start()
            until_available(lambda: self._session(pipeline), pause=self._pause)
            if self._in_work:
                log.warning("%d jobs in hand come again when their leases end", len(self._in_work))
        finally:
            pipeline.stop()
            heartbeat.stop()
            self._bell.close()
            self._summary.tell()

    def _pause(self, seconds: float) -> bool:
        """Sleep while the database is away; tell whether to go on."""
        self._progress.state = "reconnecting"
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._bell.wait(left)
        return not self._stopping

    # The loop

    def _session(self, pipeline: Pipeline) -> None:
        """Work over one connection, until stopped, drained, or the connection is lost."""
        with closing(db.connect(self._url, autocommit=True, application="lookalike worker")) as conn, db.translated():
            self._look_around(conn)
            self._check(conn)
            conn.execute("LISTEN lookalike_jobs")
            conn.execute("LISTEN lookalike_queries")
            conn.execute("LISTEN lookalike_spaces")
            self._jobs_due = self._queries_due = True
            try:
                while not self._stopping:
                    self._turn(conn, pipeline)
                    if self._drain and self._drained(conn):
                        self._stopping = True
                    else:
                        self._wait(conn)
                self._progress.state = "stopping"
                pipeline.stop()
                self._write(conn, pipeline, gather=False)
            except Exception as error:
                if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | DatabaseUnavailableError):
                    self._hand_back(conn)  # the worker ends; others need not wait for its leases
                raise
            self._hand_back(conn)

    def _turn(self, conn: db.Connection, pipeline: Pipeline) -> None:
        """Do all that can be done without waiting; query images come first."""
        if self._spaces_due:
            self._look_around(conn)
        self._claim_queries(conn, pipeline)
        self._write(conn, pipeline)
        self._claim_queries(conn, pipeline)
        self._claim_jobs(conn, pipeline)
        self._renew(conn)
        busy = bool(self._in_work)
        self._housekeeping.step(conn, idle=not busy and not self._jobs_due)
        self._progress.state = "busy" if busy else "housekeeping" if self._housekeeping.busy else "idle"
        self._summary.tick(busy=busy)

    def _spaces_changed(self) -> None:
        self._spaces_due = True
        self._bell.ring()

    def _look_around(self, conn: db.Connection) -> None:
        """See which spaces have come, been switched or gone."""
        self._spaces_due = False
        if self._roster.look(conn):
            log.info("serving %s", ", ".join(f"{one.name}{' (active)' if one.active else ''}" for one in self._spaces))
            self._housekeeping.serve(self._spaces)
            if self._heartbeat:
                self._heartbeat.serve(self._spaces)
            self._jobs_due = self._queries_due = True
        self._progress.last_error = self._roster.error or self._progress.last_error

    def _check(self, conn: db.Connection) -> None:
        """See that the database is still the one we know: it may be another after a connection was lost."""
        schema.check(conn)
        for space in self._spaces:
            found = spaces.get(conn, space.name)
            if found.id != space.id:
                raise SchemaError(f"the space {space.name} is not the one served; start the worker again")
            check_fingerprint(found, self._encoders[space.id])

    def _wait(self, conn: db.Connection) -> None:
        """Wait for a notification, an outcome, a signal, or the time to look by oneself."""
        self._read_notifications(conn)
        if not (self._queries_due and self._may_claim_queries()) and not (self._jobs_due and self._may_claim_jobs()):
            self._bell.wait(min(self._look_at, self._write_at()) - time.monotonic(), descriptor=conn.fileno())
            self._read_notifications(conn)
        if (now := time.monotonic()) >= self._look_at:
            self._jobs_due = self._queries_due = self._spaces_due = True
            self._look_at = now + self._look_seconds

    def _read_notifications(self, conn: db.Connection) -> None:
        for notification in conn.notifies(timeout=0):
            if notification.channel == "lookalike_queries":
                self._queries_due = True
            elif notification.channel == "lookalike_spaces":
                self._spaces_due = True
            else:
                self._jobs_due = True

    def _drained(self, conn: db.Connection) -> bool:
        if (
            self._in_work
            or self._jobs_due
            or self._spaces_due
            or self._roster.busy
            or not self._housekeeping.done
            or jobs.any_left(conn, self._spaces)
        ):
            return False
        if self._housekeeping.error:
            raise self._housekeeping.error
        return True

    # Claim

    def _claim_queries(self, conn: db.Connection, pipeline: Pipeline) -> None:
        if not (self._queries_due and self._may_claim_queries()):
            return
        self._queries_due = False
        for space in self._spaces:
            with self._timings.measure("claim", space.id):
                claimed = queries.claim(conn, space, most=self._claim_size, lease_seconds=_QUERY_LEASE_SECONDS)
            self._submit(pipeline, [Task(space, query) for query in claimed])
            self._queries_due |= len(claimed) == self._claim_size

    def _may_claim_queries(self) -> bool:
        return sum(task.is_query for task in self._in_work) <= self._claim_size

    def _claim_jobs(self, conn: db.Connection, pipeline: Pipeline) -> None:
        self._submit_suspects(pipeline)
        found = self._jobs_due
        while found:
            found = self._jobs_due = False
            for space in self._spaces:  # the active one comes first, and others get what it leaves
                if self._may_claim_jobs(space):
                    found |= self._claim_of(conn, pipeline, space)
                else:
                    self._jobs_due = True
            self._claim_queries(conn, pipeline)

    def _may_claim_jobs(self, space: Space | None = None) -> bool:
        """Tell whether there is room for a batch, and no suspect, which must be alone.

        The active space has room beside whatever is in work for others; these have it for one claim beside the active
        one's, so that there is something to take when it is their turn.
        """
        in_work = self._jobs_in_work()
        room = (_CLAIMS_IN_WORK - 1) * self._claim_size
        if space and not any(job.suspect for _, job in in_work):
            others = [one for one in in_work if not one[0].space.active]
            if space.active:
                in_work = [one for one in in_work if one[0].space.active]
            elif self._settings.active_share and not others:
                in_work = []
        return len(in_work) <= room and not any(job.suspect for _, job in in_work)

    def _jobs_in_work(self) -> list[tuple[Task, Job]]:
        return [(task, task.subject) for task in self._in_work if isinstance(task.subject, Job)]

    def _claim_of(self, conn: db.Connection, pipeline: Pipeline, space: Space) -> bool:
        """Claim a batch of jobs of one space; tell whether there were any."""
        lease = uuid4()
        with self._timings.measure("claim", space.id):
            claimed = jobs.claim(
                conn, space, lease=lease, most=self._claim_size, lease_seconds=self._settings.lease_seconds
            )
        tasks = [Task(space, job, lease) for job in claimed]
        if claimed and claimed[0].suspect:
            log.warning("%d images of space %s were lost with a worker; trying them apart", len(tasks), space.name)
            self._hold_back(tasks)
            self._submit_suspects(pipeline)
        else:
            self._submit(pipeline, tasks)
        return bool(claimed)

    def _submit(self, pipeline: Pipeline, tasks: list[Task]) -> None:
        if not self._in_work:
            self._outcome_at = time.monotonic()
        self._in_work.update(tasks)
        pipeline.submit(tasks)

    def _hold_back(self, tasks: list[Task]) -> None:
        """Keep suspects until nothing else is in work; park those that were lost too often."""
        self._in_work.update(tasks)
        most = max(self._settings.max_attempts, _FEWEST_LOST_LEASES)
        for task in tasks:
            attempts = task.subject.attempts if isinstance(task.subject, Job) else 0
            if attempts <= most:
                self._held_back.append(task)
                continue
            reason = (
                f"{attempts - 1} workers that had this image in hand died or were cut off before it was done; "
                "it may be what takes them down"
            )
            self._outbox.add([Outcome(task, ImageError("encode", reason))])
            self._bell.ring()

    def _submit_suspects(self, pipeline: Pipeline) -> None:
        if self._held_back and len(self._held_back) == len(self._jobs_in_work()):
            tasks, self._held_back = self._held_back, []
            pipeline.submit(tasks)

    # Write

    def _write(self, conn: db.Connection, pipeline: Pipeline, *, gather: bool = True) -> None:
        """Write what came out of the pipeline and, with `gather`, need not wait for company; what could not be written
        stays for the next connection."""
        if taken := pipeline.take_outcomes():
            self._outbox.add(taken)
            self._outcome_at = time.monotonic()
        try:
            self._write_out(conn, pipeline, gather=gather)
        except NotFoundError:
            self._look_around(conn)
            dropped = self._outbox.remove(lambda one: self._roster.dropped(one.task.space))
            if not dropped:
                raise
            log.info("%d outcomes are of a space that was dropped meanwhile", len(dropped))
            self._in_work.difference_update(one.task for one in dropped)
            pipeline.forget(dropped)
            self._write_out(conn, pipeline, gather=gather)

    def _write_at(self) -> float:
        return self._outbox.due_at(in_work=len(self._jobs_in_work()), backlog=self._jobs_due)

    def _write_out(self, conn: db.Connection, pipeline: Pipeline, *, gather: bool) -> None:
        waiting = self._outbox.waiting
        if waiting and gather:
            waiting = self._outbox.due(in_work=len(self._jobs_in_work()), backlog=self._jobs_due)
        if not waiting:
            return
        asked = [one for one in waiting if one.task.is_query]
        embedded = [one for one in waiting if not one.task.is_query]
        began = time.perf_counter()
        answered = writer.answer_queries(conn, asked)
        written = writer.write_jobs(conn, embedded, max_attempts=self._settings.max_attempts)
        wrote = {one.task.space.id for one in waiting}
        for space_id in wrote:
            self._timings.add("write", (time.perf_counter() - began) / len(wrote), space_id)
        self._note_ages("query", [one.task for one in asked])
        reused = {one.task for one in embedded if one.reused}.intersection(written.embedded)
        self._note_ages("searchable", written.embedded)
        self._note_ages("reused", reused)
        self._note_ages("failed", written.failed)
        self._progress.reused += len(reused)
        self._in_work.difference_update(one.task for one in waiting)
        self._outbox.note_written(waiting)
        pipeline.forget(waiting)
        self._note(answered, written)

    def _note(self, answered: int, written: writer.Written) -> None:
        self._progress.answered += answered
        self._progress.embedded += len(written.embedded)
        self._progress.failed += len(written.failed)
        self._progress.last_error = written.last_error or self._progress.last_error
        if written.look_at is not None:
            self._look_at = min(self._look_at, written.look_at)
        for space in written.grown:
            self._housekeeping.note_growth(space)
        log.debug(
            "wrote %d, failed %d, released %d, passed over %d, answered %d",
            *(len(written.embedded), len(written.failed), written.released, written.passed_over, answered),
        )

    def _note_ages(self, measure: str, tasks: Collection[Task]) -> None:
        """Count how long ago these, which have just been committed, were put in the queue or asked for."""
        for task in tasks:
            self._timings.note(measure, task.space.id, [task.age])

    # Leases

    def _renew(self, conn: db.Connection) -> None:
        """Move the end of the leases in work, as long as work goes on: a device that hangs must not keep its jobs."""
        now = time.monotonic()
        in_work = self._jobs_in_work()
        if now < self._renew_at or not in_work:
            return
        lease_seconds = self._settings.lease_seconds
        self._renew_at = now + lease_seconds / 3
        if now - self._outcome_at > _HUNG_LEASES * lease_seconds:
            log.error("nothing has come out for %.0f s; the jobs in work are left to others", now - self._outcome_at)
            return
        for space in self._spaces:
            held = [(task.lease, job.image_id) for task, job in in_work if task.lease and task.space.id == space.id]
            jobs.renew(conn, space, held=held, lease_seconds=lease_seconds)

    def _hand_back(self, conn: db.Connection) -> None:
        """Release what was claimed and is not done, so that other workers can have it at once: no attempt of theirs."""
        claims: defaultdict[tuple[int, UUID], list[int]] = defaultdict(list)
        for task, job in self._jobs_in_work():
            if task.lease and not self._roster.dropped(task.space):
                claims[task.space.id, task.lease].append(job.image_id)
        by_id = {space.id: space for space in self._spaces}
        for (space_id, lease), image_ids in claims.items():
            jobs.release(conn, by_id[space_id], lease=lease, image_ids=image_ids, unattempted=True)
        if claims:
            conn.execute("NOTIFY lookalike_jobs")
            log.info("handed back %d jobs", len(self._in_work))
        self._in_work.clear()
