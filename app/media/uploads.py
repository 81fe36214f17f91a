"""Stores uploaded files, named by their content, in a folder or an object store."""

import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.config import Settings
from app.errors import ConfigurationError, StorageError

# By media type: a name that other programs understand. What an upload is, its content says, never its name.
_SUFFIXES = {
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/jp2": ".jp2",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/tiff": ".tif",
    "image/webp": ".webp",
    "image/x-portable-anymap": ".pnm",
}

# Files being written, in a folder; one this old has lost its writer. No upload takes that long.
_DRAFTS = ".drafts"
_DRAFT_SECONDS = 3600.0

_NAME = re.compile(r"[0-9a-f]{64}(\.[a-z]+)?")


@dataclass(frozen=True, slots=True)
class Storage:
    """An open place for files: fsspec's filesystem, and the folder in it."""

    files: Any
    root: str

    @property
    def local(self) -> bool:
        """Whether files lie in a folder of this machine."""
        return isinstance(self.files, LocalFileSystem)


def open_storage(settings: Settings) -> Storage:
    """Return the storage that the settings name; nothing is made or contacted before the first file is stored."""
    url = settings.storage_url or str((settings.home / "uploads").absolute())
    try:
        files, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConfigurationError(
            f"LOOKALIKE_STORAGE_URL={url} needs a package that is not installed: {error}"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"LOOKALIKE_STORAGE_URL={url} cannot be used: {error}") from error
    return Storage(files, root.rstrip("/"))


def uri_of(storage: Storage, sha256: str, media_type: str) -> str:
    """Return the uri that a file of this content (sha256 in hex) and media type has, stored or not."""
    return _uri(storage, sha256 + _SUFFIXES.get(media_type, ""))


def put(storage: Storage, data: bytes, *, sha256: str, media_type: str) -> str:
    """Store `data` unless a file of this content is there, and return its uri.

    A file appears whole or not at all, and is never written over: in a folder by a rename, in an object store by the
    store. StorageError where it cannot be written now, ConfigurationError where that is not permitted.
    """
    uri = uri_of(storage, sha256, media_type)
    path = _path(storage, uri.rpartition("/")[2])
    try:
        if storage.files.exists(path):
            return uri
        if storage.local:
            _write_local(Path(path), data, drafts=Path(storage.root) / _DRAFTS)
        else:
            storage.files.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
            storage.files.pipe_file(path, data)
    except PermissionError as error:
        raise ConfigurationError(f"uploads cannot be written to {storage.root}: permission denied") from error
    except Exception as error:
        raise StorageError(f"the upload cannot be stored in {storage.root}: {_reason(error)}") from error
    return uri


def owns(storage: Storage, uri: str) -> bool:
    """Tell whether `uri` is that of a file of this storage, as `put` names it."""
    name = uri.rpartition("/")[2]
    return _NAME.fullmatch(name) is not None and uri == _uri(storage, name)


def remove(storage: Storage, uri: str) -> None:
    """Remove a file that `put` stored; one gone already is no error. StorageError where it cannot be removed."""
    if not owns(storage, uri):
        raise ValueError(f"{uri} is not a file of the storage {storage.root}")
    try:
        storage.files.rm_file(_path(storage, uri.rpartition("/")[2]))
    except FileNotFoundError:
        return
    except Exception as error:
        raise StorageError(f"the upload {uri} cannot be removed: {_reason(error)}") from error


def sweep(storage: Storage, *, older_than: float = _DRAFT_SECONDS) -> int:
    """Remove what writers that were killed have left half written in a folder; return how many files.

    Those younger than `older_than` seconds may still be at work. Object stores show no half-written file.
    StorageError where the folder cannot be read.
    """
    if not storage.local:
        return 0
    removed = 0
    try:
        for draft in Path(storage.root, _DRAFTS).glob("*"):
            with suppress(FileNotFoundError):  # finished, or swept, meanwhile
                if time.time() - draft.stat().st_mtime >= older_than:
                    draft.unlink()
                    removed += 1
    except OSError as error:
        raise StorageError(f"half-written uploads in {storage.root} cannot be swept: {_reason(error)}") from error
    return removed


def _path(storage: Storage, name: str) -> str:
    return f"{storage.root}/{name[:2]}/{name}"


def _uri(storage: Storage, name: str) -> str:
    path = _path(storage, name)
    # A file of this machine is named by its path, as ingest names it.
    return path if storage.local else str(storage.files.unstrip_protocol(path))


def _write_local(path: Path, data: bytes, *, drafts: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drafts.mkdir(exist_ok=True)
    draft = drafts / f"{path.name}.{secrets.token_hex(8)}"
    # Mode 0666 less the umask, as any new file: a worker may run as another user.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor, not a path)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
