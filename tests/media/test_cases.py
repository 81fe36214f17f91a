"""Files that other programs write, and that were refused, misread or decoded before they were checked."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import ImageError
from app.media.decode import load
from app.media.header import read_header
from app.media.limits import Limits

CASES = Path(__file__).parent / "cases"
LIMITS = Limits(max_bytes=2**27, max_pixels=10**8, timeout=5)


def opened(name: str) -> Image.Image:
    data = (CASES / name).read_bytes()
    header = read_header(data, max_pixels=10**8)
    found = load(data, LIMITS)
    assert (header.media_type, header.width, header.height) == (found.media_type, found.width, found.height)
    return found.image


@pytest.mark.parametrize("name", ["itxt2mb.png", "ztxt2mb.png", "mif1.avif", "noeoi.jpg", "gray12.png"])
def test_it_is_read(name: str) -> None:
    assert opened(name).size == (300, 200)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def zeros(width: int, height: int, *, after: bytes = b"") -> bytes:
    """A sound PNG of zeros, one bit a pixel, with chunks after its pixels."""
    pixels, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    data = b"".join([*(pixels.compress(row) for _ in range(height)), pixels.flush()])
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


def test_exif_after_the_pixels_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = zeros(40, 20, after=chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    header, found = read_header(data, max_pixels=10**4), load(data, LIMITS)
    assert (header.width, header.height) == (found.width, found.height) == (20, 40)


def test_a_png_of_endless_chunks_is_refused() -> None:
    data = zeros(4, 4, after=chunk(b"tEXt", b"") * 100_001)
    with pytest.raises(ImageError, match="more than 100,000 chunks"):
        read_header(data, max_pixels=100)


# WebP holds no more than 16,383 pixels a side, and the encoders of AVIF and JPEG 2000 take seconds for so many.
SIDES = {"PNG": 20_000, "JPEG": 12_000, "GIF": 6_000, "WebP": 4_000, "BMP": 8_000, "TIFF": 12_000, "PPM": 8_000}
SIDES |= {"AVIF": 4_000, "JPEG2000": 4_000}


@pytest.mark.parametrize("form", SIDES)
def test_a_header_is_read_without_decoding(form: str, tmp_path: Path) -> None:
    side = SIDES[form]
    path = tmp_path / "bomb"
    if form == "PNG":
        path.write_bytes(zeros(side, side))
    else:
        options = {"TIFF": {"compression": "tiff_deflate"}, "AVIF": {"speed": 10}}.get(form, {})
        Image.new("L", (side, side)).save(path, form, **options)
    code = (
        "import resource, sys; from pathlib import Path; from app.errors import ImageError; "
        "from app.media.header import read_header; data = Path(sys.argv[1]).read_bytes(); "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak()\n"
        "for most in (10**9, 10**6):\n"
        "    try: print(read_header(data, max_pixels=most, max_frames=1).width)\n"
        "    except ImageError as error: print('pixels' in str(error))\n"
        "print(peak() - before, resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    width, refused, grown, _ = done.stdout.split()
    assert (int(width), refused) == (side, "True")
    # A decoded image has a byte a pixel at least; what a plugin copies of the file itself is not that.
    assert int(grown) * 1024 < side * side // 2 + 2 * path.stat().st_size


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_may_lack_its_end_and_no_pixel(progressive: bool) -> None:
    made = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (150, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(made, "JPEG", progressive=progressive)
    whole = made.getvalue()
    assert load(whole[:-2], LIMITS).image.tobytes() == load(whole, LIMITS).image.tobytes()
    for cut in (10, 100, len(whole) // 2):
        with pytest.raises(ImageError, match="is cut off after"):
            load(whole[:-cut], LIMITS)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_gray_is_scaled_by_the_depth_that_holds_it(form: str, bits: int) -> None:
    made = io.BytesIO()
    Image.fromarray(np.linspace(0, 2**bits - 1, 600).astype(np.uint16).reshape(20, 30)).save(made, form)
    assert load(made.getvalue(), LIMITS).image.getextrema()[0] == (0, 255)


def test_gray_of_32_bits_that_holds_8() -> None:
    made = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16)).save(made, "TIFF")
    assert np.array_equal(np.asarray(load(made.getvalue(), LIMITS).image)[..., 0].ravel(), np.arange(256))
