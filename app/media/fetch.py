"""Fetch the bytes of an image's uri: a local file, an http(s) URL or an fsspec URL."""

import errno
import os
import socket
import stat
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fsspec

from app.errors import ImageError
from app.media.http_fetch import fetch_http
from app.media.limits import Limits, check_size, raise_permanent, raise_transient, run_with_timeout

_TRANSIENT_ERRNO = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT})
# fsspec protocols whose URLs name a host or a local file, which these checks would not cover.
_UNCHECKED = frozenset(
    {
        *("ftp", "git", "github", "gitlab", "hdfs", "arrow_hdfs", "webhdfs", "http", "https", "jlab", "jupyter"),
        *("lakefs", "sftp", "ssh", "smb", "dask", "dbfs", "dir", "local", "asynclocal", "async_wrapper", "reference"),
        *("blockcache", "cached", "filecache", "simplecache", "libarchive", "tar", "zip"),
        *("asyncwrapper", "dvc", "generic", "gist", "pyscript", "root", "webdav"),
    }
)


def fetch(uri: str, *, limits: Limits) -> bytes:
    """Return the content of `uri`: an absolute path, file://, http(s):// or an fsspec URL such as s3://.

    Raises:
        TransientImageError: a retry may succeed.
        ImageError: a retry would fail too; step "fetch".
    """
    scheme = "" if uri.startswith("/") or "://" not in uri else uri.partition("://")[0].lower()
    if scheme in ("http", "https"):
        return fetch_http(uri, limits=limits)
    if scheme == "file":
        return _fetch_local(_path_of(uri), limits)
    if scheme:
        return _fetch_store(uri, scheme, limits)
    if not Path(uri).is_absolute():
        raise_permanent(f"{uri!r} is neither an absolute path nor a URL; write /folder/file.jpg or scheme://…")
    return _fetch_local(uri, limits)


def _path_of(uri: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise_permanent(f"{uri!r} is not a URL: {error}", error)
    if parts.netloc not in ("", "localhost"):
        raise_permanent(
            f"{uri!r} names the host {parts.netloc!r}; a file URL of this machine has three slashes: file:///…"
        )
    if parts.query or parts.fragment:
        raise_permanent(f"{uri!r} has a bare ? or #; in a file URL write them as %3F and %23")
    return url2pathname(parts.path)


def _fetch_local(path: str, limits: Limits) -> bytes:
    try:
        real = Path(path).resolve(strict=True)
        _check_root(path, real, limits)
        # O_NONBLOCK, because opening a named pipe would wait for its writer forever.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 — a descriptor, not a path
            # Check what was opened, because a link may have replaced a part of the path meanwhile.
            if (opened := Path(f"/proc/self/fd/{descriptor}")).is_symlink():
                _check_root(path, opened.readlink(), limits)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise_permanent(f"{path} is a directory, not an image file")
            if not stat.S_ISREG(status.st_mode):
                raise_permanent(f"{path} is a device, pipe or socket, not an image file")
            check_size(status.st_size, limits)
            data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError, RuntimeError) as error:
        _raise_local_error(path, error)
    check_size(len(data), limits, more=True)
    return data


def _check_root(path: str, real: Path, limits: Limits) -> None:
    if limits.roots is not None and not any(real.is_relative_to(root.resolve()) for root in limits.roots):
        roots = ", ".join(map(str, limits.roots)) or "none"
        raise_permanent(
            f"{path} lies outside the folders that images may be read from: {roots} (LOOKALIKE_IMAGE_ROOTS)"
        )


def _raise_local_error(path: str, error: OSError | ValueError | RuntimeError) -> NoReturn:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        raise_permanent(f"there is no file {path} on {socket.gethostname()}", error)
    if isinstance(error, IsADirectoryError):
        raise_permanent(f"{path} is a directory, not an image file", error)
    if isinstance(error, PermissionError):
        raise_permanent(f"{path} may not be read on {socket.gethostname()}: permission denied", error)
    if isinstance(error, OSError):
        fail = raise_transient if error.errno in _TRANSIENT_ERRNO else raise_permanent
        fail(f"{path} cannot be read: {error.strerror or error}", error)
    raise_permanent(f"{path!r} is not a usable path: {error}", error)


def _read_store(uri: str, limits: Limits) -> bytes:
    files, path = fsspec.core.url_to_fs(uri)
    found = files.info(path)
    if found["type"] == "directory":
        raise_permanent(f"{uri} is a folder, not an image file")
    check_size(found.get("size") or 0, limits)
    with files.open(path, "rb") as file:
        data: bytes = file.read(limits.max_bytes + 1)
    check_size(len(data), limits, more=True)
    return data


def _fetch_store(uri: str, scheme: str, limits: Limits) -> bytes:
    if "::" in uri or scheme in _UNCHECKED:
        raise_permanent(f"{scheme}:// URLs are not supported; use a path, file://, http(s):// or an object store")
    try:
        return run_with_timeout(limits.timeout, lambda: _read_store(uri, limits))
    except ImageError:
        raise
    except ImportError as error:
        raise_permanent(f"{scheme}:// needs a package that is not installed: {error}", error)
    except FileNotFoundError as error:
        raise_permanent(f"there is no file {uri}", error)
    except PermissionError as error:
        raise_permanent(f"{uri} may not be read: permission denied", error)
    except TimeoutError as error:
        raise_transient(f"{uri} did not arrive within {limits.timeout:g} s (LOOKALIKE_FETCH_TIMEOUT)", error)
    except ValueError as error:
        raise_permanent(f"{uri} cannot be fetched: {error}", error)
    except Exception as error:  # noqa: BLE001 — each store has errors of its own, mostly network errors
        raise_transient(f"{uri} cannot be fetched: {error or type(error).__name__}", error)
