"""The file format: images with their embeddings as columns, in Parquet or numpy files.

A Parquet file has one column per field; its metadata describes the space, under the key `lookalike`. A `.npy` file has
the embeddings, one row per image; beside it are `.jsonl` (one image per line) and `.json` (the space). Files are read
and written in batches, so memory stays bounded, and get their name only when they are complete.
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
    """The embedding space that a file's embeddings come from; `fingerprint` identifies it.

    Fields are None if the file does not have them, as files of other programs may not.
    """

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
    """Images in parallel lists; None: the file does not have the value. `attributes` are JSON texts.

    `embedded` marks the rows that have an embedding, and `embeddings` has only those. `first` is the number of the
    first row in its file, counted from 1.
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


# Field of Batch → column of the file; the embedding is apart.
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
    """An open file; every call of `batches` reads it from the beginning. `skipped` are the columns without a field."""

    path: Path
    origin: Origin
    skipped: list[str]

    def batches(self, size: int) -> Iterator[Batch]: ...


class Writer(Protocol):
    """A file being written."""

    def add(self, batch: Batch) -> None: ...

    def close(self) -> None: ...


def parse_origin(given: str | bytes | None, path: Path) -> Origin:
    """Parse a file's description of its space; unknown keys are skipped.

    Raises:
        InvalidInputError: it is not a JSON object, or a value has another type.
    """
    if given is None:
        return Origin()
    try:
        found = json.loads(given)
    except ValueError as error:
        raise InvalidInputError(f"{path}: the description of its embedding space is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInputError(f"{path}: the description of its embedding space is not a JSON object")
    known = {field.name: found[field.name] for field in fields(Origin) if found.get(field.name) is not None}
    for name, value in known.items():
        kind = {"dimensions": int, "images": int, "preprocessing": dict, "index_options": dict}.get(name, str)
        if not isinstance(value, kind):
            raise InvalidInputError(
                f'{path}: its embedding space has "{name}": {json.dumps(value)}, which is not of type {kind.__name__}'
            )
    return Origin(**known)


def to_json(origin: Origin) -> str:
    """Return the description of a space as JSON."""
    return json.dumps({name: value for name, value in asdict(origin).items() if value is not None})
