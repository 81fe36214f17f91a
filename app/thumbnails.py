"""Makes thumbnails: small JPEGs, upright, on white. Imports `limits`, `loader` and Pillow."""

import io

from PIL import Image

from app.limits import Limits
from app.loader import load

MEDIA_TYPE = "image/jpeg"


def make(data: bytes, *, size: int, limits: Limits) -> bytes:
    """Return a JPEG of an image file's bytes, its longest side at most `size` pixels, never enlarged.

    ImageError, step "decode", for what is no image, is damaged or exceeds the limits.
    """
    image = load(data, limits, target=(size, size)).image
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()
