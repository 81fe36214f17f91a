"""PNG files without the parts that Pillow would decode or choke on."""

import struct

from app.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Texts and colour profiles are not used, and Pillow refuses a picture whose texts inflate to more than 1 MB.
_UNUSED = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
_PIXELS = frozenset({b"IDAT", b"fcTL", b"fdAT"})
_MOST_CHUNKS = 100_000


def without_texts(data: bytes) -> bytes:
    """Return a PNG file without its texts and its colour profile."""
    return _without(data, _UNUSED)


def header_only(data: bytes) -> bytes:
    """Return a PNG file without pixels, texts and colour profile, so that reading its EXIF decodes nothing.

    The EXIF may follow the pixels.
    """
    return _without(data, _UNUSED | _PIXELS)


def _without(data: bytes, unwanted: frozenset[bytes]) -> bytes:
    kept, begin, at = [data[:8]], 8, 8
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + length + 12
        if kind in unwanted:
            kept.append(data[begin:at])
            begin = end
        at = end
    else:
        raise ImageError("decode", f"the PNG file has more than {_MOST_CHUNKS:,} chunks")
    return b"".join([*kept, data[begin:]]) if len(kept) > 1 else data
