"""Parquet files of images with embeddings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.archive.format import COLUMNS, EMBEDDING, KEY, Batch, Origin, parse_origin, to_json
from app.errors import InvalidInputError

_TYPES = {
    "id": pa.int64(),
    "uri": pa.string(),
    "sha256": pa.binary(32),
    "media_type": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "caption": pa.string(),
    "attributes": pa.string(),
    "created_at": pa.timestamp("us", "UTC"),
    "updated_at": pa.timestamp("us", "UTC"),
}
_ROW_GROUP = 10_000


class ParquetWriter:
    """Writes embeddings as lists of float16, the same bits as in the database."""

    def __init__(self, path: Path, origin: Origin) -> None:
        self._dimensions = int(origin.dimensions or 0)
        embedding = pa.list_(pa.float16(), self._dimensions)
        self._schema = pa.schema([*_TYPES.items(), (EMBEDDING, embedding)], metadata={KEY: to_json(origin).encode()})
        # zstd makes the texts small; embeddings do not compress.
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._buffer: list[Any] = []
        self._rows = 0

    def add(self, batch: Batch) -> None:
        columns = [pa.array(getattr(batch, field), _TYPES[name]) for field, name in COLUMNS.items()]
        columns = [columns[list(COLUMNS.values()).index(name)] for name in _TYPES]
        values = np.zeros((len(batch.uris), self._dimensions), np.float16)
        values[batch.embedded] = batch.embeddings
        mask = pa.array(~batch.embedded)
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), self._dimensions, mask=mask))
        self._buffer.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._rows += len(batch.uris)
        if self._rows >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        self._file.write_table(pa.Table.from_batches(self._buffer, self._schema), row_group_size=_ROW_GROUP)
        self._buffer, self._rows = [], 0

    def close(self) -> None:
        if self._buffer:
            self._flush()
        self._file.close()


class ParquetReader:
    """Reads files of ours or of other programs. Required are `uri` and `embedding`, a list of floats of any width."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise InvalidInputError(f"{path} is not a Parquet file: {error}") from error
        schema = self._file.schema_arrow
        self.origin = parse_origin((schema.metadata or {}).get(KEY), path)
        known = {*_TYPES, EMBEDDING}
        self.skipped = [name for name in schema.names if name not in known]
        self._names = [name for name in schema.names if name in known]
        if missing := [name for name in ("uri", EMBEDDING) if name not in schema.names]:
            raise InvalidInputError(f'{path} has no column "{missing[0]}"; it has: {", ".join(schema.names)}')
        kind = schema.field(EMBEDDING).type
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not lists or not pa.types.is_floating(kind.value_type):
            raise InvalidInputError(f'{path}, column "{EMBEDDING}": {kind} is not a list of floats')

    def batches(self, size: int) -> Iterator[Batch]:
        first = 1
        try:
            for part in self._file.iter_batches(batch_size=size, columns=self._names):
                yield self._batch(part, first)
                first += part.num_rows
        except (pa.ArrowException, OSError) as error:
            raise InvalidInputError(f"{self.path} is damaged after row {first - 1}: {error}") from error

    def _batch(self, part: Any, first: int) -> Batch:  # noqa: ANN401
        values = {field: self._values(part, name, first) for field, name in COLUMNS.items()}
        column = part.column(EMBEDDING)
        embedded = np.asarray(column.is_valid())
        lengths = np.asarray(pc.list_value_length(column.drop_null()))
        if len(lengths) and (lengths != lengths[0]).any():
            uneven = int(np.flatnonzero(lengths != lengths[0])[0])
            row = first + int(np.flatnonzero(embedded)[uneven])
            raise InvalidInputError(
                f'{self.path}, row {row}, column "{EMBEDDING}": {lengths[uneven]} numbers, others have {lengths[0]}'
            )
        flat = column.flatten()
        numbers = flat.to_numpy(zero_copy_only=False)  # null becomes NaN, which transfer.check refuses
        return Batch(
            first=first,
            embedded=embedded,
            embeddings=numbers.reshape(len(lengths), int(lengths[0]) if len(lengths) else 0),
            **values,
        )

    def _values(self, part: Any, name: str, first: int) -> list[Any]:  # noqa: ANN401
        if name not in part.schema.names:
            return [None] * part.num_rows
        column = part.column(part.schema.get_field_index(name))
        if name == "attributes" and (pa.types.is_struct(column.type) or pa.types.is_map(column.type)):
            return [None if one is None else json.dumps(dict(one)) for one in column.to_pylist()]
        if column.type == _TYPES[name]:
            return list(column.to_pylist())
        try:
            return list(column.cast(_TYPES[name]).to_pylist())
        except pa.ArrowException as error:
            rows = f"rows {first} to {first + part.num_rows - 1}"
            raise InvalidInputError(
                f'{self.path}, {rows}, column "{name}": {column.type} cannot be read as {_TYPES[name]}: {error}'
            ) from error
