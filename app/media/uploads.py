"""Store uploaded files, named by their content hash, in a folder or an object store."""

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

# Suffixes for other programs. The type comes from an upload's content, never from its name.
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

# Folder of unfinished files. A file this old was abandoned, because no upload takes that long.
_DRAFTS = ".drafts"
_DRAFT_SECONDS = 3600.0

_NAME = re.compile(r"[0-9a-f]{64}(\.[a-z]+)?")


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage for files: an fsspec filesystem and the root folder in it."""

    files: Any
    root: str

    @property
    def local(self) -> bool:
        """Whether the files are in a folder of this machine."""
        return isinstance(self.files, LocalFileSystem)


def open_storage(settings: Settings) -> Storage:
    """Return the storage that the settings name. Nothing is created or contacted before the first file is stored.

    Raises:
        ConfigurationError: the URL is not valid, or its package is not installed.
    """
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
    """Return the uri for a file with this content (sha256 in hex) and media type, stored or not."""
    return _uri(storage, sha256 + _SUFFIXES.get(media_type, ""))


def put(storage: Storage, data: bytes, *, sha256: str, media_type: str) -> str:
    """Store `data`, unless a file with this content exists, and return its uri.

    A file appears whole or not at all, and is never overwritten: a folder renames it into place, and an object store
    guarantees it.

    Raises:
        StorageError: the storage cannot be written now.
        ConfigurationError: the storage denies permission.
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
    """Return whether `uri` names a file of this storage in the form that `put` returns."""
    name = uri.rpartition("/")[2]
    return _NAME.fullmatch(name) is not None and uri == _uri(storage, name)


def remove(storage: Storage, uri: str) -> None:
    """Remove a file that `put` stored; do nothing if it no longer exists.

    Raises:
        StorageError: the file cannot be removed now.
    """
    if not owns(storage, uri):
        raise ValueError(f"{uri} is not a file of the storage {storage.root}")
    try:
        storage.files.rm_file(_path(storage, uri.rpartition("/")[2]))
    except FileNotFoundError:
        return
    except Exception as error:
        raise StorageError(f"the upload {uri} cannot be removed: {_reason(error)}") from error


def sweep(storage: Storage, *, older_than: float = _DRAFT_SECONDS) -> int:
    """Remove unfinished files that killed writers left in a folder; return how many.

    Files younger than `older_than` seconds stay, because their writers may still run. Object stores never show
    unfinished files.

    Raises:
        StorageError: the folder cannot be read.
    """
    if not storage.local:
        return 0
    removed = 0
    try:
        for draft in Path(storage.root, _DRAFTS).glob("*"):
            with suppress(FileNotFoundError):  # finished or removed meanwhile
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
    # The path names a local file, as in ingest.
    return path if storage.local else str(storage.files.unstrip_protocol(path))


def _write_local(path: Path, data: bytes, *, drafts: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drafts.mkdir(exist_ok=True)
    draft = drafts / f"{path.name}.{secrets.token_hex(8)}"
    # Mode 0666 minus the umask, because a worker may run as another user.
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
