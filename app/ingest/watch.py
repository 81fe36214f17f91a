"""Keeps the database in step with a folder: files become images as they land, change, move and go.

Word of a change (inotify, or the difference to the scan before) only says where to look; what is done follows from
what is there then, so that lost, doubled or late word does no harm. Nothing is remembered but in memory: a start scans,
and finds unchanged what the database has already.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from app.db import Connection
from app.db.retry import until_available
from app.errors import DatabaseUnavailableError, InvalidInputError
from app.ingest.events import ChangeEvent, FolderEvents
from app.ingest.find import Candidate, Refusal
from app.ingest.folder import FileState, SkippedFiles, looks_whole, scan, stat_file
from app.ingest.folder_sync import WatchedFolder, delete_images, images_without_file, rename_images
from app.ingest.register import register_images
from app.ingest.tracker import IngestTracker

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.5
_PATIENCE_SECONDS = 10.0  # for a file whose end is missing
_OLD_SECONDS = 3600.0
_SWEEP_SECONDS = 60.0  # with inotify: events get lost when its queue overflows
_SWEEP_SHARE = 20  # a sweep that takes long comes more rarely
_GONE_SECONDS = 2.0  # between two looks for a folder that is not there
_SLICE = 2000
_BATCH = 500
_IDLE_SECONDS = 1.0


@dataclass(slots=True)
class Counts:
    """What has been done so far. `kept`: images whose files are gone; `refused`: files, `passed`: what is no image."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    renamed: int = 0
    deleted: int = 0
    kept: int = 0
    refused: int = 0
    reconnects: int = 0
    passed: SkippedFiles = field(default_factory=SkippedFiles)


@dataclass(slots=True)
class _Pending:
    """A file that may still be written: as it was seen last, since when, and when to look again."""

    closed: bool
    due: float
    signature: int | None = None
    since: float = 0.0


