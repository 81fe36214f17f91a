"""Create the image files that tests need, one function per kind."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

SIZE = (300, 200)


def picture(size: tuple[int, int] = SIZE) -> Image.Image:
    """Return an asymmetric RGB drawing, which reveals a rotation, a flip or a swapped channel."""
    width, height = size
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 10, height // 8, width // 2, height * 3 // 4), fill=(220, 40, 30))
    draw.rectangle((width * 5 // 8, height // 5, width * 9 // 10, height // 2), fill=(20, 90, 200))
    draw.polygon([(width // 2, height - 5), (width * 3 // 4, height // 2), (width - 5, height - 5)], fill=(30, 160, 60))
    return image


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """Return `image` as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def gray_picture() -> Image.Image:
    return picture().convert("L")


# Orientation


def oriented(orientation: int, form: str = "JPEG", **options: object) -> bytes:
    """Return the picture stored rotated, with the EXIF orientation that turns it upright."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = picture() if undo is None else picture().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, form, exif=exif, **options)


def broken_exif() -> bytes:
    """Return a JPEG whose EXIF block is noise."""
    return encoded(picture(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff junk")


# Modes. Each function returns the bytes and the RGB picture that they must decode to.


def grayscale_png() -> tuple[bytes, Image.Image]:
    return encoded(gray_picture(), "PNG"), gray_picture().convert("RGB")


def bilevel_png() -> tuple[bytes, Image.Image]:
    image = picture().convert("1")
    return encoded(image, "PNG"), image.convert("RGB")


def palette_png() -> tuple[bytes, Image.Image]:
    image = picture().quantize(64)
    return encoded(image, "PNG"), image.convert("RGB")


def palette_transparent_png() -> tuple[bytes, Image.Image]:
    """Use a palette whose most frequent colour is transparent."""
    image = picture().quantize(16)
    frequent = int(np.bincount(np.asarray(image).ravel()).argmax())
    expected = np.array(image.convert("RGB"))
    expected[np.asarray(image) == frequent] = 255
    return encoded(image, "PNG", transparency=frequent), Image.fromarray(expected)


def palette_alpha_png() -> tuple[bytes, Image.Image]:
    """Use a palette with an alpha value for each entry."""
    image = picture().quantize(4)
    alphas = np.array([0, 85, 170, 255])
    index = np.asarray(image)
    expected = _on_white(np.asarray(image.convert("RGB")), alphas[index])
    return encoded(image, "PNG", transparency=bytes(alphas.tolist())), expected


def rgba_png() -> tuple[bytes, Image.Image]:
    alpha = np.tile(np.linspace(0, 255, SIZE[0]).astype(np.uint8), (SIZE[1], 1))
    image = picture()
    expected = _on_white(np.asarray(image), alpha)
    image.putalpha(Image.fromarray(alpha))
    return encoded(image, "PNG"), expected


def gray_alpha_png() -> tuple[bytes, Image.Image]:
    alpha = np.tile(np.linspace(0, 255, SIZE[0]).astype(np.uint8), (SIZE[1], 1))
    image = gray_picture()
    expected = _on_white(np.asarray(image.convert("RGB")), alpha)
    image.putalpha(Image.fromarray(alpha))
    return encoded(image, "PNG"), expected


def rgb_keyed_png() -> tuple[bytes, Image.Image]:
    """Declare one RGB colour transparent."""
    expected = np.array(picture())
    expected[(expected == (220, 40, 30)).all(axis=2)] = 255
    return encoded(picture(), "PNG", transparency=(220, 40, 30)), Image.fromarray(expected)


def cmyk_tiff() -> tuple[bytes, Image.Image]:
    image = picture().convert("CMYK")
    return encoded(image, "TIFF"), image.convert("RGB")


def cmyk_jpeg() -> tuple[bytes, Image.Image]:
    data = encoded(picture().convert("CMYK"), "JPEG", quality=95)
    return data, Image.open(io.BytesIO(data)).convert("RGB")


def gray16_png() -> tuple[bytes, Image.Image]:
    """Use 16-bit gray over the full range, which would be nearly white if it were clipped instead of scaled."""
    gray = np.asarray(gray_picture())
    return encoded(Image.fromarray(gray.astype(np.uint16) * 257), "PNG"), Image.fromarray(gray).convert("RGB")


def gray16_keyed_png() -> tuple[bytes, Image.Image]:
    """Declare one value of 16-bit gray transparent."""
    gray = np.array(gray_picture())
    key = int(np.bincount(gray.ravel()).argmax())
    data = encoded(Image.fromarray(gray.astype(np.uint16) * 257), "PNG", transparency=key * 257)
    gray[gray == key] = 255
    return data, Image.fromarray(gray).convert("RGB")


def gray16_tiff_big_endian() -> tuple[bytes, Image.Image]:
    gray = np.asarray(gray_picture())
    wide = Image.frombytes("I;16B", gray.shape[::-1], (gray.astype(">u2") * 257).astype(">u2").tobytes())
    return encoded(wide, "TIFF"), Image.fromarray(gray).convert("RGB")


def gray16_pgm() -> tuple[bytes, Image.Image]:
    gray = np.asarray(gray_picture())
    head = f"P5 {gray.shape[1]} {gray.shape[0]} 65535\n".encode()
    return head + (gray.astype(np.uint16) * 257).astype(">u2").tobytes(), Image.fromarray(gray).convert("RGB")


def float_tiff() -> tuple[bytes, Image.Image]:
    """Use float gray from 0 to 1."""
    gray = np.asarray(gray_picture())
    return encoded(Image.fromarray(gray.astype(np.float32) / 255), "TIFF"), Image.fromarray(gray).convert("RGB")


def animated_gif() -> tuple[bytes, Image.Image]:
    first = picture().quantize(64)
    rest = [Image.new("RGB", SIZE, colour).quantize(64) for colour in ("red", "blue")]
    return encoded(first, "GIF", save_all=True, append_images=rest), first.convert("RGB")


def animated_webp() -> tuple[bytes, Image.Image]:
    rest = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    return encoded(picture(), "WEBP", lossless=True, save_all=True, append_images=rest), picture()


def animated_png() -> tuple[bytes, Image.Image]:
    return encoded(picture(), "PNG", save_all=True, append_images=[Image.new("RGB", SIZE, "red")]), picture()


def webp_alpha() -> tuple[bytes, Image.Image]:
    image = picture()
    alpha = np.full(SIZE[::-1], 128, np.uint8)
    expected = _on_white(np.asarray(image), alpha)
    image.putalpha(Image.fromarray(alpha))
    return encoded(image, "WEBP", lossless=True, exact=True), expected


def bmp() -> tuple[bytes, Image.Image]:
    return encoded(picture(), "BMP"), picture()


def tiff_lzw() -> tuple[bytes, Image.Image]:
    return encoded(picture(), "TIFF", compression="tiff_lzw"), picture()


def tiff_pages() -> tuple[bytes, Image.Image]:
    return encoded(picture(), "TIFF", save_all=True, append_images=[Image.new("RGB", SIZE, "red")]), picture()


def jpeg_2000() -> tuple[bytes, Image.Image]:
    return encoded(picture(), "JPEG2000"), picture()


def progressive_jpeg() -> tuple[bytes, Image.Image]:
    data = encoded(picture(), "JPEG", progressive=True)
    return data, Image.open(io.BytesIO(data)).convert("RGB")


def avif() -> tuple[bytes, Image.Image]:
    data = encoded(picture(), "AVIF")
    return data, Image.open(io.BytesIO(data)).convert("RGB")


KINDS: tuple[Callable[[], tuple[bytes, Image.Image]], ...] = (
    grayscale_png,
    bilevel_png,
    palette_png,
    palette_transparent_png,
    palette_alpha_png,
    rgba_png,
    gray_alpha_png,
    rgb_keyed_png,
    cmyk_tiff,
    cmyk_jpeg,
    gray16_png,
    gray16_keyed_png,
    gray16_tiff_big_endian,
    gray16_pgm,
    float_tiff,
    animated_gif,
    animated_webp,
    animated_png,
    webp_alpha,
    bmp,
    tiff_lzw,
    tiff_pages,
    jpeg_2000,
    progressive_jpeg,
    avif,
)


# Files that cannot be embedded


def png_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """Return a PNG of a few bytes whose header claims 3.6 billion pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND")
    )


def float_tiff_of_unknown_range() -> bytes:
    return encoded(Image.fromarray(np.linspace(-5, 1e6, 64, dtype=np.float32).reshape(8, 8)), "TIFF")


def _chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _on_white(rgb: np.ndarray, alpha: np.ndarray) -> Image.Image:
    weight = alpha[..., None] / 255
    return Image.fromarray(np.rint(rgb * weight + 255 * (1 - weight)).astype(np.uint8))
