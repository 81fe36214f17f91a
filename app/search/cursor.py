"""Cursors: the end of a page of a search, as a short text that only the same search accepts."""

import base64
import binascii
import hashlib
import json
import struct
from dataclasses import dataclass

from app.errors import InvalidInputError

# Asks for the first page.
START = "start"


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a page: distance and id of its last row."""

    distance: float
    image_id: int


_PACKED = struct.Struct(">dq16s")  # distance, image id, fingerprint of the search


def fingerprint(*parts: object) -> bytes:
    """Return 16 bytes that identify a search. Bytes count as they are, anything else as JSON with sorted keys."""
    digest = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(text).to_bytes(8, "big") + text)
    return digest.digest()[:16]


def write(position: Position, search: bytes) -> str:
    """Return the cursor of a position in the search with this fingerprint."""
    packed = _PACKED.pack(position.distance, position.image_id, search)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def read(text: str, search: bytes) -> Position | None:
    """Return the position of a cursor, None for the start.

    Raises:
        InvalidInputError: the text is not a valid cursor, or it belongs to another search.
    """
    if text == START:
        return None
    try:
        raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        distance, image_id, found = _PACKED.unpack(raw)
    except (binascii.Error, UnicodeEncodeError, struct.error) as error:
        raise InvalidInputError(
            f"cursor {text[:80]!r} is not valid; send {START!r}, then the cursor that came with the page before"
        ) from error
    if found != search:
        raise InvalidInputError(
            "the cursor belongs to another search: image, filter, max_distance and exclude must stay as they were for"
            f" its page, and so must the active embedding space; begin again with {START!r}"
        )
    return Position(distance, image_id)
