"""`.npy` files of embeddings with their sidecars."""

import json
import math
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from app.archive.format import COLUMNS, NUMPY, Batch, Origin, origin_of, to_json
from app.errors import InvalidInputError


class NumpyWriter:
    """Writes float16; `origin.images` says how many rows there will be. A row without embedding is 0 in the `.npy`."""

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
            line = {name: _plain(getattr(batch, field)[n]) for field, name in COLUMNS.items()}
            line = {name: value for name, value in line.items() if value is not None}
            # As the text that it is: parsed and printed again, numbers would lose digits.
            attributes = line.pop("attributes", "{}")
            text = json.dumps(line | {"embedded": bool(batch.embedded[n])}, ensure_ascii=False)
            self._lines.write(f'{text[:-1]}, "attributes": {attributes}}}\n')
        self._rows += len(batch.uris)

    def close(self) -> None:
        self._lines.close()
        self._vectors.close()
        if self._rows != self._shape[0]:
            raise InvalidInputError(f"{self._rows} images were written, and {self._shape[0]} were announced")


class NumpyReader:
    """Reads a 2-d array of floats, mapped and not loaded, with a `.jsonl` of as many lines; the `.json` may lack."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.passed_over: list[str] = []
        self._images = path.with_suffix(".jsonl")
        about = path.with_suffix(".json")
        if not self._images.is_file():
            raise InvalidInputError(f"{path} needs {self._images} beside it: a line of JSON an image, with its uri")
        try:
            self._vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InvalidInputError(f"{path} is not a {NUMPY} file of numbers: {error}") from error
        if self._vectors.ndim != 2 or self._vectors.dtype.kind != "f":
            raise InvalidInputError(
                f"{path} holds {self._vectors.dtype} of shape {self._vectors.shape}, not a row of floats an image"
            )
        self.origin = origin_of(about.read_text(encoding="utf-8") if about.is_file() else None, about)

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
            raise InvalidInputError(f"{self._images} has {first - 1} lines, and {self.path} {len(self._vectors)} rows")

    def _line(self, text: str, row: int) -> dict[str, Any]:
        try:
            found = json.loads(text, parse_float=_Number, parse_int=_Number)
        except ValueError as error:
            raise InvalidInputError(f"{self._images}, row {row}: no JSON: {error}") from error
        if not isinstance(found, dict):
            raise InvalidInputError(f"{self._images}, row {row}: no JSON object")
        self.passed_over += [name for name in found if name not in {*COLUMNS.values(), "embedded", *self.passed_over}]
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
    """A number that remembers how it was written."""

    def __new__(cls, text: str) -> "_Number":
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str


def _json(value: Any) -> str:  # noqa: ANN401
    """Print JSON with every number as it was written."""
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
        raise ValueError(f"{_json(value)} is no whole number")
    return int(value.text) if value.text.lstrip("-").isdigit() else int(value)


def _text(value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise ValueError(f"{_json(value)} is no text")  # noqa: TRY004
    return value


def _moment(value: Any) -> datetime:  # noqa: ANN401
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
    "created_at": _moment,
    "updated_at": _moment,
}


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else value
