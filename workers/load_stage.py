"""From a task to what the encoder takes in, without decoding what is known by its content. No SQL here.

jobs → fetch threads → [fetched] → look-up thread, many files in one statement → [unknown] → decode threads → done
query images → [asked] → decode threads of their own → done
"""

import hashlib
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.errors import ImageError
from app.media.fetch import fetch
from app.media.header import read_header
from app.media.limits import Limits
from app.store.query_images import QueryImage
from app.store.spaces import Space
from app.types import Embedding
from workers.device import cores
from workers.encoder import Encoder
from workers.preprocess import pixels_of
from workers.single_flight import SingleFlight
from workers.stage_timings import Timings
from workers.tasks import Facts, Outcome, Ready, Task

log = logging.getLogger(__name__)

# Query images are decoded by threads of their own, lest they wait behind large files.
_QUERY_THREADS = 2
# Nothing more is fetched while so many files, or bytes, wait to be decoded.
_MOST_FILES, _MOST_BYTES = 32, 64 * 2**20
# So many files are looked up at once; fewer where a decode thread would have to wait, though not more often than this.
_LOOK_UP_FILES, _LOOK_UP_SECONDS = 16, 0.01
# What the look-up thread is waited for at the end: longer than a statement of its takes.
_MOST_STOP_SECONDS = 5.0


class LookUp(Protocol):
    """What is known already; used in one thread."""

    def find(self, space: Space, hashes: Sequence[bytes]) -> Mapping[bytes, Embedding]: ...

    def close(self) -> None: ...


# Told of each task once: it is ready, or these are outcomes (of it and of those that waited for it), or neither: it
# waits for another with the same bytes, or the loading was stopped.
Done = Callable[[Task, Ready | None, Sequence[Outcome]], None]


@dataclass(frozen=True, slots=True)
class _File:
    task: Task
    data: bytes
    sha256: bytes


