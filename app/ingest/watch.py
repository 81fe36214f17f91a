"""Keep the database in step with a folder: register files as they land, change, move and disappear.

An event (of inotify, or a difference from the previous scan) only names a file to check. What happens next depends on
the file's state at that time, so lost, repeated or late events do no harm. State lives in memory only: a start scans
the folder, and finds unchanged what the database already has.
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
from app.ingest.folder import Signature, SkippedFiles, scan, stat_file
from app.ingest.folder_sync import WatchedFolder, delete_images, images_without_file, rename_images
from app.ingest.pending import PendingFiles
from app.ingest.register import register_images
from app.ingest.tracker import IngestTracker

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.5
_SCAN_SECONDS = 60.0  # beside inotify, because events get lost when its queue overflows
_SCAN_SHARE = 20  # scans take at most one second in so many
_GONE_SECONDS = 2.0  # between two scans of a folder that is missing
_SLICE = 2000
_BATCH = 500
_IDLE_SECONDS = 1.0


@dataclass(slots=True)
class Counts:
    """Totals of a watch. `refused` and `skipped` count files, the others images; `kept`: images without a file."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    renamed: int = 0
    deleted: int = 0
    kept: int = 0
    refused: int = 0
    reconnects: int = 0
    skipped: SkippedFiles = field(default_factory=SkippedFiles)


@dataclass(slots=True)
class _Scan:
    """A scan of the whole folder, one slice per round."""

    paths: Iterator[str]
    skipped: SkippedFiles
    began: float
    seen: set[str] = field(default_factory=set)


