"""The stages between claim and write, overlapped: load in threads, batch, encode. No database here.

submit → [waiting] → load threads: fetch, decode, transform → [ready] → encode thread → [outcomes] → take_outcomes

Whoever submits bounds what is on its way, so every queue here is bounded. Query images overtake jobs at each stage.
Imports workers.encoder, encoding, pixels, timings, and `app`.
"""

import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from app.errors import ImageError
from app.fetcher import fetch
from app.limits import Limits
from app.queries import QueryImage
from app.records import Embedding, Job, Space
from workers.device import cores
from workers.encoder import Encoder
from workers.encoding import encode_each
from workers.pixels import Pixels, pixels_of
from workers.timings import Timings

log = logging.getLogger(__name__)

# A batch that is not full waits for images still being loaded, but the first of it no longer than this.
_MOST_WAIT = 0.1
# Query images are loaded by threads of their own, lest they wait behind slow downloads.
_QUERY_THREADS = 2


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """An image on its way through the worker: a job under its lease, or a query image."""

    space: Space
    subject: Job | QueryImage
    lease: UUID | None = None
    claimed_at: float = field(default_factory=time.monotonic)

    @property
    def is_query(self) -> bool:
        return isinstance(self.subject, QueryImage)

    @property
    def age(self) -> float:
        """Seconds since the image was put in the queue, or the question asked, by the database's clock."""
        return self.subject.waited + time.monotonic() - self.claimed_at


