"""Recognise image formats and read their headers, without decoding pixels."""

import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from app.errors import ImageError
from app.media import png

SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True, slots=True)
class Header:
    """Media type, and size in pixels after EXIF rotation."""

    media_type: str
    width: int
    height: int


@dataclass(frozen=True)
class Format:
    """A supported format. `accepts` checks the first 512 bytes; `plugin` is Pillow's."""

    name: str
    media_type: str
    accepts: Callable[[bytes], bool]
    plugin: Callable[[io.BytesIO], ImageFile.ImageFile]
    prepare: Callable[[bytes], bytes] = bytes  # what the plugin gets of the file, to decode it
    header: Callable[[bytes], bytes] = bytes  # the same, to read the header

    def open(self, data: bytes) -> ImageFile.ImageFile:
        """Return an image file, ready to be decoded."""
        return self.plugin(io.BytesIO(self.prepare(data)))

    def open_header(self, data: bytes) -> ImageFile.ImageFile:
        """Return an image file of which size, frames and EXIF can be read without decoding pixels."""
        return self.plugin(io.BytesIO(self.header(data)))


def _starts(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signatures)


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and head[8:12] in brands


def _is_avif(head: bytes) -> bool:
    """Return whether the file names AVIF among its brands; the major brand may be that of the container."""
    if head[4:8] != b"ftyp":
        return False
    brands = head[8:12] + head[16 : int.from_bytes(head[:4], "big")]
    return any(brands[at : at + 4] in (b"avif", b"avis") for at in range(0, len(brands), 4))


# The plugins are called directly, because Image.open() also tries formats that run other programs (EPS), and its pixel
# limit is global to the process.
_FORMATS = (
    Format("JPEG", "image/jpeg", _starts(b"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    Format("PNG", "image/png", _starts(png.SIGNATURE), PngImagePlugin.PngImageFile, png.without_texts, png.header_only),
    Format("GIF", "image/gif", _starts(b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    Format("WebP", "image/webp", lambda head: head[:4] + head[8:12] == b"RIFFWEBP", WebPImagePlugin.WebPImageFile),
    Format("BMP", "image/bmp", _starts(b"BM"), BmpImagePlugin.BmpImageFile),
    Format(
        "TIFF",
        "image/tiff",
        _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        TiffImagePlugin.TiffImageFile,
    ),
    Format("AVIF", "image/avif", _is_avif, AvifImagePlugin.AvifImageFile),
    Format(
        "JPEG 2000",
        "image/jp2",
        _starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    ),
    Format(
        "PNM",
        "image/x-portable-anymap",
        lambda head: head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace(),
        PpmImagePlugin.PpmImageFile,
    ),
)
# Common files that are not supported images, so that the error can name them.
_OTHERS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("a PDF", _starts(b"%PDF")),
    ("an SVG drawing", lambda head: b"<svg" in head.lower()),
    ("an HTML page", lambda head: b"<html" in head.lower() or b"<!doctype html" in head.lower()),
    ("a HEIC image", _brand(b"heic", b"heix", b"mif1", b"msf1", b"miaf", b"heim", b"heis", b"hevc")),
    ("a video", _brand(b"isom", b"mp41", b"mp42", b"qt  ", b"M4V ")),
    ("a ZIP archive", _starts(b"PK\x03\x04")),
    ("gzip-compressed", _starts(b"\x1f\x8b")),
    ("a PostScript file", _starts(b"%!PS", b"\xc5\xd0\xd3\xc6")),
)


def read_header(data: bytes, *, max_pixels: int, max_frames: int | None = None) -> Header:
    """Return the header of an image file; `data` is the whole file.

    A file truncated after its header passes, because only decoding shows that.

    Raises:
        ImageError: the file is empty, damaged, not a supported image, or has too many pixels, frames or pages; step
            "decode".
    """
    form = format_of(data)
    try:
        image = form.open_header(data)
        width, height = image.size
        check_pixels(width, height, max_pixels)
        # Pillow's TIFF reader swaps the size itself.
        if form.name != "TIFF" and orientation_of(image) in SIDEWAYS:
            width, height = height, width
        too_many = max_frames is not None and _has_more_frames(image, data, max_frames)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("decode", damage_reason(form, len(data), error)) from error
    if too_many:
        raise ImageError(
            "decode", f"the {form.name} file has more than {max_frames:,} frames (LOOKALIKE_MAX_IMAGE_FRAMES)"
        )
    return Header(form.media_type, width, height)


def format_of(data: bytes) -> Format:
    """Return the format of a file, recognised by its first bytes.

    Raises:
        ImageError: it is not a supported image, step "decode"; the message names what it is instead.
    """
    if not data:
        raise ImageError("decode", "the file is empty (0 bytes)")
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


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise ImageError, step "decode", if an image has no pixels or more than `max_pixels`."""
    if width <= 0 or height <= 0:
        raise ImageError("decode", f"the image has no pixels: {width} × {height}")
    if width * height > max_pixels:
        raise ImageError(
            "decode",
            f"the image has {width:,} × {height:,} = {width * height:,} pixels; the limit is {max_pixels:,} "
            "(LOOKALIKE_MAX_IMAGE_PIXELS)",
        )


def _has_more_frames(image: ImageFile.ImageFile, data: bytes, most: int) -> bool:
    """Return whether an image has more than `most` frames, at a bounded cost however many it has."""
    if isinstance(image, GifImagePlugin.GifImageFile):
        return _gif_frames(data, most) > most
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        try:
            image.seek(most)
        except EOFError:
            return False
        return True
    # The other formats have the number in their headers.
    return int(getattr(image, "n_frames", 1)) > most


def _gif_frames(data: bytes, most: int) -> int:
    """Return the number of a GIF's image blocks, counted up to `most` + 1. Pillow would decode each frame."""

    def behind_table(at: int, flags: int) -> int:
        return at + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)

    frames = 0
    at = behind_table(13, data[10])
    while frames <= most and at + 10 < len(data):
        if data[at] == 0x2C:
            frames += 1
            at = behind_table(at + 10, data[at + 9]) + 1
        elif data[at] == 0x21:
            at += 2
        else:
            break
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return frames


def damage_reason(form: Format, size: int, error: Exception) -> str:
    """Return a readable reason for Pillow's error on a file of `size` bytes."""
    name = form.name
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"the {name} image is too large: {error}"
    if isinstance(error, MemoryError):
        return f"there is too little memory to decode the {name} image"
    text = str(error) or type(error).__name__
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return f"the {name} file is cut off after {size:,} bytes: {text}"
    return f"the {name} file of {size:,} bytes is damaged: {text}"


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if the EXIF cannot be read."""
    try:
        # PNG's own getexif decodes the pixels, in case the EXIF follows them.
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 — browsers ignore unreadable EXIF too
        return 1
