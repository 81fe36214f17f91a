"""Buffer of file-system events, filled by an inotify thread and drained by the watch loop.

If inotify is not available, the buffer stays empty and the watch loop polls the folder instead.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.ingest.folder import is_wanted, remote_filesystem

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """A change of the file at `path`, or a request to scan the whole folder (None).

    `closed`: the writer has closed the file, or the file was moved here.
    """

    path: str | None
    closed: bool = False


def start_observer(folder: Path, report: Callable[[ChangeEvent], None]) -> "BaseObserver":
    """Start a thread that reports every change below `folder`; its stop() and join() end it.

    Raises:
        OSError: the kernel refuses, mostly because fs.inotify.max_user_watches is exceeded.
    """
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: Any) -> None:  # noqa: ANN401 — the class depends on watchdog's version
            kind = event.event_type
            if kind in ("opened", "closed_no_write"):
                return
            if event.is_directory:
                if kind in ("deleted", "moved"):
                    report(ChangeEvent(None))
                return
            for path in filter(None, (event.src_path, event.dest_path)):
                name = os.fsdecode(path)
                if is_wanted(name, folder):
                    report(ChangeEvent(name, closed=kind in ("closed", "moved")))

    observer = Observer()
    observer.schedule(Handler(), str(folder), recursive=True)
    observer.start()
    return observer


class FolderEvents:
    """Events of one folder. `poll`: seconds between two scans of the folder; None if inotify reports its changes.

    One thread calls `start` and `stop`; any thread may call the rest.
    """

    def __init__(self, folder: Path, *, poll: float | None = None) -> None:
        self._folder = folder
        self.poll = poll if poll is not None else self._poll_needed()
        self._changed = threading.Condition()
        self._paths: dict[str, bool] = {}
        self._scan_requested = False
        self._observer: BaseObserver | None = None

    def add(self, event: ChangeEvent) -> None:
        """Add an event to the buffer."""
        with self._changed:
            if event.path is None:
                self._scan_requested = True
            else:
                self._paths[event.path] = event.closed
            self._changed.notify()

    def wait(self, seconds: float) -> None:
        """Wait for an event or a call of `notify`, for `seconds` at most."""
        with self._changed:
            if seconds > 0 and not self._paths and not self._scan_requested:
                self._changed.wait(seconds)

    def notify(self) -> None:
        """End `wait`, unless another thread holds the lock.

        A signal handler may call this: it does not block, even if it interrupted the holder of the lock.
        """
        if self._changed.acquire(blocking=False):
            self._changed.notify()
            self._changed.release()

    def drain(self) -> tuple[dict[str, bool], bool]:
        """Empty the buffer; return the changed paths (true: closed by their writer) and whether to scan the folder."""
        with self._changed:
            drained = self._paths, self._scan_requested
            self._paths, self._scan_requested = {}, False
        return drained

    def start(self) -> None:
        """Start listening for changes; if the kernel refuses, set `poll` instead."""
        if self.poll is not None:
            return
        try:
            self._observer = start_observer(self._folder, self.add)
        except OSError as error:
            self.poll = _POLL_SECONDS
            log.warning(
                "inotify refuses to watch %s (%s; raise fs.inotify.max_user_watches by sysctl): "
                "the folder is scanned every %.0f s instead",
                self._folder,
                error.strerror or error,
                self.poll,
            )

    def stop(self) -> None:
        """Stop listening for changes."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _poll_needed(self) -> float | None:
        kind = remote_filesystem(self._folder)
        if kind is None:
            return None
        log.warning(
            "%s is on %s, which reports no changes from other machines: the folder is scanned every %.0f s instead",
            self._folder,
            kind,
            _POLL_SECONDS,
        )
        return _POLL_SECONDS