@dataclass(frozen=True, slots=True)
class Facts:
    """What an image's bytes told."""

    sha256: bytes
    media_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task: an embedding and the facts, or the reason why there is none."""

    task: Task
    result: Embedding | ImageError
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class _Ready:
    task: Task
    pixels: Pixels
    facts: Facts
    since: float = field(default_factory=time.monotonic)


class Pipeline:
    """Threads that turn tasks into outcomes. `wake` is called, from any of them, when there is an outcome to take."""

    def __init__(
        self,
        encoders: Mapping[int, Encoder],
        *,
        limits: Limits,
        batch_size: int,
        threads: int,
        timings: Timings,
        wake: Callable[[], None],
        shares: tuple[int, int] = (4, 1),
    ) -> None:
        """`encoders`: by the id of their space. `batch_size` 0: each encoder's own. `threads` load jobs; 0: one a core.

        `shares`: while both kinds wait, so many batches of query images in a row, then so many of jobs.
        """
        self._encoders = encoders
        self._limits = limits
        self._batch_size = batch_size
        self._timings = timings
        self._wake = wake
        self._jobs: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._queries: queue.SimpleQueue[Task] = queue.SimpleQueue()
        # Guards all below; notified when something is ready, or loading has ended.
        self._changed = threading.Condition()
        self._loading: Counter[tuple[bool, int]] = Counter()
        self._ready: dict[tuple[bool, int], deque[_Ready]] = {}
        self._outcomes: list[Outcome] = []
        self._query_share, self._job_share = shares
        # Batches in a row of the kind that went last, while the other kind waited.
        self._query_batches = self._job_batches = 0
        self._stopping = False
        self._broken: BaseException | None = None
        count = max(encoder.threads for encoder in encoders.values())
        self._encode_threads = [threading.Thread(target=self._encode_loop, name="encode") for _ in range(count)]
        self._start(threads or cores())

    def _start(self, threads: int) -> None:
        for thread in self._encode_threads:
            thread.start()
        # Daemons: the end of the process does not wait for a download that hangs.
        for tasks, count in ((self._jobs, threads), (self._queries, _QUERY_THREADS)):
            for _ in range(count):
                threading.Thread(target=self._load_loop, args=(tasks,), name="load", daemon=True).start()

    def submit(self, tasks: Iterable[Task]) -> None:
        """Send tasks on their way; each comes back as an outcome, unless the pipeline is stopped before."""
        for task in tasks:
            with self._changed:
                self._loading[_key(task)] += 1
            (self._queries if task.is_query else self._jobs).put(task)

    def take_outcomes(self) -> list[Outcome]:
        """Return what has come out since the last call. Raises what ended a thread: there will be nothing more."""
        with self._changed:
            if self._broken:
                raise self._broken
            taken, self._outcomes = self._outcomes, []
        return taken

    def stop(self) -> None:
        """Wait for the batch in hand and for query images; jobs not yet encoded are left undone."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._encode_threads:
            thread.join()

    # Load

    def _load_loop(self, tasks: "queue.SimpleQueue[Task]") -> None:
        while True:
            task = tasks.get()
            try:
                self._load(task)
            except BaseException as error:  # noqa: BLE001 — take_outcomes raises it in the worker's thread
                self._break(error)

    def _load(self, task: Task) -> None:
        ready: _Ready | None = None
        failed: Outcome | None = None
        # What a stopping worker hands back need not be loaded first.
        if not self._stopping or task.is_query:
            try:
                ready = self._loaded(task)
            except ImageError as error:
                failed = Outcome(task, error)
            except Exception as error:  # a library's fault on this image: told, and no other image's concern
                log.exception("unexpected error while loading %s", _name(task))
                failed = Outcome(task, ImageError("decode", f"unexpected error while loading: {error!r}"))
        with self._changed:
            self._loading[_key(task)] -= 1
            if ready:
                self._ready.setdefault(_key(task), deque()).append(ready)
            self._changed.notify_all()
        if failed:
            self._put([failed])

    def _loaded(self, task: Task) -> _Ready:
        encoder = self._encoders[task.space.id]
        if isinstance(task.subject, QueryImage):
            data = task.subject.image
        else:
            with self._timings.measure("fetch", task.space.id):
                data = fetch(task.subject.uri, limits=self._limits)
        with self._timings.measure("decode", task.space.id):
            image, pixels = pixels_of(data, encoder, self._limits)
        return _Ready(task, pixels, Facts(image.sha256, image.media_type, image.width, image.height))

    # Encode

    def _encode_loop(self) -> None:
        try:
            while batch := self._next_batch():
                space_id = batch[0].task.space.id
                encoder = self._encoders[space_id]
                with self._timings.measure("encode", space_id):
                    results = encode_each(encoder, [one.pixels for one in batch])
                self._put([Outcome(one.task, result, one.facts) for one, result in zip(batch, results, strict=True)])
        except BaseException as error:  # noqa: BLE001 — take_outcomes raises it in the worker's thread
            self._break(error)

    def _next_batch(self) -> list[_Ready]:
        """Wait for the next batch; empty when the pipeline stops."""
        with self._changed:
            while True:
                key, patience = self._choose()
                if key:
                    waiting = self._ready[key]
                    return [waiting.popleft() for _ in range(min(self._batch_size_of(key), len(waiting)))]
                if self._stopping and not any(self._loading[key] for key in self._loading if key[0]):
                    return []
                began = time.perf_counter()
                loading = self._loading.total() > 0
                self._changed.wait(patience)
                if loading:
                    self._timings.add("load wait", time.perf_counter() - began)

    def _choose(self) -> tuple[tuple[bool, int] | None, float | None]:
        """Return whose batch goes next, or None and for how long to wait at most.

        A query goes at once. A job batch goes when it is full, when nothing more is being loaded for it, or when its
        first image has waited long enough: so a single image is not kept waiting, and a backlog fills its batches.
        """
        now = time.monotonic()
        # The one that has waited longest comes first.
        waiting = sorted((ready[0].since, key) for key, ready in self._ready.items() if ready)
        queries = [key for _, key in waiting if key[0]]
        jobs = [] if self._stopping else [(since, key) for since, key in waiting if not key[0]]
        due = [
            key
            for since, key in jobs
            if len(self._ready[key]) >= self._batch_size_of(key) or not self._loading[key] or now - since >= _MOST_WAIT
        ]
        # Of the active space first: other spaces' images are not searched yet.
        due.sort(key=lambda key: not self._ready[key][0].task.space.active)
        if queries and not (due and self._query_batches >= self._query_share):
            self._query_batches, self._job_batches = self._query_batches + 1 if due else 0, 0
            return queries[0], None
        if due:
            self._job_batches += 1
            if not queries or self._job_batches >= self._job_share:
                self._query_batches = 0
            return due[0], None
        return None, max(0.0, jobs[0][0] + _MOST_WAIT - now) if jobs else None

    def _batch_size_of(self, key: tuple[bool, int]) -> int:
        return self._batch_size or self._encoders[key[1]].batch_size

    # Out

    def _put(self, outcomes: list[Outcome]) -> None:
        with self._changed:
            self._outcomes += outcomes
        self._wake()

    def _break(self, error: BaseException) -> None:
        with self._changed:
            self._broken = self._broken or error
        self._wake()


def _key(task: Task) -> tuple[bool, int]:
    return task.is_query, task.space.id


def _name(task: Task) -> str:
    return "a query image" if isinstance(task.subject, QueryImage) else task.subject.uri
