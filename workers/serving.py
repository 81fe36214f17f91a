"""Decides which spaces a worker serves, and loads their models."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.config import Settings
from app.db import Connection, schema
from app.errors import ConfigurationError, ConflictError
from app.store import spaces
from app.store.spaces import Space
from workers.batch_size import tune
from workers.encoder import Encoder
from workers.models import EmbeddingModel, load_model

log = logging.getLogger(__name__)


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
