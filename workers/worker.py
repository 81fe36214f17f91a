"""The worker: one loop claims jobs, submits them to the pipeline and writes their outcomes.

All database work on jobs happens in its thread, that on query images in another (workers.query_loop).
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from uuid import uuid4

import psycopg

from app import db
from app.config import Settings
from app.db import schema
from app.db.retry import until_available
from app.errors import DatabaseUnavailableError, NotFoundError, SchemaError
from app.media.limits import limits_of
from app.store import jobs, spaces
from app.store.spaces import Space
from workers import writer
from workers.batch_size import claim_size
from workers.claimed_jobs import ClaimedJobs
from workers.content_lookup import ContentLookup
from workers.heartbeat import Heartbeat, Progress
from workers.housekeeping import Housekeeping
from workers.pipeline import Pipeline
from workers.progress_log import Summary
from workers.query_loop import QueryLoop
from workers.served_spaces import Served, ServedSpaces, check_fingerprint
from workers.stage_timings import Timings
from workers.tasks import Task
from workers.wakeup import Wakeup
from workers.write_buffer import WriteBuffer

log = logging.getLogger(__name__)

# Notifications wake the worker. Polling finds what sends none: leases that end, jobs that other workers released.
_POLL_SECONDS = 5.0
_DRAIN_POLL_SECONDS = 0.5


class Worker:
    """Serves spaces until stopped, or with `drain` until their queues are empty. Call `run` once."""

    def __init__(
        self,
        url: str,
        served: Sequence[Served],
        settings: Settings,
        *,
        drain: bool = False,
        load: Callable[[Space], Served] | None = None,
    ) -> None:
        """With `load`, which loads a space's model, the worker also serves spaces that are created later."""
        self._url = url
        self._wakeup = Wakeup()
        self._served = ServedSpaces(served, load=load, wake=self._spaces_changed)
        self._spaces, self._encoders = self._served.spaces, self._served.encoders
        self._spaces_due = False
        self._heartbeat: Heartbeat | None = None
        self._settings = settings
        self._claim_size = settings.batch_size or max(claim_size(one.encoder) for one in served)
        self._drain = drain
        self._stopping = False
        self._jobs = ClaimedJobs(
            claim_size=self._claim_size,
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            others_beside=settings.active_share > 0,
        )
        self._buffer = WriteBuffer(enough=self._claim_size)
        self._jobs_due = True
        self._poll_seconds = min(_DRAIN_POLL_SECONDS if drain else _POLL_SECONDS, settings.lease_seconds / 3)
        self._poll_at = time.monotonic()
        self._progress = Progress()
        self._timings = Timings()
        self._summary = Summary(self._progress, self._timings)
        self._housekeeping = Housekeeping(
            url,
            self._spaces,
            settings=settings,
            wake=self._wakeup.set,
            **({} if settings.maintain else {"maintain_seconds": None}),
        )
        self._query_loop = QueryLoop(
            url,
            self._spaces,
            most=self._claim_size,
            poll_seconds=self._poll_seconds,
            check=self._check,
            progress=self._progress,
            timings=self._timings,
            wake=self._wakeup.set,
        )

    def stop(self) -> None:
        """Make the worker finish the batch in hand and end. Safe in signal handlers and threads."""
        self._stopping = True
        self._wakeup.set()

    def run(self) -> None:
        """Work until stopped or drained, and wait for the database while it is unreachable.

        Raises:
            SchemaError: the schema is of another revision, or the database is another one.
            ConfigurationError: a model is not its space's.
            NotFoundError: every space that was served was dropped.
            DeviceError: the device fails on every image.
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
            lookup=ContentLookup(self._url),
            batch_size=self._settings.batch_size,
            threads=self._settings.loader_threads,
            timings=self._timings,
            wake=self._wakeup.set,
            answer=self._query_loop.put,
            shares=(self._settings.query_share, self._settings.job_share),
            active_share=self._settings.active_share,
        )
        try:
            heartbeat.start()
            self._query_loop.start(pipeline)
            until_available(lambda: self._session(pipeline), pause=self._pause)
            if self._jobs:
                log.warning("%d jobs in work are claimed again when their leases end", len(self._jobs))
        finally:
            self._query_loop.stop()
            pipeline.stop()
            self._query_loop.finish()
            heartbeat.stop()
            self._wakeup.close()
            self._summary.log_progress()

    def _pause(self, seconds: float) -> bool:
        """Sleep while the database is unreachable; return whether to go on."""
        self._progress.state = "reconnecting"
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._wakeup.wait(left)
        return not self._stopping

    # The loop

    def _session(self, pipeline: Pipeline) -> None:
        """Work over one connection, until stopped, drained, or the connection is lost."""
        with closing(db.connect(self._url, autocommit=True, application="lookalike worker")) as conn, db.translated():
            self._refresh_spaces(conn)
            self._check(conn)
            conn.execute("LISTEN lookalike_jobs")
            conn.execute("LISTEN lookalike_spaces")
            self._jobs_due = True
            try:
                while not self._stopping:
                    self._step(conn, pipeline)
                    if self._drain and self._drained(conn):
                        self._stopping = True
                    else:
                        self._wait(conn)
                self._progress.state = "stopping"
                self._query_loop.stop()
                pipeline.stop()
                self._write(conn, pipeline, gather=False)
            except Exception as error:
                if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | DatabaseUnavailableError):
                    self._jobs.hand_back(conn, self._spaces)  # so that other workers do not wait for the leases
                raise
            self._jobs.hand_back(conn, self._spaces)

    def _step(self, conn: db.Connection, pipeline: Pipeline) -> None:
        """Do everything that needs no waiting."""
        if self._query_loop.error:
            raise self._query_loop.error
        if self._spaces_due:
            self._refresh_spaces(conn)
        self._write(conn, pipeline)
        self._claim_jobs(conn, pipeline)
        self._jobs.renew(conn, self._spaces)
        busy = bool(self._jobs) or self._query_loop.busy
        self._housekeeping.step(conn, idle=not busy and not self._jobs_due)
        self._progress.state = "busy" if busy else "housekeeping" if self._housekeeping.busy else "idle"
        self._summary.tick(busy=busy)

    def _spaces_changed(self) -> None:
        self._spaces_due = True
        self._wakeup.set()

    def _refresh_spaces(self, conn: db.Connection) -> None:
        """Refresh the spaces served, which may have been created, switched or dropped."""
        self._spaces_due = False
        if self._served.refresh(conn):
            log.info("serving %s", ", ".join(f"{one.name}{' (active)' if one.active else ''}" for one in self._spaces))
            self._housekeeping.serve(self._spaces)
            if self._heartbeat:
                self._heartbeat.serve(self._spaces)
            self._jobs_due = True
            self._query_loop.poll()
        self._progress.last_error = self._served.error or self._progress.last_error

    def _check(self, conn: db.Connection) -> None:
        """Check that the database is still the same, because a new connection may reach another one."""
        schema.check(conn)
        found = {space.name: space for space in spaces.ls(conn)}
        for space in list(self._spaces):
            if space.name not in found:  # dropped just now; the next refresh finds it
                continue
            if found[space.name].id != space.id:
                raise SchemaError(f"the space {space.name} is not the one served; start the worker again")
            check_fingerprint(found[space.name], self._encoders[space.id])

    def _wait(self, conn: db.Connection) -> None:
        """Wait for a notification, an outcome, a signal, or the time to poll."""
        self._read_notifications(conn)
        if not (self._jobs_due and self._jobs.has_room()):
            self._wakeup.wait(min(self._poll_at, self._write_at()) - time.monotonic(), descriptor=conn.fileno())
            self._read_notifications(conn)
        if (now := time.monotonic()) >= self._poll_at:
            self._jobs_due = self._spaces_due = True
            self._poll_at = now + self._poll_seconds

    def _read_notifications(self, conn: db.Connection) -> None:
        for notification in conn.notifies(timeout=0):
            if notification.channel == "lookalike_spaces":
                self._spaces_due = True
            else:
                self._jobs_due = True

    def _drained(self, conn: db.Connection) -> bool:
        if (
            self._jobs
            or self._query_loop.busy
            or self._jobs_due
            or self._spaces_due
            or self._served.busy
            or not self._housekeeping.done
            or jobs.any_left(conn, self._spaces)
        ):
            return False
        if self._housekeeping.error:
            raise self._housekeeping.error
        return True

    # Claim

    def _claim_jobs(self, conn: db.Connection, pipeline: Pipeline) -> None:
        self._submit_suspects(pipeline)
        found = self._jobs_due
        while found:
            found = self._jobs_due = False
            for space in self._spaces:  # the active one first; the others get what it leaves
                if self._jobs.has_room(space):
                    found |= self._claim_space(conn, pipeline, space)
                else:
                    self._jobs_due = True

    def _claim_space(self, conn: db.Connection, pipeline: Pipeline, space: Space) -> bool:
        """Claim a batch of jobs of one space; return whether there were any."""
        lease = uuid4()
        with self._timings.measure("claim", space.id):
            claimed = jobs.claim(
                conn, space, lease=lease, most=self._claim_size, lease_seconds=self._settings.lease_seconds
            )
        tasks = [Task(space, job, lease) for job in claimed]
        if claimed and claimed[0].suspect:
            log.warning("%d images of space %s were lost with a worker; trying them alone", len(tasks), space.name)
            lost = self._jobs.quarantine(tasks)
            if lost:
                self._buffer.add(lost)
                self._wakeup.set()
            self._submit_suspects(pipeline)
        else:
            self._jobs.add(tasks)
            pipeline.submit(tasks)
        return bool(claimed)

    def _submit_suspects(self, pipeline: Pipeline) -> None:
        if tasks := self._jobs.take_suspects():
            pipeline.submit(tasks)

    # Write

    def _write(self, conn: db.Connection, pipeline: Pipeline, *, gather: bool = True) -> None:
        """Write the outcomes of the pipeline; with `gather` only when a batch of them is due.

        After an error they stay in the buffer for the next connection.
        """
        if taken := pipeline.take_outcomes():
            self._buffer.add(taken)
            self._jobs.note_outcome()
        try:
            self._write_out(conn, pipeline, gather=gather)
        except NotFoundError:
            self._refresh_spaces(conn)
            dropped = self._buffer.remove(lambda one: self._served.dropped(one.task.space))
            if not dropped:
                raise
            log.info("discarding %d outcomes of a dropped space", len(dropped))
            self._jobs.remove(one.task for one in dropped)
            pipeline.forget(dropped)
            self._write_out(conn, pipeline, gather=gather)

    def _write_at(self) -> float:
        return self._buffer.due_at(in_work=len(self._jobs), backlog=self._jobs_due)

    def _write_out(self, conn: db.Connection, pipeline: Pipeline, *, gather: bool) -> None:
        waiting = self._buffer.waiting
        if waiting and gather:
            waiting = self._buffer.due(in_work=len(self._jobs), backlog=self._jobs_due)
        if not waiting:
            return
        began = time.perf_counter()
        written = writer.write_jobs(conn, waiting, max_attempts=self._settings.max_attempts)
        wrote = {one.task.space.id for one in waiting}
        for space_id in wrote:
            self._timings.add("write", (time.perf_counter() - began) / len(wrote), space_id)
        reused = {one.task for one in waiting if one.reused}.intersection(written.embedded)
        self._count_ages("searchable", written.embedded)
        self._count_ages("reused", reused)
        self._count_ages("failed", written.failed)
        self._progress.reused += len(reused)
        self._jobs.remove(one.task for one in waiting)
        self._buffer.mark_written(waiting)
        pipeline.forget(waiting)
        self._record(written)

    def _record(self, written: writer.Written) -> None:
        self._progress.embedded += len(written.embedded)
        self._progress.failed += len(written.failed)
        self._progress.last_error = written.last_error or self._progress.last_error
        if written.poll_at is not None:
            self._poll_at = min(self._poll_at, written.poll_at)
        for space in written.grown:
            self._housekeeping.note_growth(space)
        log.debug(
            "wrote %d, failed %d, released %d, passed over %d",
            *(len(written.embedded), len(written.failed), written.released, written.passed_over),
        )

    def _count_ages(self, measure: str, tasks: Collection[Task]) -> None:
        """Count the age of tasks that have just been committed, since they were queued."""
        for task in tasks:
            self._timings.note(measure, task.space.id, [task.age])
