"""Decode an image file's bytes into upright RGB pixels."""

import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin, TiffImagePlugin

from app.errors import ImageError
from app.media.header import SIDEWAYS, Format, check_pixels, damage_reason, format_of, orientation_of
from app.media.limits import Limits, check_size

THUMBNAIL_MEDIA_TYPE = "image/jpeg"
_END_OF_JPEG = b"\xff\xd9"
# The whites of gray samples by their bits: 12-bit scanners and cameras write files of 16 bits.
_WHITES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image. `width` and `height` are the file's, upright; `image` is RGB and may be smaller (`target`)."""

    media_type: str
    width: int
    height: int
    image: Image.Image


def load(data: bytes, limits: Limits, *, target: tuple[int, int] | None = None) -> LoadedImage:
    """Decode the first frame of `data` to 8-bit RGB, turned upright by EXIF and composited on white.

    A JPEG much larger than `target`, (width, height) in pixels, is decoded at 1/2, 1/4 or 1/8 scale, but never below
    `target` on either side. The limits are checked before any pixel is decoded.

    Raises:
        ImageError: the file is not a supported image, is damaged or exceeds a limit; step "decode", or "fetch" for too
            many bytes.
    """
    check_size(len(data), limits)
    form = format_of(data)
    try:
        image = form.open(data)
        width, height = image.size
        check_pixels(width, height, limits.max_pixels)
        if target is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            _draft(image, target)
        image = _loaded(image, form, data, target)
        if _turn(image) in SIDEWAYS:
            width, height = height, width
        rgb = _to_rgb(image)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("decode", damage_reason(form, len(data), error)) from error
    return LoadedImage(form.media_type, width, height, rgb)


def _loaded(
    image: ImageFile.ImageFile, form: Format, data: bytes, target: tuple[int, int] | None
) -> ImageFile.ImageFile:
    """Return the image with its pixels decoded; a JPEG may lack its end marker, as viewers allow."""
    try:
        image.load()
    except OSError:
        if form.name != "JPEG" or data.endswith(_END_OF_JPEG):
            raise
        # If pixels are missing too, the decoder takes what precedes the marker for them: two fillings differ then.
        with suppress(OSError):
            first, second = (_with_end(form, data + filling, target) for filling in (b"", b"\x55\xaa" * 64))
            if first.tobytes() == second.tobytes():
                return first
        raise
    return image


def _with_end(form: Format, data: bytes, target: tuple[int, int] | None) -> ImageFile.ImageFile:
    image = form.open(data + _END_OF_JPEG)
    if target is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        _draft(image, target)
    image.load()
    return image


def _draft(image: JpegImagePlugin.JpegImageFile, target: tuple[int, int]) -> None:
    width, height = target
    if orientation_of(image) in SIDEWAYS:
        width, height = height, width
    image.draft(None, (max(width, 1), max(height, 1)))


def _turn(image: ImageFile.ImageFile) -> int:
    """Turn `image` upright in place; return its EXIF orientation, or 0 for a TIFF, because Pillow turns it on load."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    orientation = orientation_of(image)
    if 2 <= orientation <= 8:
        ImageOps.exif_transpose(image, in_place=True)
    return orientation


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB; composite transparency on white."""
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
    """Scale wider samples to 8 bits by the least depth that holds them; a transparent gray value stays transparent."""
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
    white = (1 if high <= 1 else 255) if floats else next((one for one in _WHITES if high <= one), _WHITES[-1])
    if low < 0 or high > white:
        raise ImageError(
            "decode",
            f"the image's samples run from {low} to {high}, and the value of white is unknown; "
            "save it with 8 or 16 bits",
        )
    scaled: npt.NDArray[np.uint8] = (values * np.float32(255 / white) + np.float32(0.5)).astype(np.uint8)
    return scaled


def make_thumbnail(data: bytes, *, size: int, limits: Limits) -> bytes:
    """Return a JPEG of an image file's bytes. Its longest side is at most `size` pixels; it is never enlarged.

    Raises:
        ImageError: as in `load`.
    """
    image = load(data, limits, target=(size, size)).image
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()
