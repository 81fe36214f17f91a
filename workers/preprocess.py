"""From an image file's bytes to what a model takes in."""

import numpy as np
from numpy.typing import NDArray

from app.media.decode import LoadedImage, load
from app.media.limits import Limits
from workers.encoder import Encoder

# One transformed image: uint8, shape (3, height, width).
Pixels = NDArray[np.uint8]

# Where much of a picture is flat but for noise, its embedding hangs on the last level of its pixels, and a decoder that
# rounds at another place shows. Flat: means of 4 x 4 pixels, which noise hardly moves, at most a level from the next.
# `python -m bench.embedding.reduced` has the measurements behind the share.
_FLAT_CELL, _FLAT_STEP, _FLAT_SHARE = 4, 1.0, 0.05


def pixels_of(data: bytes, encoder: Encoder, limits: Limits) -> tuple[LoadedImage, Pixels]:
    """Decode a file and transform it for `encoder`; a large JPEG at reduced scale, unless the picture is flat.

    Raises ImageError.
    """
    loaded = load(data, limits, target=encoder.decode_target)
    pixels = encoder.transform(loaded.image)
    if loaded.image.size != (loaded.width, loaded.height) and is_flat(pixels):
        loaded = load(data, limits)
        pixels = encoder.transform(loaded.image)
    return loaded, pixels


def is_flat(pixels: Pixels) -> bool:
    """Tell whether a twentieth or more of the picture is flat, whatever noise lies on it."""
    return flat_share(pixels) >= _FLAT_SHARE


def flat_share(pixels: Pixels) -> float:
    """Return the share of cells whose mean is about that of the next on the right and below, in every channel."""
    channels, height, width = pixels.shape
    rows, columns = height // _FLAT_CELL, width // _FLAT_CELL
    if min(rows, columns) < 2:
        return 1.0
    whole = pixels[:, : rows * _FLAT_CELL, : columns * _FLAT_CELL]
    cells = whole.reshape(channels, rows, _FLAT_CELL, columns, _FLAT_CELL).mean(axis=(2, 4), dtype=np.float32)
    across = np.abs(np.diff(cells, axis=2)).max(axis=0)[:-1]
    down = np.abs(np.diff(cells, axis=1)).max(axis=0)[:, :-1]
    return float((np.maximum(across, down) <= _FLAT_STEP).mean())
