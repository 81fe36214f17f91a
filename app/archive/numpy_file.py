"""`.npy` files of embeddings with their `.jsonl` and `.json` sidecars."""

import json
import math
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from app.archive.format import COLUMNS, NUMPY, Batch, Origin, parse_origin, to_json
from app.errors import InvalidInputError


class NumpyWriter:
    """Writes embeddings as float16, and zeros for rows without one. `origin.images` is the number of rows to come."""

    def __init__(self, about: Path, images: Path, vectors: Path, *, origin: Origin) -> None:
        about.write_text(to_json(origin) + "\n", encoding="utf-8")
        self._lines: TextIO = images.open("w", encoding="utf-8")
        self._vectors = vectors.open("wb")
        self._shape = (int(origin.images or 0), int(origin.dimensions or 0))
        header = {"descr": "<f2", "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._vectors, header)
        self._rows = 0

    def add(self, batch: Batch) -> None:
        values = np.zeros((len(batch.uris), self._shape[1]), "<f2")
        values[batch.embedded] = batch.embeddings
        self._vectors.write(values.tobytes())
        for n in range(len(batch.uris)):
            line = {name: _to_json_value(getattr(batch, field)[n]) for field, name in COLUMNS.items()}
            line = {name: value for name, value in line.items() if value is not None}
            # As text, because numbers would lose digits if they were parsed and printed again.
            attributes = line.pop("attributes", "{}")
            text = json.dumps(line | {"embedded": bool(batch.embedded[n])}, ensure_ascii=False)
            self._lines.write(f'{text[:-1]}, "attributes": {attributes}}}\n')
        self._rows += len(batch.uris)

    def close(self) -> None:
        self._lines.close()
        self._vectors.close()
        if self._rows != self._shape[0]:
            raise InvalidInputError(f"{self._rows} images were written, but {self._shape[0]} were announced")


class NumpyReader:
    """Reads a 2-d array of floats, memory-mapped, with a `.jsonl` of as many lines; the `.json` is optional."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped: list[str] = []
        self._images = path.with_suffix(".jsonl")
        about = path.with_suffix(".json")
        if not self._images.is_file():
            raise InvalidInputError(f"{path} needs {self._images} beside it: one line of JSON per image, with its uri")
        try:
            self._vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InvalidInputError(f"{path} is not a {NUMPY} file of numbers: {error}") from error
        if self._vectors.ndim != 2 or self._vectors.dtype.kind != "f":
            raise InvalidInputError(
                f"{path} holds {self._vectors.dtype} of shape {self._vectors.shape}, not one row of floats per image"
            )
        self.origin = parse_origin(about.read_text(encoding="utf-8") if about.is_file() else None, about)

    def batches(self, size: int) -> Iterator[Batch]:
        first = 1
        with self._images.open(encoding="utf-8") as lines:
            while part := list(islice(lines, size)):
                if first - 1 + len(part) > len(self._vectors):
                    raise InvalidInputError(
                        f"{self._images} has more lines than {self.path} has rows ({len(self._vectors)})"
                    )
                yield self._batch([self._line(text, first + n) for n, text in enumerate(part)], first)
                first += len(part)
        if first - 1 != len(self._vectors):
            raise InvalidInputError(
                f"{self._images} has {first - 1} lines, but {self.path} has {len(self._vectors)} rows"
            )

    def _line(self, text: str, row: int) -> dict[str, Any]:
        try:
            found = json.loads(text, parse_float=_Number, parse_int=_Number)
        except ValueError as error:
            raise InvalidInputError(f"{self._images}, row {row}: not JSON: {error}") from error
        if not isinstance(found, dict):
            raise InvalidInputError(f"{self._images}, row {row}: not a JSON object")
        self.skipped += [name for name in found if name not in {*COLUMNS.values(), "embedded", *self.skipped}]
        for name, read in _READ.items():
            if found.get(name) is not None:
                try:
                    found[name] = read(found[name])
                except (ValueError, TypeError, AttributeError) as error:
                    raise InvalidInputError(f'{self._images}, row {row}, column "{name}": {error}') from error
        return found

    def _batch(self, lines: list[dict[str, Any]], first: int) -> Batch:
        embedded = np.array([line.get("embedded", True) is True for line in lines])
        rows = self._vectors[first - 1 : first - 1 + len(lines)]
        values = {field: [line.get(name) for line in lines] for field, name in COLUMNS.items()}
        return Batch(first=first, embedded=embedded, embeddings=np.asarray(rows[embedded]), **values)


class _Number(float):
    """A number that keeps its text, so that no digit gets lost."""

    def __new__(cls, text: str) -> "_Number":
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str


def _json(value: Any) -> str:  # noqa: ANN401
    """Return JSON with every number in its original text."""
    if isinstance(value, _Number):
        return value.text
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {_json(one)}" for key, one in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _integer(value: Any) -> int:  # noqa: ANN401
    if not isinstance(value, _Number) or not math.isfinite(value) or float(value) % 1:
        raise ValueError(f"{_json(value)} is not an integer")
    return int(value.text) if value.text.lstrip("-").isdigit() else int(value)


def _text(value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise ValueError(f"{_json(value)} is not a string")  # noqa: TRY004
    return value


def _timestamp(value: Any) -> datetime:  # noqa: ANN401
    return datetime.fromisoformat(_text(value))


_READ = {
    "id": _integer,
    "uri": _text,
    "sha256": lambda value: bytes.fromhex(_text(value)),
    "media_type": _text,
    "width": _integer,
    "height": _integer,
    "caption": _text,
    "attributes": _json,
    "created_at": _timestamp,
    "updated_at": _timestamp,
}


def _to_json_value(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else value
