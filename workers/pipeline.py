"""The stages between claim and write, overlapped: load in threads, batch, encode. No database here.

submit → loading: fetch, look up, decode, transform → [ready] → encode threads → [outcomes] → take_outcomes → forget

Whoever submits bounds what is on its way, so every queue here is bounded. Query images overtake jobs at each stage, and
one encode thread is theirs alone: beside the batches of jobs that are on the device it takes them within their share.
While one is on its way, no job is decoded that the device does not want yet. Their outcomes go to `answer`.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from app.media.limits import Limits
from workers.encode_batch import encode_each
from workers.encoder import Encoder
from workers.load_stage import Loading, LookUp
from workers.single_flight import SingleFlight
from workers.stage_timings import Timings
from workers.tasks import Outcome, Ready, Task

# Seconds that the first image of a batch waits for others being loaded: where these will fill it, and where they will
# not. Under load a full batch is worth more than its first image's time; one that hangs must not hold up the rest.
_FULL_WAIT = 1.0
_PART_WAIT = 0.1


class Pipeline:
    """Threads that turn tasks into outcomes. `wake` is called, from any of them, when there is an outcome to take."""

    def __init__(
        self,
        encoders: Mapping[int, Encoder],
        *,
        limits: Limits,
        known: LookUp,
        batch_size: int,
        threads: int,
        timings: Timings,
        wake: Callable[[], None],
        answer: Callable[[Sequence[Outcome]], None],
        shares: tuple[int, int] = (4, 1),
        active_share: int = 9,
        express: bool = True,
    ) -> None:
        """`encoders`: by the id of their space. `batch_size` 0: its chunk. `threads` fetch and as many decode,
        up to the number of cores; 0: one a core. `known` is closed when the pipeline stops.

        `shares`: while both kinds wait, so many batches of query images in a row, then so many of jobs. `active_share`:
        so many of the active space's jobs, then one of another space's; 0: these wait until the others are done.
        `answer` is called with outcomes of query images, from any thread. `express`: with an encode thread for query
        images alone.
        """
        self._encoders = encoders
        self._batch_size = batch_size
        self._timings = timings
        self._wake = wake
        self._answer = answer
        self._single_flight = SingleFlight()
        # Guards all below; notified when something is ready, or loading has ended.
        self._changed = threading.Condition()
        self._loading: Counter[tuple[bool, int]] = Counter()
        self._asked = 0  # query images on their way
        self._ready: dict[tuple[bool, int], deque[Ready]] = {}
        self._outcomes: list[Outcome] = []
        self._query_share, self._job_share = shares
        self._active_share = active_share
        self._active_batches = 0  # in a row, while another space's waited
        # Batches in a row of the kind that went last, while the other kind waited.
        self._query_batches = self._job_batches = 0
        self._stopping = False
        self._broken: BaseException | None = None
        count = max(encoder.threads for encoder in encoders.values())
        self._lanes = count
        self._encode_threads = [
            threading.Thread(target=self._encode_loop, args=(number == count,), name="encode")
            for number in range(count + express)
        ]
        self._loader = Loading(
            encoders,
            limits=limits,
            timings=timings,
            single_flight=self._single_flight,
            known=known,
            threads=threads,
            done=self._loaded,
            broken=self._break,
        )
        for thread in self._encode_threads:
            thread.start()

    def submit(self, tasks: Iterable[Task]) -> None:
        """Send tasks on their way; each comes back as an outcome, unless the pipeline is stopped before."""
        kept = list(tasks)
        with self._changed:
            self._loading.update(_key(task) for task in kept)
            self._asked += sum(task.is_query for task in kept)
            self._hold_decoding()
        self._loader.submit(kept)

    def take_outcomes(self) -> list[Outcome]:
        """Return what has come out since the last call. Raises what ended a thread: there will be nothing more."""
        with self._changed:
            if self._broken:
                raise self._broken
            taken, self._outcomes = self._outcomes, []
        return taken

    def forget(self, outcomes: Iterable[Outcome]) -> None:
        """Take note that these are written: from now on the database knows their embeddings."""
        self._single_flight.forget(outcomes)

    def stop(self) -> None:
        """Wait for the batch in hand and for query images; jobs not yet encoded are left undone."""
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
            self._loading[_key(task)] -= 1
            if ready:
                self._ready.setdefault(_key(task), deque()).append(ready)
                self._hold_decoding()
            self._changed.notify_all()

    # Encode

    def _encode_loop(self, express: bool) -> None:
        try:
            while batch := self._next_batch(express):
                space_id = batch[0].task.space.id
                encoder = self._encoders[space_id]
                with self._timings.measure("encode", space_id):
                    results = encode_each(encoder, [one.pixels for one in batch])
                outcomes = [Outcome(one.task, result, one.facts) for one, result in zip(batch, results, strict=True)]
                self._put(self._single_flight.complete(outcomes))
        except BaseException as error:  # noqa: BLE001 — take_outcomes raises it in the worker's thread
            self._break(error)

    def _next_batch(self, express: bool) -> list[Ready]:
        """Wait for the next batch, with `express` of query images only; empty when the pipeline stops."""
        with self._changed:
            while True:
                key, patience = self._choose(express)
                if key:
                    waiting = self._ready[key]
                    batch = [waiting.popleft() for _ in range(min(self._batch_size_of(key), len(waiting)))]
                    self._hold_decoding()
                    self._changed.notify_all()  # whose turn it is may have changed
                    return batch
                if self._stopping and not any(self._loading[key] for key in self._loading if key[0]):
                    return []
                began = time.perf_counter()
                loading = self._loading.total() > 0
                self._changed.wait(patience)
                if loading and not express:
                    self._timings.add("load wait", time.perf_counter() - began)

    def _choose(self, express: bool) -> tuple[tuple[bool, int] | None, float | None]:
        """Return whose batch goes next, or None and for how long to wait at most.

        A query goes at once. A job batch goes when it is full, when nothing more is being loaded for it, or when its
        first image has waited long enough: so a single image is not kept waiting, and a backlog fills its batches, also
        where large images take longer to decode than to encode.
        """
        now = time.monotonic()
        # The one that has waited longest comes first.
        waiting = sorted((ready[0].since, key) for key, ready in self._ready.items() if ready)
        queries = [key for _, key in waiting if key[0]]
        jobs = [] if self._stopping else [(since, key) for since, key in waiting if not key[0]]
        due = [
            key
            for since, key in jobs
            if len(self._ready[key]) >= self._batch_size_of(key) or now - since >= self._patience(key)
        ]
        # Of the active space first, since other spaces' images are not searched yet; theirs when it is their turn.
        others_turn = bool(self._active_share) and self._active_batches >= self._active_share
        due.sort(key=lambda key: self._is_active(key) is others_turn)
        if queries and not (due and self._query_batches >= self._query_share):
            self._query_batches, self._job_batches = self._query_batches + 1 if due else 0, 0
            return queries[0], None
        if express:
            return None, None
        if due:
            self._job_batches += 1
            if not queries or self._job_batches >= self._job_share:
                self._query_batches = 0
            waits = any(not self._is_active(key) for _, key in jobs)
            self._active_batches = self._active_batches + 1 if self._is_active(due[0]) and waits else 0
            return due[0], None
        return None, min((max(0.0, since + self._patience(key) - now) for since, key in jobs), default=None)

    def _patience(self, key: tuple[bool, int]) -> float:
        if not self._loading[key]:
            return 0.0
        fills = len(self._ready[key]) + self._loading[key] >= self._batch_size_of(key)
        return _FULL_WAIT if fills else _PART_WAIT

    def _is_active(self, key: tuple[bool, int]) -> bool:
        return self._ready[key][0].task.space.active

    def _hold_decoding(self) -> None:
        """While a query image is on its way, the cores are its own, as far as the encoder has enough else to do."""
        ready = [key for key, its in self._ready.items() if its and not key[0]]
        enough = any(len(self._ready[key]) >= self._batch_size_of(key) * self._lanes for key in ready)
        self._loader.hold(self._asked > 0 and enough)

    def _batch_size_of(self, key: tuple[bool, int]) -> int:
        return self._batch_size or self._encoders[key[1]].chunk

    # Out

    def _put(self, outcomes: Iterable[Outcome]) -> None:
        jobs: list[Outcome] = []
        answers: list[Outcome] = []
        for one in outcomes:
            (answers if one.task.is_query else jobs).append(one)
        with self._changed:
            self._outcomes += jobs
            self._asked -= len(answers)
            self._hold_decoding()
        if answers:
            self._answer(answers)
        if jobs:
            self._wake()

    def _break(self, error: BaseException) -> None:
        with self._changed:
            self._broken = self._broken or error
        self._wake()


def _key(task: Task) -> tuple[bool, int]:
    return task.is_query, task.space.id
