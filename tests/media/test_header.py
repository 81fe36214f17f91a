"""Counting frames at a bounded cost, in every format that can have several."""

import io

import pytest
from PIL import Image

from app.errors import ImageError
from app.media import header
from app.media.header import read_header
from tests.support.images import encoded, picture

PIXELS = 10**6


def animated(form: str, frames: int) -> bytes:
    """Return an image file with this many frames, all different."""
    drawn = [Image.new("RGB", (16, 16), (n * 7 % 256, n % 256, 90)) for n in range(frames)]
    stream = io.BytesIO()
    drawn[0].save(stream, form, save_all=True, append_images=drawn[1:])
    return stream.getvalue()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_frames_are_counted(form: str) -> None:
    data = animated(form, 5)
    assert read_header(data, max_pixels=PIXELS, max_frames=5).width == 16
    with pytest.raises(ImageError, match=r"has more than 4 frames \(LOOKALIKE_MAX_IMAGE_FRAMES\)"):
        read_header(data, max_pixels=PIXELS, max_frames=4)
    assert read_header(data, max_pixels=PIXELS).width == 16


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP"])
def test_one_frame_is_one(form: str) -> None:
    assert read_header(encoded(picture(), form), max_pixels=PIXELS, max_frames=1).width > 0


def test_a_million_frames_cost_nothing() -> None:
    """Pillow would take a minute to count a million frames of one pixel; counting stops at the limit."""
    one = animated("GIF", 1)
    block = one[one.index(b"\x2c", 13) : -1]
    bomb = one[:-1] + block * 1_000_000 + b";"
    with pytest.raises(ImageError, match="more than 1,000 frames"):
        read_header(bomb, max_pixels=PIXELS, max_frames=1000)
    assert header._gif_frames(bomb, 1000) == 1001  # counting stopped there


def test_a_truncated_gif_is_counted_up_to_the_cut() -> None:
    data = animated("GIF", 3)
    for size in range(14, len(data)):
        assert header._gif_frames(data[:size], 3) <= 3
