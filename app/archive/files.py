"""Open or create an archive; the ending of its name decides between Parquet and numpy."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.archive.format import NUMPY, PARQUET, Origin, Reader, Writer
from app.errors import ConfigurationError, ConflictError, InvalidInputError


def open_reader(path: Path) -> Reader:
    """Open a file for reading.

    Raises:
        InvalidInputError: there is no such file, or its content does not match its ending.
        ConfigurationError: the file is Parquet, and pyarrow is not installed.
    """
    if not path.is_file():
        raise InvalidInputError(f"there is no file {path}")
    if _kind(path) == PARQUET:
        from app.archive.parquet_file import ParquetReader

        return ParquetReader(path)
    from app.archive.numpy_file import NumpyReader

    return NumpyReader(path)


@contextmanager
def create_archive(path: Path, origin: Origin, *, force: bool = False) -> Iterator[Writer]:
    """Write a file; it gets its name at the end of the block. If the block fails, nothing is left.

    Raises:
        ConflictError: the file exists, and `force` is not set.
    """
    kind = _kind(path)
    if path.exists() and not force:
        raise ConflictError(f"{path} exists already; choose another name, or replace it: --force")
    if not path.parent.is_dir():
        raise InvalidInputError(f"there is no folder {path.parent}")
    if kind == PARQUET:
        from app.archive.parquet_file import ParquetWriter

        names = [path]
        drafts = [_draft(path)]
        writer: Writer = ParquetWriter(drafts[0], origin)
    else:
        from app.archive.numpy_file import NumpyWriter

        names = [path.with_suffix(suffix) for suffix in (".json", ".jsonl", NUMPY)]
        drafts = [_draft(name) for name in names]
        writer = NumpyWriter(*drafts, origin=origin)
    try:
        yield writer
        writer.close()
        for draft, name in zip(drafts, names, strict=True):
            os.replace(draft, name)  # noqa: PTH105
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _kind(path: Path) -> str:
    if path.suffix not in (PARQUET, NUMPY):
        raise InvalidInputError(f"{path} ends in neither {PARQUET} nor {NUMPY}; the ending decides the kind of file")
    if path.suffix == PARQUET and importlib.util.find_spec("pyarrow") is None:
        raise ConfigurationError(f"Parquet needs pyarrow: pip install 'lookalike[parquet]'; {NUMPY} files do not")
    return path.suffix
