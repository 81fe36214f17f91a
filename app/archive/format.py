"""Images with their embeddings as columns, and the Parquet and numpy files that hold them.

A Parquet file has a column a field and the space in its metadata, under the key `lookalike`. A `.npy` file holds the
embeddings, a row an image; beside it lie `.jsonl` (an image a line) and `.json` (the space). Files are read and written
in parts, so memory stays bounded, and appear under their name only when they are whole.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.errors import InvalidInputError
from app.types import Json

PARQUET, NUMPY = ".parquet", ".npy"
KEY = b"lookalike"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What embeddings are: the space that they come from. Files made elsewhere may say less: `fingerprint` decides."""

    fingerprint: str | None = None
    dimensions: int | None = None
    space: str | None = None
    model: str | None = None
    preprocessing: Json | None = None
    index_options: Json | None = None
    images: int | None = None
    exported_at: str | None = None


@dataclass(slots=True, kw_only=True)
class Batch:
    """Images in parallel lists; what a file does not tell is None. `embeddings` are those of the rows in `embedded`.

    `first` is the number of the first row in its file, counted from 1. `attributes` are JSON texts.
    """

    first: int
    uris: list[Any]
    embeddings: npt.NDArray[np.floating[Any]]
    embedded: npt.NDArray[np.bool_]
    ids: list[int | None]
    sha256s: list[bytes | None]
    media_types: list[str | None]
    widths: list[int | None]
    heights: list[int | None]
    captions: list[str | None]
    attributes: list[str | None]
    created_ats: list[datetime | None]
    updated_ats: list[datetime | None]


# Batch's field → the file's name of it; that of the embedding apart.
COLUMNS = {
    "ids": "id",
    "uris": "uri",
    "sha256s": "sha256",
    "media_types": "media_type",
    "widths": "width",
    "heights": "height",
    "captions": "caption",
    "attributes": "attributes",
    "created_ats": "created_at",
    "updated_ats": "updated_at",
}
EMBEDDING = "embedding"


class Reader(Protocol):
    """A file that is read from its beginning as often as `batches` is called; `passed_over` are columns not known."""

    path: Path
    origin: Origin
    passed_over: list[str]

    def batches(self, size: int) -> Iterator[Batch]: ...


class Writer(Protocol):
    """A file that is being written."""

    def add(self, batch: Batch) -> None: ...

    def close(self) -> None: ...


def origin_of(given: str | bytes | None, path: Path) -> Origin:
    """Read what a file says of its space; keys that are not known are passed over."""
    if given is None:
        return Origin()
    try:
        found = json.loads(given)
    except ValueError as error:
        raise InvalidInputError(f"{path}: what it says of its embedding space is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInputError(f"{path}: what it says of its embedding space is no JSON object")
    known = {field.name: found[field.name] for field in fields(Origin) if found.get(field.name) is not None}
    for name, value in known.items():
        kind = {"dimensions": int, "images": int, "preprocessing": dict, "index_options": dict}.get(name, str)
        if not isinstance(value, kind):
            raise InvalidInputError(f'{path}: its embedding space has "{name}": {json.dumps(value)}')
    return Origin(**known)


def to_json(origin: Origin) -> str:
    """Return what a file is to say of its space."""
    return json.dumps({name: value for name, value in asdict(origin).items() if value is not None})
