"""The spaces that a worker serves, and their models."""

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

# A model that cannot be loaded is tried again after this, because its weight file may come later.
_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """A space and its encoder."""

    space: Space
    encoder: Encoder


def serve(conn: Connection, settings: Settings, *, names: Sequence[str] = ()) -> list[Served]:
    """Load the models of the spaces `names`, by default of the active space. `conn` is in autocommit.

    If the database has no space, one is created from the settings `model` and `weights` and named after the model. The
    first space becomes the active one.

    Raises:
        SchemaError: the schema is missing or of another revision.
        NotFoundError: there is no such space.
        ConfigurationError: a model cannot be loaded, or is not the space's.
    """
    schema.check(conn)
    if names:
        return [load(spaces.get(conn, name), settings) for name in dict.fromkeys(names)]
    if spaces.ls(conn):
        return [load(spaces.active(conn), settings)]
    encoder = ready(load_model(settings.model, settings.weights), settings)
    return [Served(_create(conn, encoder, settings), encoder)]


def ready(model: EmbeddingModel, settings: Settings) -> Encoder:
    """Put `model` on its device with the precision, batch size (0: measured) and compilation of the settings.

    Raises:
        ConfigurationError: the device cannot run the model with these settings.
    """
    encoder = Encoder(model, device=settings.device, precision=settings.precision)
    if settings.batch_size == 0:
        tune(encoder)
    elif encoder.device.type != "cpu":
        encoder.chunk = settings.batch_size
    encoder.accelerate(compiled=settings.compile, cuda_graphs=settings.cuda_graphs)
    return encoder


def check_fingerprint(space: Space, encoder: Encoder | EmbeddingModel) -> None:
    """Check that `encoder` makes the embeddings that `space` stores.

    Raises:
        ConfigurationError: the fingerprints differ.
    """
    # The part after a slash identifies the transform, which the database applies.
    if encoder.fingerprint != space.fingerprint.partition("/")[0]:
        raise ConfigurationError(
            f"the model {space.model} on this machine is not the one of embedding space {space.name}: its fingerprint "
            f"is {encoder.fingerprint[:12]}…, the space's {space.fingerprint[:12]}…; give the worker the same "
            "weights and the same timm version, or make a new space"
        )


def load(space: Space, settings: Settings) -> Served:
    """Load the model of a space.

    Raises:
        ConfigurationError: the model cannot be loaded, or has another fingerprint on this machine.
    """
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
    """The spaces served, the active one first, and their encoders. Both attributes are changed in place.

    With `load`, every space of the database is served. A thread loads the model of a new space, so that the others do
    not wait for it, and then calls `wake`.
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
        self._again_at: dict[int, float] = {}  # by id of a space whose model could not be loaded
        self.error: str | None = None

    @property
    def busy(self) -> bool:
        """Whether a model is being loaded, or is loaded and not served yet."""
        return bool(self._loaded) or (self._thread is not None and self._thread.is_alive())

    def refresh(self, conn: Connection) -> bool:
        """Compare with the database; return whether the spaces served have changed.

        Raises:
            NotFoundError: every space that was served was dropped.
        """
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
        """Return whether a space was no longer served at the last refresh."""
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
