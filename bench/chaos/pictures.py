"""Makes the images of a run: all different, and some that cannot be embedded."""

import hashlib
import io
import os
import random
import struct
import threading
import zlib
from pathlib import Path

from PIL import Image

GALLERY = Path(__file__).parents[2] / "app/demo/gallery"

# The failure that each kind of poison must have: the step, and a word of the reason.
POISONS = {
    "missing": ("fetch", "there is no file"),
    "empty": ("decode", "empty"),
    "text": ("decode", "not an image"),
    "cut": ("decode", "cut off"),
    "bomb": ("decode", "pixels"),
}


class Pictures:
    """A folder of image files, written atomically, and the record of every poison among them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.poisons: dict[bytes, str] = {}  # by sha256
        self._sources = [_squared(path) for path in sorted(GALLERY.rglob("*.jpg"))[::7]]
        self._number = 0
        self._lock = threading.Lock()

    def path(self) -> Path:
        """Return a path that no other image had."""
        with self._lock:
            self._number += 1
            return self.folder / f"{self._number:06}.img"

    def picture(self, rng: random.Random, *, large: bool = False) -> bytes:
        """Return a drawing with blocks in random places that no crop cuts off, so that its embedding is unique."""
        image = rng.choice(self._sources).copy()
        for _ in range(2):
            color = tuple(rng.randrange(256) for _ in range(3))
            left, top = rng.randrange(30, 130), rng.randrange(30, 130)
            image.paste(color, (left, top, left + rng.randrange(30, 90), top + rng.randrange(30, 90)))
        if large:  # slow to decode; PNG, because a JPEG would be decoded at reduced scale
            image = image.resize((image.width * 8, image.height * 8))
        file = io.BytesIO()
        image.save(file, "PNG" if large or rng.random() < 0.3 else "JPEG", compress_level=1, quality=92)
        return file.getvalue()

    def poison(self, rng: random.Random) -> bytes:
        """Return bytes that cannot be embedded."""
        kind = rng.choice([kind for kind in POISONS if kind != "missing"])
        tag = rng.randbytes(8).hex().encode()
        if kind == "empty":
            data = b""
        elif kind == "text":
            data = b"this is not a picture " + tag
        elif kind == "cut":
            whole = io.BytesIO()
            rng.choice(self._sources).save(whole, "JPEG", quality=rng.randrange(60, 95))
            data = whole.getvalue()[: len(whole.getvalue()) // 2]
        else:
            data = _bomb(rng.randrange(40_000, 60_000))
        self.poisons[hashlib.sha256(data).digest()] = kind
        return data

    @staticmethod
    def write(path: Path, data: bytes) -> None:
        """Replace the file at `path` in one step."""
        draft = path.with_suffix(f".{threading.get_ident()}.part")
        draft.write_bytes(data)
        os.replace(draft, path)  # noqa: PTH105


def _squared(path: Path) -> Image.Image:
    """Return the drawing on white, 256 pixels square."""
    with Image.open(path) as drawing:
        image = Image.new("RGB", (256, 256), "white")
        image.paste(drawing, ((256 - drawing.width) // 2, (256 - drawing.height) // 2))
    return image


def _bomb(side: int) -> bytes:
    """Return a PNG of a few bytes whose header claims billions of pixels."""

    def chunk(kind: bytes, body: bytes = b"") -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
