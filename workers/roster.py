"""Which spaces a worker serves, as they come, are switched and go."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from app.db import Connection
from app.errors import LookalikeError, NotFoundError
from app.store import spaces
from app.store.spaces import Space
from workers.encoder import Encoder
from workers.serving import Served

log = logging.getLogger(__name__)

# A model that cannot be loaded here is tried again after this; a weight file may have come.
_RETRY_SECONDS = 60.0


class Roster:
    """The spaces served, the active one first, and their encoders; both objects stay the same, their content changes.

    With `load`, every space of the database is served: a new one's model is loaded in a thread of its own, so that the
    others need not wait for it. `wake` is called when that is done.
    """

    def __init__(
        self, served: Sequence[Served], *, load: Callable[[Space], Served] | None, wake: Callable[[], None]
    ) -> None:
        self.spaces = [one.space for one in served]
        self.encoders: dict[int, Encoder] = {one.space.id: one.encoder for one in served}
        self._load = load
        self._wake = wake
        self._thread: threading.Thread | None = None
        self._loaded: list[Served] = []
        self._again_at: dict[int, float] = {}  # spaces whose model could not be loaded
        self.error: str | None = None

    @property
    def busy(self) -> bool:
        """Whether a model is being loaded, or has been and is not served yet."""
        return bool(self._loaded) or (self._thread is not None and self._thread.is_alive())

    def look(self, conn: Connection) -> bool:
        """Compare with the database; tell whether what is served has changed. NotFoundError where nothing is left."""
        found = {space.id: space for space in spaces.ls(conn)}
        before = list(self.spaces)
        serving = {space.id for space in before}
        while self._loaded:
            one = self._loaded.pop()
            self.encoders[one.space.id] = one.encoder
            serving.add(one.space.id)
        for gone in serving - found.keys():
            log.warning("an embedding space that was served is dropped (id %d)", gone)
        self.spaces[:] = sorted(
            (space for space in found.values() if space.id in serving), key=lambda space: (not space.active, space.id)
        )
        if not self.spaces:
            raise NotFoundError("every embedding space that this worker serves was dropped; start it again")
        self._begin_next([space for space in found.values() if space.id not in serving])
        return self.spaces != before

    def dropped(self, space: Space) -> bool:
        """Tell whether a space is none of those served, as of the last look."""
        return all(space.id != one.id for one in self.spaces)

    def _begin_next(self, waiting: Sequence[Space]) -> None:
        now = time.monotonic()
        if self._load is None or self.busy:
            return
        for space in waiting:
            if self._again_at.get(space.id, now) <= now:
                self._thread = threading.Thread(target=self._run, args=(space,), name="model", daemon=True)
                self._thread.start()
                return

    def _run(self, space: Space) -> None:
        try:
            if self._load:
                self._loaded.append(self._load(space))
                log.info("serving the space %s too (%s)", space.name, space.model)
            self.error = None
        except LookalikeError as error:
            log.warning("the space %s cannot be served here: %s", space.name, error)
            self.error = f"space {space.name}: {error}"
            self._again_at[space.id] = time.monotonic() + _RETRY_SECONDS
        finally:
            self._thread = None
            self._wake()