class Watch:
    """Watches one folder. `run` works until a signal handler or another thread calls `stop`."""

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
        self._watched = WatchedFolder(self.folder, base_uri)
        self._delete = delete
        self._events = FolderEvents(self.folder, poll=poll)
        self._stopped = False
        self._pending = PendingFiles(settle)
        self._backlog: deque[str] = deque()
        self._signatures: dict[str, Signature] = {}  # of the files that are dealt with
        self._refused: set[str] = set()
        self._root = self._root_identity()
        self._scan: _Scan | None = None
        self._scan_due = 0.0

    @property
    def waiting(self) -> int:
        """The number of files that are found and not yet registered or refused."""
        return len(self._pending) + len(self._backlog)

    @property
    def polling(self) -> float | None:
        """Seconds between two scans of the folder; None if inotify reports its changes."""
        return self._events.poll

    def stop(self) -> None:
        """End `run` after the current batch."""
        self._stopped = True
        self._events.notify()  # it may fail to wake the loop, which wakes every second anyway

    def run(
        self, connect: Callable[[], AbstractContextManager[Connection]], report: Callable[[list[Refusal]], None]
    ) -> None:
        """Watch until stopped. `connect` opens a connection in autocommit, and again after the database was down.

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
            # While the database is down, events are buffered; the scan at each connect finds the rest.
            until_available(session, pause=self._pause)
        finally:
            self._events.stop()

    # The loop

    def _round(self, conn: Connection) -> list[Refusal]:
        self._wait(time.monotonic())
        self._drain_events()
        self._scan_slice(conn)
        ready, gone = self._ready()
        refused = self._commit(conn, ready, gone) if ready or gone else []
        self.tracker.poll(conn)
        return refused

    def _pause(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self._stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return not self._stopped

    def _wait(self, now: float) -> None:
        if self._backlog or self._scan is not None or self._stopped:
            return
        seconds = min(self._scan_due - now, _IDLE_SECONDS)
        if (due := self._pending.next_due()) is not None:
            seconds = min(seconds, due - now)
        if (poll := self.tracker.seconds_to_poll()) is not None:
            seconds = min(seconds, poll)
        self._events.wait(seconds)

    def _drain_events(self) -> None:
        changed, scan_requested = self._events.drain()
        now = time.monotonic()
        if scan_requested:
            self._scan_due = min(self._scan_due, now)
        for path, closed in changed.items():
            if path in self._refused:  # it may be readable now, with the same bytes
                self._refused.discard(path)
                self._signatures.pop(path, None)
            self._pending.change(path, closed=closed, now=now)

    def _ready(self) -> tuple[dict[str, Signature], list[str]]:
        """Return the files to register, with their signatures, and the files that are gone: one batch."""
        now, wall = time.monotonic(), time.time()
        ready: dict[str, Signature] = {}
        gone: list[str] = []
        due = self._pending.due(now)[:_BATCH]
        # At least half of a batch comes from the backlog, so that a busy folder catches up too.
        due += [self._backlog.popleft() for _ in range(min(len(self._backlog), max(_BATCH - len(due), _BATCH // 2)))]
        for path in dict.fromkeys(due):
            state = stat_file(path, wall)
            if state is None:
                self._pending.discard(path)
                if not os.path.lexists(path):
                    gone.append(path)
            elif self._signatures.get(path) == state.signature:
                self._pending.discard(path)
            elif self._pending.is_settled(path, state, now):
                ready[path] = state.signature
        return ready, gone

    # Writing to the database

    def _commit(self, conn: Connection, ready: dict[str, Signature], gone: list[str]) -> list[Refusal]:
        try:
            moved = self._rename(conn, ready, gone)
            refused = self._register(conn, ready)
            self.counts.unchanged -= len(moved)
            self._remove(conn, [path for path in gone if path not in moved])
        except DatabaseUnavailableError:
            self._pending.add(gone, time.monotonic())
            raise  # the ready files are still pending
        for path in ready:
            self._pending.discard(path)
        return refused

    def _register(self, conn: Connection, ready: dict[str, Signature]) -> list[Refusal]:
        """Register files; remove those from `ready` that changed meanwhile, and return those refused for good."""
        refused: list[Refusal] = []
        candidates: list[Candidate] = []
        for path in ready:
            found = self._watched.candidate(path)
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
        final = []
        for one in refused:
            state = stat_file(one.origin, wall)
            if state is not None and state.signature == ready.get(one.origin):
                self._refused.add(one.origin)
                final.append(one)
            else:  # its writer was not done
                ready.pop(one.origin, None)
                self._events.add(ChangeEvent(one.origin))
        self._signatures.update(ready)
        self.counts.refused += len(final)
        return final

    def _rename(self, conn: Connection, ready: dict[str, Signature], gone: list[str]) -> set[str]:
        """Rename the images of moved files; return the old paths."""
        before = {self._signatures[path][0]: path for path in gone if path in self._signatures}
        pairs = {before[moved]: path for path, (moved, _) in ready.items() if moved in before}
        if not pairs:
            return set()
        renamed = rename_images(conn, pairs, self._watched)
        self.counts.renamed += renamed
        if renamed < len(pairs):
            return set()
        for path in pairs:
            self._signatures.pop(path, None)
        return set(pairs)

    def _remove(self, conn: Connection, gone: list[str]) -> None:
        """Delete the images of files that are gone; without --delete, or if the folder changed, keep them."""
        removed = [path for path in gone if path in self._signatures]
        if removed and self._delete and self._root is not None and self._root_identity() == self._root:
            uris = [uri for path in removed if (uri := self._watched.uri(path)) is not None]
            self.counts.deleted += delete_images(conn, uris)
        else:
            self.counts.kept += len(removed)
        for path in removed:
            self._signatures.pop(path, None)
            self._refused.discard(path)

    # Scanning the whole folder

    def _scan_slice(self, conn: Connection) -> None:
        """Go on with the scan of the folder, or begin one if it is due."""
        now = time.monotonic()
        if self._scan is None:
            # Moving, mounting or unmounting the folder itself raises no event.
            if now < self._scan_due and self._root_identity() == self._root:
                return
            self._check_root()
            skipped = SkippedFiles()
            self._scan = _Scan(scan(self.folder, skipped), skipped, now)
        try:
            found = list(islice(self._scan.paths, _SLICE))
        except OSError as error:
            if self._root is not None:
                log.warning("%s cannot be read: %s; no image is deleted", self.folder, error.strerror)
            self._scan, self._root, self._scan_due = None, None, now + _GONE_SECONDS
            return
        wall = time.time()
        for path in found:
            self._scan.seen.add(path)
            state = stat_file(path, wall)
            if state is not None and self._signatures.get(path) != state.signature and path not in self._pending:
                self._backlog.append(path)
        if len(found) < _SLICE:
            self._finish_scan(conn, self._scan)

    def _finish_scan(self, conn: Connection, done: _Scan) -> None:
        if not self.caught_up and self._delete:
            self._delete_missing(conn, done.seen)
        now = time.monotonic()
        self._pending.add((path for path in self._signatures if path not in done.seen), now)
        self.counts.skipped = done.skipped
        self.caught_up = True
        self._scan = None
        self._scan_due = now + max(self._events.poll or _SCAN_SECONDS, _SCAN_SHARE * (now - done.began))

    def _delete_missing(self, conn: Connection, seen: set[str]) -> None:
        """Delete the images of files that disappeared while no watch ran."""
        gone = images_without_file(conn, self._watched)
        if gone and not seen:
            log.warning(
                "%s has no images, but the database has %s of it: no image is deleted; check that it is mounted",
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
        """Restart the events if the folder was replaced, mounted or unmounted; its images stay."""
        now = self._root_identity()
        if now is not None and now != self._root:
            log.warning("%s was replaced by another folder: its files are registered, no image is deleted", self.folder)
            self._root = now
            self.counts.kept += len(self._signatures)
            self._signatures.clear()
            self._events.stop()
            self._events.start()
