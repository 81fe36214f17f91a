"""Loads images for the encoder: fetch, look up by content, decode, transform. No SQL here.

An image is decoded only if its bytes have no embedding yet.

jobs → fetch threads → [fetched] → lookup thread, many files in one statement → [unknown] → decode threads → done
query images → [queries] → their own decode threads → done
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

# Query images have their own decode threads so that they do not wait behind large files.
_QUERY_THREADS = 2
# Fetching pauses while this many files, or bytes, wait to be decoded.
_MOST_FILES, _MOST_BYTES = 32, 64 * 2**20
# Files in one lookup, and the least seconds between lookups. A lookup takes fewer files if a decode thread would wait.
_LOOKUP_FILES, _LOOKUP_SECONDS = 16, 0.01
# How long `stop` waits for the lookup thread: longer than its statement takes.
_MOST_STOP_SECONDS = 5.0


class ContentIndex(Protocol):
    """Finds existing embeddings by content. Called from one thread."""

    def find(self, space: Space, hashes: Sequence[bytes]) -> Mapping[bytes, Embedding]: ...

    def close(self) -> None: ...


# Called once for each task. The task is ready; or it has outcomes, which include those of tasks that waited for it; or
# neither, because it waits for another task with the same bytes.
Done = Callable[[Task, Ready | None, Sequence[Outcome]], None]


@dataclass(frozen=True, slots=True)
class _File:
    task: Task
    data: bytes
    sha256: bytes


class Loading:
    """The threads before the encoder. Any of them calls `done`, or `broken` with the exception that ended it."""

    def __init__(
        self,
        encoders: Mapping[int, Encoder],
        *,
        limits: Limits,
        timings: Timings,
        single_flight: SingleFlight,
        lookup: ContentIndex,
        threads: int,
        done: Done,
        broken: Callable[[BaseException], None],
    ) -> None:
        """`threads` fetch and as many decode, up to the number of cores; 0: one a core."""
        self._encoders = encoders
        self._limits = limits
        self._timings = timings
        self._single_flight = single_flight
        self._lookup = lookup
        self._done = done
        self._broken = broken
        self._decoders = min(threads or cores(), cores())
        self._stopping = self._held = False
        lock = threading.Lock()  # guards all below; each kind of thread has a condition, so that only it wakes
        self._may_fetch, self._may_lookup = threading.Condition(lock), threading.Condition(lock)
        self._may_decode, self._may_decode_queries = threading.Condition(lock), threading.Condition(lock)
        self._tasks: deque[Task] = deque()
        self._fetching = 0
        self._fetched: deque[_File] = deque()
        self._unknown: deque[_File] = deque()
        self._bytes = 0  # of fetched and unknown files
        self._last_lookup = 0.0
        self._queries: deque[_File] = deque()
        self._lookup_thread = threading.Thread(target=self._run, args=(self._lookup_loop,), name="lookup", daemon=True)
        self._lookup_thread.start()
        for loop, count in (
            (self._fetch_loop, threads or cores()),
            (self._decode_loop, self._decoders),
            (self._decode_queries_loop, _QUERY_THREADS),
        ):
            for _ in range(count):
                # Daemons: the end of the process does not wait for a download that hangs.
                threading.Thread(target=self._run, args=(loop,), name="load", daemon=True).start()

    def submit(self, tasks: Iterable[Task]) -> None:
        """Load the images of tasks and call `done` for each."""
        with self._may_fetch:
            for task in tasks:
                if isinstance(task.subject, QueryImage):
                    self._queries.append(_File(task, task.subject.image, task.subject.sha256))
                    self._may_decode_queries.notify()
                else:
                    self._tasks.append(task)
                    self._may_fetch.notify()

    def hold(self, on: bool) -> None:
        """Pause the decoding of jobs, or resume it."""
        if on == self._held:
            return
        with self._may_decode:
            self._held = on
            if not on:
                self._may_decode.notify_all()

    def stop(self) -> None:
        """Load no more jobs, because a stopping worker hands them back. Query images go on."""
        with self._may_fetch:
            self._stopping = True
            self._tasks.clear()
            for condition in (self._may_fetch, self._may_lookup, self._may_decode, self._may_decode_queries):
                condition.notify_all()
        self._lookup_thread.join(timeout=_MOST_STOP_SECONDS)

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
            with self._may_lookup:
                self._fetching -= 1
                if file is not None:
                    self._fetched.append(file)
                    self._bytes += len(file.data)
                self._may_lookup.notify()

    def _room(self) -> bool:
        return len(self._fetched) + len(self._unknown) < _MOST_FILES and self._bytes < _MOST_BYTES

    def _fetch(self, task: Task) -> tuple[_File | None, Sequence[Outcome]]:
        """Return the file; or None and the outcome, if any, of a task that is done or waits for another."""
        if isinstance(task.subject, QueryImage):
            raise TypeError("a query image has its bytes already")
        try:
            with self._timings.measure("fetch", task.space.id):
                data = fetch(task.subject.uri, limits=self._limits)
                sha256 = hashlib.sha256(data).digest()
        except ImageError as error:
            return None, [Outcome(task, error)]
        except Exception as error:  # a library's fault, which must fail this image only
            log.exception("unexpected error while fetching %s", task.name)
            return None, [Outcome(task, _unexpected("fetch", error))]
        first, outcome = self._single_flight.join(task, sha256)
        return (_File(task, data, sha256) if first else None), [outcome] if outcome else []

    # Look up

    def _lookup_loop(self) -> None:
        try:
            while files := self._take_fetched():
                self._look_up(files)
                self._last_lookup = time.monotonic()
        finally:
            self._lookup.close()

    def _take_fetched(self) -> list[_File]:
        """Wait for files to look up and return them; return none when the loading stops."""
        with self._may_lookup:
            self._may_lookup.wait_for(lambda: self._stopping or self._lookup_pays())
            self._may_lookup.wait_for(
                lambda: self._stopping or len(self._fetched) >= _LOOKUP_FILES,
                timeout=max(0.0, self._last_lookup + _LOOKUP_SECONDS - time.monotonic()),
            )
            if self._stopping:
                return []
            taken = list(self._fetched)
            self._fetched.clear()
            return taken

    def _lookup_pays(self) -> bool:
        enough = len(self._fetched) >= _LOOKUP_FILES or len(self._unknown) < self._decoders
        return bool(self._fetched) and (enough or not (self._tasks or self._fetching))

    def _look_up(self, files: Sequence[_File]) -> None:
        by_space: defaultdict[int, list[_File]] = defaultdict(list)
        for file in files:
            by_space[file.task.space.id].append(file)
        unknown = []
        for space_id, group in by_space.items():
            with self._timings.measure("lookup", space_id):
                found = self._lookup.find(group[0].task.space, [file.sha256 for file in group])
            for file in group:
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
        """Return the outcome of a file whose embedding exists; read its facts from its own header."""
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
                self._may_lookup.notify()
            self._decode(file)

    def _decode_queries_loop(self) -> None:
        while True:
            with self._may_decode_queries:
                self._may_decode_queries.wait_for(lambda: self._stopping or self._queries)
                if not self._queries:
                    return
                file = self._queries.popleft()
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