class Watch:
    """Watches one folder. `run` works until `stop` is called, from a signal handler or another thread."""

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        max_pixels: int,
        base_uri: str | None = None,
        delete: bool = False,
        poll: float | None = None,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        self.folder = Path(os.path.abspath(folder))  # noqa: PTH100 — the uri is the path as the user names it
        if not self.folder.is_dir():
            raise InvalidInputError(f"there is no folder {folder} to watch")
        self.counts = Counts()
        self.tracker = IngestTracker()
        self.caught_up = False
        self._max_bytes, self._max_pixels = max_bytes, max_pixels
        self._place = WatchedFolder(self.folder, base_uri)
        self._delete, self._settle = delete, settle
        self._events = FolderEvents(self.folder, poll=poll)
        self._stopped = False
        self._pending: dict[str, _Pending] = {}
        self._backlog: deque[str] = deque()
        self._known: dict[str, int] = {}
        self._refused: set[str] = set()
        self._root = self._root_identity()
        self._sweep: Iterator[str] | None = None
        self._seen: set[str] = set()
        self._passed = SkippedFiles()
        self._sweep_began = 0.0
        self._sweep_due = 0.0

    @property
    def waiting(self) -> int:
        """How many files have been noticed and not yet been dealt with."""
        return len(self._pending) + len(self._backlog)

    @property
    def polling(self) -> float | None:
        """The seconds between two looks at the whole folder, where changes are not told by the kernel."""
        return self._events.poll

    def stop(self) -> None:
        """Let `run` end after the batch in hand."""
        self._stopped = True
        self._events.notify()  # the loop looks every second anyway

    def run(
        self, connect: Callable[[], AbstractContextManager[Connection]], report: Callable[[list[Refusal]], None]
    ) -> None:
        """Work until stopped. `connect` opens a connection in autocommit, again after the database was away.

        `report` is called after every round with the files refused in it.
        """
        self._events.start()
        times = 0

        def session() -> None:
            nonlocal times
            with connect() as conn:
                self.counts.reconnects += times > 0
                times += 1
                self._events.add(ChangeEvent(None))
                while not self._stopped:
                    report(self._round(conn))

        try:
            # Files are noticed while the database is away, too: what was told is kept, and then all is looked at.
            until_available(session, pause=self._pause)
        finally:
            self._events.stop()

    # The loop

    def _round(self, conn: Connection) -> list[Refusal]:
        now = time.monotonic()
        self._wait(now)
        self._take_paths()
        self._look_around(conn)
        refused: list[Refusal] = []
        ready, gone = self._ready()
        if ready or gone:
            refused = self._commit(conn, ready, gone)
        self.tracker.poll(conn)
        return refused

    def _pause(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self._stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return not self._stopped

    def _wait(self, now: float) -> None:
        if self._backlog or self._sweep is not None or self._stopped:
            return
        due = min((one.due for one in self._pending.values()), default=now + _IDLE_SECONDS)
        if (look := self.tracker.seconds_to_poll()) is not None:
            due = min(due, now + look)
        self._events.wait(min(due - now, self._sweep_due - now, _IDLE_SECONDS))

    def _take_paths(self) -> None:
        words, sweep_asked = self._events.drain()
        now = time.monotonic()
        if sweep_asked:
            self._sweep_due = min(self._sweep_due, now)
        for path, closed in words.items():
            if path in self._refused:  # it may be readable now, with the same bytes
                self._refused.discard(path)
                self._known.pop(path, None)
            before = self._pending.get(path)
            due = now if closed else now + self._settle
            if before is None:
                self._pending[path] = _Pending(closed, due)
            else:
                before.closed, before.due = closed, due

    def _ready(self) -> tuple[dict[str, int], list[str]]:
        """Return the files to take, with their signatures, and those gone: word of changes first, then the backlog."""
        now, wall = time.monotonic(), time.time()
        ready: dict[str, int] = {}
        gone: list[str] = []
        due = [path for path, one in self._pending.items() if one.due <= now][:_BATCH]
        # Half of a batch at least is of the backlog, so that a busy folder is caught up with all the same.
        due += [self._backlog.popleft() for _ in range(min(len(self._backlog), max(_BATCH - len(due), _BATCH // 2)))]
        for path in dict.fromkeys(due):
            seen = stat_file(path, wall)
            if seen is None:
                self._pending.pop(path, None)
                if not os.path.lexists(path):
                    gone.append(path)
            elif self._known.get(path) == seen.signature:
                self._pending.pop(path, None)
            elif self._settled(path, seen, now):
                ready[path] = seen.signature
        return ready, gone

    def _settled(self, path: str, seen: FileState, now: float) -> bool:
        one = self._pending.setdefault(path, _Pending(closed=False, due=now))
        if one.signature != seen.signature:
            one.signature, one.since = seen.signature, now
        quiet = now - one.since
        if looks_whole(path):
            needed = 0.0 if one.closed else self._settle
            quiet = max(quiet, seen.age)
        else:
            needed = _PATIENCE_SECONDS
            quiet = max(quiet, seen.age if seen.age > _OLD_SECONDS else 0.0)
        if quiet >= needed:
            return True
        one.due = now + max(min(needed - quiet, self._settle), 0.01)
        return False

    # What is written

    def _commit(self, conn: Connection, ready: dict[str, int], gone: list[str]) -> list[Refusal]:
        try:
            moved = self._rename(conn, ready, gone)
            refused = self._register(conn, ready)
            self.counts.unchanged -= len(moved)
            self._forget(conn, [path for path in gone if path not in moved])
        except DatabaseUnavailableError:
            for path in gone:
                self._pending.setdefault(path, _Pending(closed=False, due=0.0))
            raise  # those ready are pending still
        for path in ready:
            self._pending.pop(path, None)
        return refused

    def _register(self, conn: Connection, ready: dict[str, int]) -> list[Refusal]:
        refused: list[Refusal] = []
        candidates: list[Candidate] = []
        for path in ready:
            found = self._place.candidate(path)
            if isinstance(found, Refusal):
                refused.append(found)
            else:
                candidates.append(found)
        for batch in register_images(conn, candidates, max_bytes=self._max_bytes, max_pixels=self._max_pixels):
            self.counts.new += batch.new
            self.counts.changed += batch.changed
            self.counts.unchanged += batch.unchanged
            self.tracker.add(batch.ids)
            refused += batch.refused
        wall = time.time()
        told = []
        for one in refused:
            seen = stat_file(one.origin, wall)
            if seen is not None and seen.signature == ready.get(one.origin):
                self._refused.add(one.origin)
                told.append(one)
            else:  # written on meanwhile
                ready.pop(one.origin, None)
                self._events.add(ChangeEvent(one.origin))
        self._known.update(ready)
        self.counts.refused += len(told)
        return told

    def _rename(self, conn: Connection, ready: dict[str, int], gone: list[str]) -> set[str]:
        """Let the images of files that were moved follow them; return the paths that they had."""
        before = {self._known[path]: path for path in gone if path in self._known}
        pairs = {before[signature]: path for path, signature in ready.items() if signature in before}
        if not pairs:
            return set()
        renamed = rename_images(conn, pairs, self._place)
        self.counts.renamed += renamed
        if renamed < len(pairs):
            return set()
        for path in pairs:
            self._known.pop(path, None)
        return set(pairs)

    def _forget(self, conn: Connection, gone: list[str]) -> None:
        known = [path for path in gone if path in self._known]
        if known and self._delete and self._root is not None and self._root_identity() == self._root:
            uris = [uri for path in known if (uri := self._place.uri(path)) is not None]
            self.counts.deleted += delete_images(conn, uris)
        else:
            self.counts.kept += len(known)
        for path in known:
            self._known.pop(path, None)
            self._refused.discard(path)

    # Looking at the whole folder

    def _look_around(self, conn: Connection) -> None:
        now = time.monotonic()
        if self._sweep is None:
            # A folder that is moved away, mounted over or unmounted tells nothing.
            if now < self._sweep_due and self._root_identity() == self._root:
                return
            self._check_root()
            self._sweep_began, self._seen, self._passed = now, set(), SkippedFiles()
            self._sweep = scan(self.folder, self._passed)
        try:
            found = list(islice(self._sweep, _SLICE))
        except OSError as error:
            if self._root is not None:
                log.warning("%s cannot be looked at: %s; nothing is taken as deleted", self.folder, error.strerror)
            self._end_sweep()
            self._root, self._sweep_due = None, now + _GONE_SECONDS
            return
        wall = time.time()
        for path in found:
            self._seen.add(path)
            seen = stat_file(path, wall)
            if seen is not None and self._known.get(path) != seen.signature and path not in self._pending:
                self._backlog.append(path)
        if len(found) < _SLICE:
            self._finish_sweep(conn)

    def _finish_sweep(self, conn: Connection) -> None:
        if not self.caught_up and self._delete:
            self._mirror(conn)
        for path in [path for path in self._known if path not in self._seen]:
            self._pending.setdefault(path, _Pending(closed=False, due=time.monotonic()))
        self.counts.passed = self._passed
        self.caught_up = True
        self._end_sweep()

    def _end_sweep(self) -> None:
        now = time.monotonic()
        took = now - self._sweep_began
        self._sweep, self._seen = None, set()
        self._sweep_due = now + max(self._events.poll or _SWEEP_SECONDS, _SWEEP_SHARE * took)

    def _mirror(self, conn: Connection) -> None:
        """Delete the images of files that went while nobody watched."""
        gone = images_without_file(conn, self._place)
        if gone and not self._seen:
            log.warning(
                "%s has no images, the database has %s of it: nothing is deleted; is it mounted?",
                self.folder,
                f"{len(gone):,}",
            )
            return
        self.counts.deleted += delete_images(conn, gone)

    # The folder itself

    def _root_identity(self) -> tuple[int, int] | None:
        try:
            status = self.folder.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _check_root(self) -> None:
        """Listen anew where the folder was replaced, mounted or unmounted; its images stay."""
        now = self._root_identity()
        if now is not None and now != self._root:
            log.warning("%s is another folder than before: its files are taken, nothing is deleted", self.folder)
            self._root = now
            self.counts.kept += len(self._known)
            self._known.clear()
            self._events.stop()
            self._events.start()
