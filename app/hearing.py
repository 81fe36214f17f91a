"""Word of changes in a folder, gathered until somebody has time for it: by inotify, or none where that cannot be had."""

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from app import folders
from app.folders import Word

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

_POLL_SECONDS = 2.0


class Hearing:
    """What was heard of one folder. `poll`: seconds between two looks at all of it, where the kernel tells nothing.

    `listen` and `unlisten` are one thread's; all else may be called from any.
    """

    def __init__(self, folder: Path, *, poll: float | None = None) -> None:
        self._folder = folder
        self.poll = poll if poll is not None else self._poll_needed()
        self._told = threading.Condition()
        self._words: dict[str, bool] = {}
        self._sweep_asked = False
        self._observer: BaseObserver | None = None

    def hear(self, word: Word) -> None:
        """Take note of a change; the listening thread calls this."""
        with self._told:
            if word.path is None:
                self._sweep_asked = True
            else:
                self._words[word.path] = word.closed
            self._told.notify()

    def wait(self, seconds: float) -> None:
        """Wait until something is heard, or `wake` is called, and no longer than so."""
        with self._told:
            if seconds > 0 and not self._words and not self._sweep_asked:
                self._told.wait(seconds)

    def wake(self) -> None:
        """End `wait`, if nobody is just about to; for signal handlers, which may have interrupted the lock's holder."""
        if self._told.acquire(blocking=False):
            self._told.notify()
            self._told.release()

    def take(self) -> tuple[dict[str, bool], bool]:
        """Return the paths heard of since the last call (true: closed by their writer), and whether to look at all."""
        with self._told:
            taken = self._words, self._sweep_asked
            self._words, self._sweep_asked = {}, False
        return taken

    def listen(self) -> None:
        """Hear of changes from now on; where the kernel refuses, `poll` is set instead."""
        if self.poll is not None:
            return
        try:
            self._observer = folders.listen(self._folder, self.hear)
        except OSError as error:
            self.poll = _POLL_SECONDS
            log.warning(
                "changes in %s are not told (%s; see sysctl fs.inotify.max_user_watches): looking every %.0f s instead",
                self._folder,
                error.strerror or error,
                self.poll,
            )

    def unlisten(self) -> None:
        """End the listening thread, if there is one."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _poll_needed(self) -> float | None:
        kind = folders.remote_filesystem(self._folder)
        if kind is None:
            return None
        log.warning(
            "%s is on %s, where changes are not told: looking every %.0f s instead", self._folder, kind, _POLL_SECONDS
        )
        return _POLL_SECONDS
