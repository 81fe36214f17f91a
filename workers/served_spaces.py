"""Decides which spaces a worker serves, and loads their models."""

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.config import Settings
from app.db import Connection, schema
from app.errors import ConfigurationError, ConflictError, LookalikeError, NotFoundError
from app.store import spaces
from app.store.spaces import Space
from workers.batch_size import tune
from workers.encoder import Encoder
from workers.models import EmbeddingModel, load_model

log = logging.getLogger(__name__)


# A model that cannot be loaded here is tried again after this; a weight file may have come.
_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """A space, and the encoder that makes its embeddings."""

    space: Space
    encoder: Encoder


def serve(conn: Connection, settings: Settings, *, names: Sequence[str] = ()) -> list[Served]:
    """Load the models of the spaces named, without names of the active one; `conn` is in autocommit.

    Where the database has no space at all, one is created from the settings `model` and `weights`, and named after the
    model; the first space becomes the active one. Raises SchemaError, NotFoundError, ConfigurationError.
    """
    schema.check(conn)
    if names:
        return [load(spaces.get(conn, name), settings) for name in dict.fromkeys(names)]
    if spaces.ls(conn):
        return [load(spaces.active(conn), settings)]
    encoder = ready(load_model(settings.model, settings.weights), settings)
    return [Served(_create(conn, encoder, settings), encoder)]


def ready(model: EmbeddingModel, settings: Settings) -> Encoder:
    """Put `model` on its device as the settings say: precision, batch size (0: measured), compiled or not.

    Raises ConfigurationError.
    """
    encoder = Encoder(model, device=settings.device, precision=settings.precision)
    if settings.batch_size == 0:
        tune(encoder)
    elif encoder.device.type != "cpu":
        encoder.chunk = settings.batch_size
    encoder.accelerate(compiled=settings.compile, cuda_graphs=settings.cuda_graphs)
    return encoder


def check_fingerprint(space: Space, encoder: Encoder | EmbeddingModel) -> None:
    """Raise ConfigurationError unless `encoder` is the one whose embeddings `space` holds."""
    # What follows a slash is the transform's, which the database applies.
    if encoder.fingerprint != space.fingerprint.partition("/")[0]:
        raise ConfigurationError(
            f"the model {space.model} on this machine is not the one of embedding space {space.name}: its fingerprint "
            f"is {encoder.fingerprint[:12]}…, the space's {space.fingerprint[:12]}…; give the worker the same "
            "weights and the same timm version, or make a new space"
        )


def load(space: Space, settings: Settings) -> Served:
    """Load the model of a space; ConfigurationError where it cannot be, or is another one on this machine."""
    model = load_model(space.model, space.weights, preprocessing=space.preprocessing)
    check_fingerprint(space, model)
    return Served(space, ready(model, settings))


def _create(conn: Connection, encoder: Encoder, settings: Settings) -> Space:
    name = re.sub(r"[^a-z0-9_-]", "_", settings.model.lower())[:63]
    try:
        space = spaces.create(
            conn,
            name=name,
            model=settings.model,
            weights=settings.weights,
            dimensions=encoder.dimensions,
            preprocessing=encoder.preprocessing,
            fingerprint=encoder.fingerprint,
        )
    except ConflictError:  # another worker started at the same moment
        space = spaces.get(conn, name)
        check_fingerprint(space, encoder)
    else:
        log.info("created the embedding space %s: %s, %d dimensions", name, settings.model, encoder.dimensions)
    return space


class ServedSpaces:
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

    def refresh(self, conn: Connection) -> bool:
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
