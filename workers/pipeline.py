"""The stages between claim and write, overlapped: load in threads, batch, encode. No database access here.

submit → loading: fetch, look up, decode, transform → [ready] → encode threads → [outcomes] → take_outcomes → forget

The caller bounds the tasks in the pipeline, and so every queue here. Query images overtake jobs at each stage. One
encode thread takes query images only: it encodes them within their share while batches of jobs are on the device.
While a query image is in the pipeline, jobs are decoded only if the device would otherwise run dry. Outcomes of query
images go to `answer`.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from app.media.limits import Limits
from workers.encode_batch import encode_each
from workers.encoder import Encoder
from workers.load_stage import ContentIndex, Loading
from workers.scheduler import Queue, QueueKey, Scheduler
from workers.single_flight import SingleFlight
from workers.stage_timings import Timings
from workers.tasks import Outcome, Ready, Task


class Pipeline:
    """Threads that turn tasks into outcomes. Any of them calls `wake` when there is an outcome to take."""

    def __init__(
        self,
        encoders: Mapping[int, Encoder],
        *,
        limits: Limits,
        lookup: ContentIndex,
        batch_size: int,
        threads: int,
        timings: Timings,
        wake: Callable[[], None],
        answer: Callable[[Sequence[Outcome]], None],
        shares: tuple[int, int] = (4, 1),
        active_share: int = 9,
        express: bool = True,
    ) -> None:
        """Start the threads.

        `encoders`: by space id; they may be added while the pipeline runs. `batch_size` 0: the encoder's chunk.
        `threads`: as many fetch, and as many decode, up to the number of cores; 0: one a core. The pipeline closes
        `lookup` when it stops. `shares` (query images, jobs) and `active_share`: see Scheduler. Any thread may call
        `answer`, with outcomes of query images. `express`: add an encode thread for query images only.
        """
        self._encoders = encoders
        self._batch_size = batch_size
        self._timings = timings
        self._wake = wake
        self._answer = answer
        self._single_flight = SingleFlight()
        # Guards all below; notified when an image is ready, or its loading has ended.
        self._changed = threading.Condition()
        self._loading: Counter[QueueKey] = Counter()
        self._queries = 0  # query images in the pipeline
        self._ready: dict[QueueKey, deque[Ready]] = {}
        self._outcomes: list[Outcome] = []
        query_share, job_share = shares
        self._scheduler = Scheduler(query_share=query_share, job_share=job_share, active_share=active_share)
        self._stopping = False
        self._broken: BaseException | None = None
        self._job_threads = max(encoder.threads for encoder in encoders.values())
        self._encode_threads = [
            threading.Thread(target=self._encode_loop, args=(number == self._job_threads,), name="encode")
            for number in range(self._job_threads + express)
        ]
        self._loader = Loading(
            encoders,
            limits=limits,
            timings=timings,
            single_flight=self._single_flight,
            lookup=lookup,
            threads=threads,
            done=self._loaded,
            broken=self._break,
        )
        for thread in self._encode_threads:
            thread.start()

    def submit(self, tasks: Iterable[Task]) -> None:
        """Start tasks; each comes back as an outcome, unless the pipeline is stopped first."""
        kept = list(tasks)
        with self._changed:
            self._loading.update(_key_of(task) for task in kept)
            self._queries += sum(task.is_query for task in kept)
            self._hold_decoding()
        self._loader.submit(kept)

    def take_outcomes(self) -> list[Outcome]:
        """Return the outcomes of jobs since the last call.

        Raises:
            BaseException: what ended a thread; there will be no more outcomes.
        """
        with self._changed:
            if self._broken:
                raise self._broken
            taken, self._outcomes = self._outcomes, []
        return taken

    def forget(self, outcomes: Iterable[Outcome]) -> None:
        """Drop outcomes that are written, because from now on the database returns their embeddings."""
        self._single_flight.forget(outcomes)

    def stop(self) -> None:
        """Wait for the batches on the device and for query images; leave other jobs undone."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._loader.stop()
        for thread in self._encode_threads:
            thread.join()

    def _loaded(self, task: Task, ready: Ready | None, outcomes: Sequence[Outcome]) -> None:
        if outcomes:
            self._put(outcomes)
        with self._changed:
            self._loading[_key_of(task)] -= 1
            if ready:
                self._ready.setdefault(_key_of(task), deque()).append(ready)
                self._hold_decoding()
            self._changed.notify_all()

    # Encode

    def _encode_loop(self, queries_only: bool) -> None:
        try:
            while batch := self._next_batch(queries_only):
                space_id = batch[0].task.space.id
                encoder = self._encoders[space_id]
                with self._timings.measure("encode", space_id):
                    results = encode_each(encoder, [one.pixels for one in batch])
                outcomes = [Outcome(one.task, result, one.facts) for one, result in zip(batch, results, strict=True)]
                self._put(self._single_flight.complete(outcomes))
        except BaseException as error:  # noqa: BLE001 — take_outcomes raises it in the worker's thread
            self._break(error)

    def _next_batch(self, queries_only: bool) -> list[Ready]:
        """Wait for the next batch and return it; return an empty one when the pipeline stops."""
        with self._changed:
            while True:
                choice = self._scheduler.choose(self._queues(), now=time.monotonic(), queries_only=queries_only)
                if choice.key:
                    waiting = self._ready[choice.key]
                    batch = [waiting.popleft() for _ in range(min(self._batch_size_of(choice.key), len(waiting)))]
                    self._hold_decoding()
                    self._changed.notify_all()  # it may be another queue's turn now
                    return batch
                if self._stopping and not any(self._loading[key] for key in self._loading if key.is_query):
                    return []
                began = time.perf_counter()
                loading = self._loading.total() > 0
                self._changed.wait(choice.wait_seconds)
                if loading and not queries_only:
                    self._timings.add("load wait", time.perf_counter() - began)

    def _queues(self) -> list[Queue]:
        """Return the queues with images to encode; without jobs when the pipeline stops."""
        return [
            Queue(
                key,
                ready=len(ready),
                loading=self._loading[key],
                since=ready[0].since,
                batch_size=self._batch_size_of(key),
                active=ready[0].task.space.active,
            )
            for key, ready in self._ready.items()
            if ready and (key.is_query or not self._stopping)
        ]

    def _hold_decoding(self) -> None:
        """Leave the cores to query images in the pipeline if every encode thread has a batch of jobs waiting."""
        enough = any(
            len(ready) >= self._batch_size_of(key) * self._job_threads
            for key, ready in self._ready.items()
            if ready and not key.is_query
        )
        self._loader.hold(self._queries > 0 and enough)

    def _batch_size_of(self, key: QueueKey) -> int:
        return self._batch_size or self._encoders[key.space_id].chunk

    # Out

    def _put(self, outcomes: Iterable[Outcome]) -> None:
        jobs: list[Outcome] = []
        answers: list[Outcome] = []
        for one in outcomes:
            (answers if one.task.is_query else jobs).append(one)
        with self._changed:
            self._outcomes += jobs
            self._queries -= len(answers)
            self._hold_decoding()
        if answers:
            self._answer(answers)
        if jobs:
            self._wake()

    def _break(self, error: BaseException) -> None:
        with self._changed:
            self._broken = self._broken or error
        self._wake()


def _key_of(task: Task) -> QueueKey:
    return QueueKey(task.is_query, task.space.id)