class Loading:
    """The threads before the encoder. `done` and `broken` (with what ended a thread) are called from any of them."""

    def __init__(
        self,
        encoders: Mapping[int, Encoder],
        *,
        limits: Limits,
        timings: Timings,
        single_flight: SingleFlight,
        known: LookUp,
        threads: int,
        done: Done,
        broken: Callable[[BaseException], None],
    ) -> None:
        """`threads` fetch, and as many decode, but no more than there are cores; 0: one a core."""
        self._encoders = encoders
        self._limits = limits
        self._timings = timings
        self._single_flight = single_flight
        self._known = known
        self._done = done
        self._broken = broken
        self._decoders = min(threads or cores(), cores())
        self._stopping = self._held = False
        lock = threading.Lock()  # guards all below; a condition for each kind of thread, lest all wake for one
        self._may_fetch, self._may_look_up = threading.Condition(lock), threading.Condition(lock)
        self._may_decode, self._may_answer = threading.Condition(lock), threading.Condition(lock)
        self._tasks: deque[Task] = deque()
        self._fetching = 0
        self._fetched: deque[_File] = deque()
        self._unknown: deque[_File] = deque()
        self._bytes = 0  # of both
        self._looked_up_at = 0.0
        self._asked: deque[_File] = deque()
        self._look_up_thread = threading.Thread(
            target=self._run, args=(self._look_up_loop,), name="look up", daemon=True
        )
        self._look_up_thread.start()
        for loop, count in (
            (self._fetch_loop, threads or cores()),
            (self._decode_loop, self._decoders),
            (self._answer_loop, _QUERY_THREADS),
        ):
            for _ in range(count):
                # Daemons: the end of the process does not wait for a download that hangs.
                threading.Thread(target=self._run, args=(loop,), name="load", daemon=True).start()

    def submit(self, tasks: Iterable[Task]) -> None:
        """Load these; `done` is told of each."""
        with self._may_fetch:
            for task in tasks:
                if isinstance(task.subject, QueryImage):
                    self._asked.append(_File(task, task.subject.image, task.subject.sha256))
                    self._may_answer.notify()
                else:
                    self._tasks.append(task)
                    self._may_fetch.notify()

    def hold(self, on: bool) -> None:
        """Begin to decode no more jobs, until called again."""
        if on == self._held:
            return
        with self._may_decode:
            self._held = on
            if not on:
                self._may_decode.notify_all()

    def stop(self) -> None:
        """Load no more jobs: what a stopping worker hands back need not be loaded first. Query images go on."""
        with self._may_fetch:
            self._stopping = True
            self._tasks.clear()
            for condition in (self._may_fetch, self._may_look_up, self._may_decode, self._may_answer):
                condition.notify_all()
        self._look_up_thread.join(timeout=_MOST_STOP_SECONDS)

    def _run(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except BaseException as error:  # noqa: BLE001 — raised again in the worker's thread
            self._broken(error)

    # Fetch

    def _fetch_loop(self) -> None:
        while True:
            with self._may_fetch:
                self._may_fetch.wait_for(lambda: self._stopping or (self._tasks and self._room()))
                if self._stopping:
                    return
                task = self._tasks.popleft()
                self._fetching += 1
            file, outcomes = self._fetch(task)
            if file is None:
                self._done(task, None, outcomes)
            with self._may_look_up:
                self._fetching -= 1
                if file is not None:
                    self._fetched.append(file)
                    self._bytes += len(file.data)
                self._may_look_up.notify()

    def _room(self) -> bool:
        return len(self._fetched) + len(self._unknown) < _MOST_FILES and self._bytes < _MOST_BYTES

    def _fetch(self, task: Task) -> tuple[_File | None, Sequence[Outcome]]:
        """Return the file, or None and the outcome, where there is one, of a task that need not go on."""
        if isinstance(task.subject, QueryImage):
            raise TypeError("a query image brings its bytes along")
        try:
            with self._timings.measure("fetch", task.space.id):
                data = fetch(task.subject.uri, limits=self._limits)
                sha256 = hashlib.sha256(data).digest()
        except ImageError as error:
            return None, [Outcome(task, error)]
        except Exception as error:  # a library's fault on this image: told, and no other image's concern
            log.exception("unexpected error while fetching %s", task.name)
            return None, [Outcome(task, _unexpected("fetch", error))]
        first, outcome = self._single_flight.join(task, sha256)
        return (_File(task, data, sha256) if first else None), [outcome] if outcome else []

    # Look up

    def _look_up_loop(self) -> None:
        try:
            while files := self._take_fetched():
                self._look_up(files)
                self._looked_up_at = time.monotonic()
        finally:
            self._known.close()

    def _take_fetched(self) -> list[_File]:
        """Wait for files to look up; none where the loading is stopped."""
        with self._may_look_up:
            self._may_look_up.wait_for(lambda: self._stopping or self._worth_a_look())
            self._may_look_up.wait_for(
                lambda: self._stopping or len(self._fetched) >= _LOOK_UP_FILES,
                timeout=max(0.0, self._looked_up_at + _LOOK_UP_SECONDS - time.monotonic()),
            )
            if self._stopping:
                return []
            taken = list(self._fetched)
            self._fetched.clear()
            return taken

    def _worth_a_look(self) -> bool:
        enough = len(self._fetched) >= _LOOK_UP_FILES or len(self._unknown) < self._decoders
        return bool(self._fetched) and (enough or not (self._tasks or self._fetching))

    def _look_up(self, files: Sequence[_File]) -> None:
        by_space: defaultdict[int, list[_File]] = defaultdict(list)
        for file in files:
            by_space[file.task.space.id].append(file)
        unknown = []
        for space_id, its in by_space.items():
            with self._timings.measure("lookup", space_id):
                found = self._known.find(its[0].task.space, [file.sha256 for file in its])
            for file in its:
                if file.sha256 not in found:
                    unknown.append(file)
                else:
                    self._done(file.task, None, self._single_flight.complete([self._reused(file, found[file.sha256])]))
        with self._may_decode:
            self._unknown.extend(unknown)
            self._bytes -= sum(len(file.data) for file in files) - sum(len(file.data) for file in unknown)
            self._may_decode.notify(len(unknown))
            self._may_fetch.notify(len(files))

    def _reused(self, file: _File, embedding: Embedding) -> Outcome:
        """Return the outcome of a file whose embedding is known; what its bytes tell is read from its own header."""
        try:
            header = read_header(file.data, max_pixels=self._limits.max_pixels)
        except ImageError as error:
            return Outcome(file.task, error)
        facts = Facts(file.sha256, header.media_type, header.width, header.height)
        return Outcome(file.task, embedding, facts, reused=True)

    # Decode

    def _decode_loop(self) -> None:
        while True:
            with self._may_decode:
                self._may_decode.wait_for(lambda: self._stopping or (self._unknown and not self._held))
                if self._stopping:
                    return
                file = self._unknown.popleft()
                self._bytes -= len(file.data)
                self._may_fetch.notify()
                self._may_look_up.notify()
            self._decode(file)

    def _answer_loop(self) -> None:
        while True:
            with self._may_answer:
                self._may_answer.wait_for(lambda: self._stopping or self._asked)
                if not self._asked:
                    return
                file = self._asked.popleft()
            self._decode(file)

    def _decode(self, file: _File) -> None:
        ready, outcomes = None, []
        try:
            with self._timings.measure("decode", file.task.space.id):
                image, pixels = pixels_of(file.data, self._encoders[file.task.space.id], self._limits)
            ready = Ready(file.task, pixels, Facts(file.sha256, image.media_type, image.width, image.height))
        except ImageError as error:
            outcomes = [Outcome(file.task, error)]
        except Exception as error:
            log.exception("unexpected error while loading %s", file.task.name)
            outcomes = [Outcome(file.task, _unexpected("decode", error))]
        self._done(file.task, ready, self._single_flight.complete(outcomes))


def _unexpected(step: str, error: Exception) -> ImageError:
    return ImageError(step, f"unexpected error while loading: {error!r}")
