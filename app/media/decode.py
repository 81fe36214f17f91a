"""Decodes an image file's bytes into upright RGB pixels, or says why it cannot."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin, TiffImagePlugin

from app.errors import ImageError
from app.media.header import SIDEWAYS, check_pixels, damage, format_of, orientation_of
from app.media.limits import Limits, check_size

THUMBNAIL_MEDIA_TYPE = "image/jpeg"


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image: `width` and `height` are the original's, upright; `image` is RGB and may be smaller (draft)."""

    media_type: str
    width: int
    height: int
    image: Image.Image


def load(data: bytes, limits: Limits, *, target: tuple[int, int] | None = None) -> LoadedImage:
    """Decode `data`: first frame, turned as EXIF says, on white where it is transparent, 8-bit RGB.

    `target`: (width, height) in pixels that the image may be decoded down to; a JPEG much larger is then decoded at
    1/2, 1/4 or 1/8 scale, never below that size on either side. Size limits are checked from the header, before pixels
    are decoded. Raises ImageError, step "decode" ("fetch" for too many bytes).
    """
    check_size(len(data), limits)
    form = format_of(data)
    try:
        image = form.open(io.BytesIO(data))
        width, height = image.size
        check_pixels(width, height, limits.max_pixels)
        if target is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            _draft(image, target)
        image.load()
        if _turn(image) in SIDEWAYS:
            width, height = height, width
        rgb = _to_rgb(image)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("decode", damage(form, len(data), error)) from error
    return LoadedImage(form.media_type, width, height, rgb)


def _draft(image: JpegImagePlugin.JpegImageFile, target: tuple[int, int]) -> None:
    width, height = target
    if orientation_of(image) in SIDEWAYS:
        width, height = height, width
    image.draft(None, (max(width, 1), max(height, 1)))


def _turn(image: ImageFile.ImageFile) -> int:
    """Turn `image` upright in place and return the orientation that it had.

    Pillow turns a TIFF itself when it loads it, so its orientation is asked from the tags of the file.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    orientation = orientation_of(image)
    if 2 <= orientation <= 8:
        ImageOps.exif_transpose(image, in_place=True)
    return orientation


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB, transparency composited on white."""
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode == "LAB":
        raise ImageError("decode", "the image is in the LAB colour space; save it as RGB")
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit integer and float samples to 8 bits; a transparent gray value stays transparent."""
    values = np.asarray(image)
    gray = Image.fromarray(_scaled(values))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        gray.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return gray


def _scaled(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    low, high = values.min(), values.max()
    floats = values.dtype.kind == "f"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("decode", "the image holds float samples that are not finite; save it with 8 or 16 bits")
    white = (1 if high <= 1 else 255) if floats else 65535
    if low < 0 or high > white:
        raise ImageError(
            "decode",
            f"the image's samples run from {low} to {high}, and which of them is white is unknown; "
            "save it with 8 or 16 bits",
        )
    scaled: npt.NDArray[np.uint8] = (values * np.float32(255 / white) + np.float32(0.5)).astype(np.uint8)
    return scaled


def make_thumbnail(data: bytes, *, size: int, limits: Limits) -> bytes:
    """Return a JPEG of an image file's bytes, its longest side at most `size` pixels, never enlarged.

    ImageError, step "decode", for what is no image, is damaged or exceeds the limits.
    """
    image = load(data, limits, target=(size, size)).image
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()
