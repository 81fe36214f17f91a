"""Encodes a batch so that a bad image fails alone, by bisecting the batch on errors."""

import logging
from collections.abc import Sequence

import numpy as np

from app.errors import ImageError, LookalikeError, TransientImageError
from app.types import Embedding
from workers.encoder import EmbeddingError, Encoder, calibration_images
from workers.preprocess import Pixels

log = logging.getLogger(__name__)


class DeviceError(LookalikeError):
    """The device fails even on good images. The worker must end instead of parking image after image."""


def encode_each(encoder: Encoder, images: Sequence[Pixels]) -> list[Embedding | ImageError]:
    """Return the embedding of each image, or its error.

    If encoding the batch fails, its halves are tried, down to the single image at fault. Before that image gets the
    error, a good image is encoded to check the device.

    Raises:
        DeviceError: the device fails on the good image too.
    """
    try:
        return list(encoder.encode(np.stack(images)))
    except EmbeddingError as error:
        if len(error.indices) == len(images):
            _check_device(encoder, error)
        bad = ImageError("encode", f"the model {encoder.model_name} gives it a vector that is zero or not finite")
        return [bad if i in error.indices else vector for i, vector in enumerate(error.embeddings)]
    except TransientImageError as error:  # the encoder has already tried single images
        if len(images) == 1:
            return [error]
    except Exception as error:
        if len(images) == 1:
            _check_device(encoder, error)
            log.warning("an image cannot be encoded", exc_info=error)
            if isinstance(error, ImageError):
                return [error]
            return [ImageError("encode", f"the model {encoder.model_name} fails on this image: {error!r}")]
        log.warning("a batch of %d images fails, trying its halves: %r", len(images), error)
    half = len(images) // 2
    return encode_each(encoder, images[:half]) + encode_each(encoder, images[half:])


def _check_device(encoder: Encoder, cause: Exception) -> None:
    try:
        encoder.encode(calibration_images(encoder.input_shape, count=1))
    except Exception as error:
        raise DeviceError(
            f"{encoder.device_name} fails on every image, last with {error!r}; the first error was {cause!r}"
        ) from error
