"""Hold changed files back until their writer has finished them."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.ingest.folder import FileState, Signature, looks_complete

_PATIENCE_SECONDS = 10.0  # for a file whose end is missing
_OLD_SECONDS = 3600.0


@dataclass(slots=True)
class _PendingFile:
    """A file that may still be written. `due`: when to check it next; `signature` was last seen to change at `since`.

    `closed`: its writer has closed it.
    """

    closed: bool
    due: float
    signature: Signature | None = None
    since: float = 0.0


class PendingFiles:
    """Changed files that are not registered yet. Every `now` is a time of the monotonic clock.

    A file settles when its writer has closed it, or when it has not changed for `settle` seconds; for 10 seconds if its
    end is missing.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._files: dict[str, _PendingFile] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def change(self, path: str, *, closed: bool, now: float) -> None:
        """Add a file that has just changed, or postpone its next check."""
        file = self._files.setdefault(path, _PendingFile(closed, now))
        file.closed, file.due = closed, now if closed else now + self._settle

    def add(self, paths: Iterable[str], now: float) -> None:
        """Add files to check at once; those that are pending already stay as they are."""
        for path in paths:
            self._files.setdefault(path, _PendingFile(closed=False, due=now))

    def discard(self, path: str) -> None:
        """Remove a file: it is registered, refused or gone."""
        self._files.pop(path, None)

    def due(self, now: float) -> list[str]:
        """Return the files to check now."""
        return [path for path, file in self._files.items() if file.due <= now]

    def next_due(self) -> float | None:
        """Return when to check the next file; None if no file is pending."""
        return min((file.due for file in self._files.values()), default=None)

    def is_settled(self, path: str, state: FileState, now: float) -> bool:
        """Return whether a file can be registered; if not, keep it and set the time of its next check."""
        file = self._files.setdefault(path, _PendingFile(closed=False, due=now))
        if file.signature != state.signature:
            file.signature, file.since = state.signature, now
        quiet = now - file.since
        if looks_complete(path):
            needed = 0.0 if file.closed else self._settle
            quiet = max(quiet, state.age)
        else:
            needed = _PATIENCE_SECONDS
            quiet = max(quiet, state.age if state.age > _OLD_SECONDS else 0.0)
        if quiet >= needed:
            return True
        file.due = now + max(min(needed - quiet, self._settle), 0.01)
        return False
