"""Word of changes in a folder, gathered until somebody has time for it: by inotify, or none where that cannot be had."""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.ingest.folder import remote_filesystem, wanted

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """Word of a change at `path`; `closed`: its writer has closed it, or it was moved here. None: look at the whole."""

    path: str | None
    closed: bool = False


def listen(folder: Path, report: Callable[[ChangeEvent], None]) -> "BaseObserver":
    """Start a thread that tells of every change below `folder`, by inotify; to be stopped by stop() and join().

    OSError where the kernel refuses, mostly since fs.inotify.max_user_watches is used up.
    """
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: Any) -> None:  # noqa: ANN401 — one of watchdog's, by version
            kind = event.event_type
            if kind in ("opened", "closed_no_write"):
                return
            if event.is_directory:
                if kind in ("deleted", "moved"):
                    report(ChangeEvent(None))
                return
            for path in filter(None, (event.src_path, event.dest_path)):
                name = os.fsdecode(path)
                if wanted(name, folder):
                    report(ChangeEvent(name, closed=kind in ("closed", "moved")))

    observer = Observer()
    observer.schedule(Handler(), str(folder), recursive=True)
    observer.start()
    return observer


class FolderEvents:
    """What was heard of one folder. `poll`: seconds between two looks at all of it, where the kernel tells nothing.

    `start` and `stop` are one thread's; all else may be called from any.
    """

    def __init__(self, folder: Path, *, poll: float | None = None) -> None:
        self._folder = folder
        self.poll = poll if poll is not None else self._poll_needed()
        self._changed = threading.Condition()
        self._paths: dict[str, bool] = {}
        self._sweep_asked = False
        self._observer: BaseObserver | None = None

    def add(self, event: ChangeEvent) -> None:
        """Take note of a change; the listening thread calls this."""
        with self._changed:
            if event.path is None:
                self._sweep_asked = True
            else:
                self._paths[event.path] = event.closed
            self._changed.notify()

    def wait(self, seconds: float) -> None:
        """Wait until something is heard, or `notify` is called, and no longer than so."""
        with self._changed:
            if seconds > 0 and not self._paths and not self._sweep_asked:
                self._changed.wait(seconds)

    def notify(self) -> None:
        """End `wait`, if nobody is just about to; for signal handlers, which may have interrupted the lock's holder."""
        if self._changed.acquire(blocking=False):
            self._changed.notify()
            self._changed.release()

    def drain(self) -> tuple[dict[str, bool], bool]:
        """Return the paths heard of since the last call (true: closed by their writer), and whether to look at all."""
        with self._changed:
            taken = self._paths, self._sweep_asked
            self._paths, self._sweep_asked = {}, False
        return taken

    def start(self) -> None:
        """Hear of changes from now on; where the kernel refuses, `poll` is set instead."""
        if self.poll is not None:
            return
        try:
            self._observer = listen(self._folder, self.add)
        except OSError as error:
            self.poll = _POLL_SECONDS
            log.warning(
                "changes in %s are not told (%s; see sysctl fs.inotify.max_user_watches): looking every %.0f s instead",
                self._folder,
                error.strerror or error,
                self.poll,
            )

    def stop(self) -> None:
        """End the listening thread, if there is one."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _poll_needed(self) -> float | None:
        kind = remote_filesystem(self._folder)
        if kind is None:
            return None
        log.warning(
            "%s is on %s, where changes are not told: looking every %.0f s instead", self._folder, kind, _POLL_SECONDS
        )
        return _POLL_SECONDS
