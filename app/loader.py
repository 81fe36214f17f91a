"""Decodes an image file's bytes into upright RGB pixels, or says why it cannot. Imports app.limits, app.errors,
Pillow and numpy; no database, no torch."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from app.errors import ImageError
from app.limits import Limits, check_size

_ORIENTATION = 0x0112  # EXIF tag
_SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that swap width and height


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image: `width` and `height` are the original's, upright; `image` is RGB and may be smaller (draft)."""

    sha256: bytes
    media_type: str
    width: int
    height: int
    image: Image.Image


@dataclass(frozen=True)
class _Format:
    name: str
    media_type: str
    accepts: Callable[[bytes], bool]
    open: Callable[[io.BytesIO], ImageFile.ImageFile]


def _starts(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signatures)


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and head[8:12] in brands


# The plugins are opened directly: Image.open() would also try formats that run other programs (EPS), and checks pixels
# against a limit that is global to the process.
_FORMATS = (
    _Format("JPEG", "image/jpeg", _starts(b"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    _Format("PNG", "image/png", _starts(b"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    _Format("GIF", "image/gif", _starts(b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    _Format("WebP", "image/webp", lambda head: head[:4] + head[8:12] == b"RIFFWEBP", WebPImagePlugin.WebPImageFile),
    _Format("BMP", "image/bmp", _starts(b"BM"), BmpImagePlugin.BmpImageFile),
    _Format(
        "TIFF",
        "image/tiff",
        _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        TiffImagePlugin.TiffImageFile,
    ),
    _Format("AVIF", "image/avif", _brand(b"avif", b"avis"), AvifImagePlugin.AvifImageFile),
    _Format(
        "JPEG 2000",
        "image/jp2",
        _starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    ),
    _Format(
        "PNM",
        "image/x-portable-anymap",
        lambda head: head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace(),
        PpmImagePlugin.PpmImageFile,
    ),
)
# What people mistake for an image, so that the reason can name it.
_OTHERS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("a PDF", _starts(b"%PDF")),
    ("an SVG drawing", lambda head: b"<svg" in head.lower()),
    ("an HTML page", lambda head: b"<html" in head.lower() or b"<!doctype html" in head.lower()),
    ("a HEIC image", _brand(b"heic", b"heix", b"mif1", b"heim", b"heis", b"hevc")),
    ("a video", _brand(b"isom", b"mp41", b"mp42", b"qt  ", b"M4V ")),
    ("a ZIP archive", _starts(b"PK\x03\x04")),
    ("gzip-compressed", _starts(b"\x1f\x8b")),
    ("a PostScript file", _starts(b"%!PS", b"\xc5\xd0\xd3\xc6")),
)


def load(data: bytes, limits: Limits, *, target: tuple[int, int] | None = None) -> LoadedImage:
    """Decode `data`: first frame, turned as EXIF says, on white where it is transparent, 8-bit RGB.

    `target`: (width, height) in pixels that the image may be decoded down to; a JPEG much larger is then decoded at
    1/2, 1/4 or 1/8 scale, never below that size on either side. Size limits are checked from the header, before pixels
    are decoded. Raises ImageError, step "decode" ("fetch" for too many bytes).
    """
    if not data:
        raise ImageError("decode", "the file is empty (0 bytes)")
    check_size(len(data), limits)
    form = _format_of(data)
    try:
        image = form.open(io.BytesIO(data))
        width, height = image.size
        _check_pixels(width, height, limits)
        if target is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            _draft(image, target)
        image.load()
        if _turn(image) in _SIDEWAYS:
            width, height = height, width
        rgb = _to_rgb(image)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("decode", _damage(form.name, len(data), error)) from error
    return LoadedImage(hashlib.sha256(data).digest(), form.media_type, width, height, rgb)


def _format_of(data: bytes) -> _Format:
    head = data[:512]
    for form in _FORMATS:
        if form.accepts(head):
            return form
    for name, accepts in _OTHERS:
        if accepts(head):
            raise ImageError("decode", f"the file is {name}, not an image that can be decoded; {_supported()}")
    raise ImageError("decode", f"the file is not an image: it begins with {head[:12]!r}; {_supported()}")


def _supported() -> str:
    return "supported are " + ", ".join(form.name for form in _FORMATS)


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width <= 0 or height <= 0:
        raise ImageError("decode", f"the image has no pixels: {width} × {height}")
    if width * height > limits.max_pixels:
        raise ImageError(
            "decode",
            f"the image has {width:,} × {height:,} = {width * height:,} pixels; the limit is {limits.max_pixels:,} "
            "(LOOKALIKE_MAX_IMAGE_PIXELS)",
        )


def _damage(name: str, size: int, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"the {name} image is too large: {error}"
    if isinstance(error, MemoryError):
        return f"there is too little memory to decode the {name} image"
    said = str(error) or type(error).__name__
    if isinstance(error, EOFError) or "truncated" in said.lower():
        return f"the {name} file is cut off after {size:,} bytes: {said}"
    return f"the {name} file of {size:,} bytes is damaged: {said}"


def _draft(image: JpegImagePlugin.JpegImageFile, target: tuple[int, int]) -> None:
    width, height = target
    if _orientation(image) in _SIDEWAYS:
        width, height = height, width
    image.draft(None, (max(width, 1), max(height, 1)))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 — as browsers do: an image whose EXIF cannot be read is upright
        return 1


def _turn(image: ImageFile.ImageFile) -> int:
    """Turn `image` upright in place and return the orientation that it had.

    Pillow turns a TIFF itself when it loads it, so its orientation is asked from the tags of the file.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    orientation = _orientation(image)
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
