"""Turns the bytes of an image file into the pixels that a model takes."""

import numpy as np
from numpy.typing import NDArray

from app.media.decode import LoadedImage, load
from app.media.limits import Limits
from workers.encoder import Encoder

# One transformed image: uint8, shape (3, height, width).
Pixels = NDArray[np.uint8]

# If much of a picture is flat apart from noise, its embedding depends on the last bit of its pixels, so a decoder that
# rounds differently changes it. Flat: means of 4 x 4 pixels, which noise hardly moves, differ by a level at most.
# `python -m bench.embedding.reduced` measured the share.
_FLAT_CELL, _FLAT_STEP, _FLAT_SHARE = 4, 1.0, 0.05


def pixels_of(data: bytes, encoder: Encoder, limits: Limits) -> tuple[LoadedImage, Pixels]:
    """Decode a file and transform it for `encoder`; decode a large JPEG at reduced scale unless the picture is flat.

    Raises:
        ImageError: the file cannot be decoded or transformed.
    """
    loaded = load(data, limits, target=encoder.decode_target)
    pixels = encoder.transform(loaded.image)
    if loaded.image.size != (loaded.width, loaded.height) and is_flat(pixels):
        loaded = load(data, limits)
        pixels = encoder.transform(loaded.image)
    return loaded, pixels


def is_flat(pixels: Pixels) -> bool:
    """Return whether a twentieth or more of the picture is flat apart from noise."""
    return flat_share(pixels) >= _FLAT_SHARE


def flat_share(pixels: Pixels) -> float:
    """Return the share of cells whose mean equals that of the cells right and below, in every channel."""
    channels, height, width = pixels.shape
    rows, columns = height // _FLAT_CELL, width // _FLAT_CELL
    if min(rows, columns) < 2:
        return 1.0
    whole = pixels[:, : rows * _FLAT_CELL, : columns * _FLAT_CELL]
    cells = whole.reshape(channels, rows, _FLAT_CELL, columns, _FLAT_CELL).mean(axis=(2, 4), dtype=np.float32)
    across = np.abs(np.diff(cells, axis=2)).max(axis=0)[:-1]
    down = np.abs(np.diff(cells, axis=1)).max(axis=0)[:, :-1]
    return float((np.maximum(across, down) <= _FLAT_STEP).mean())
