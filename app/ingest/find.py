"""Find the images to ingest: files under paths, and the rows of a manifest."""

import glob
import os
import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from app.errors import InvalidInputError
from app.ingest import manifest as manifests
from app.types import Json

# Endings of image files; those of the last line are found only to be refused with a reason.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "gif", "webp", "bmp", "tif", "tiff"),
        *("avif", "jp2", "j2k", "jpx", "ppm", "pgm", "pbm", "pnm"),
        *("heic", "heif", "svg", "psd", "jxl"),
    )
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MAX_URI_BYTES = 2000  # an entry of the unique index on uri holds 2,704
_QUOTED_SCHEMES = frozenset({"http", "https", "file"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image to register as `uri`. `path` is the file with its content; None: register it without reading it.

    `origin` names it in messages: the path as found, or the line of the manifest.
    """

    uri: str
    path: Path | None
    origin: str
    caption: str | None = None
    attributes: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An image that cannot be ingested, and the reason."""

    origin: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """The images found, no uri twice. `skipped`: number of files in folders that lack an image ending."""

    candidates: list[Candidate]
    refused: list[Refusal]
    skipped: int


@dataclass(frozen=True, slots=True)
class _Root:
    """A folder that paths are relative to; `base_uri`, if given, is registered in its place."""

    folder: Path
    base_uri: str | None

    def uri(self, path: Path) -> str:
        """Return the uri of an absolute path.

        Raises:
            InvalidInputError: the name is not UTF-8, or the path is outside the folder.
        """
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError("its name is not UTF-8, and the database stores text; rename it") from error
        if self.base_uri is None:
            return str(path)
        if not path.is_relative_to(self.folder):
            raise InvalidInputError(f"it lies outside {self.folder}, which --base-uri stands for")
        relative = path.relative_to(self.folder).as_posix()
        if is_percent_encoded(self.base_uri):
            relative = quote(relative)
        return f"{self.base_uri.rstrip('/')}/{relative}"


def is_percent_encoded(base_uri: str) -> bool:
    """Return whether paths below this uri are percent-encoded."""
    return base_uri.partition("://")[0].lower() in _QUOTED_SCHEMES


def find_images(
    paths: Sequence[str], *, manifest: Path | None = None, base_uri: str | None = None, text: Collection[str] = ()
) -> Found:
    """Return the images of `paths` (folders, recursively; files; globs; CSVs) and of the manifest's rows.

    A file in both a path and a manifest is one image, with the manifest's metadata. `base_uri` is registered in place
    of the given folder, or of the manifest's folder. `text`: see manifest.read.

    Raises:
        InvalidInputError: a path does not exist, or there is no image at all.
    """
    manifest_paths = [Path(path) for path in paths if path.lower().endswith(".csv")]
    if manifest:
        manifest_paths.insert(0, manifest)
    others = [path for path in paths if not path.lower().endswith(".csv")]
    folders = [_absolute(path) for path in others if Path(path).is_dir()]
    candidates, refused = _of_manifests(manifest_paths, folders, base_uri, text)
    skipped = 0
    for given in others:
        for one in _expand(given, base_uri):
            if one is None:
                skipped += 1
            elif isinstance(one, Refusal):
                refused.append(one)
            else:
                candidates.setdefault(one.uri, one)
    if not candidates and not refused:
        where = ", ".join(map(str, (*manifest_paths, *others)))
        raise InvalidInputError(f"no image in {where}; a folder's images end in .jpg, .png, .webp, …")
    return Found(list(candidates.values()), refused, skipped)


def _of_manifests(
    paths: Sequence[Path], folders: Sequence[Path], base_uri: str | None, text: Collection[str]
) -> tuple[dict[str, Candidate], list[Refusal]]:
    candidates: dict[str, Candidate] = {}
    refused: list[Refusal] = []
    for one in (one for path in paths for one in _rows(path, folders, base_uri, text)):
        if isinstance(one, Refusal):
            refused.append(one)
        elif one.uri in candidates:
            refused.append(Refusal(one.origin, f"the same image as {candidates[one.uri].origin}"))
        else:
            candidates[one.uri] = one
    return candidates, refused


def _expand(given: str, base_uri: str | None) -> Iterator[Candidate | Refusal | None]:
    """Yield the images of a path, file or glob; None for each file in a folder that lacks an image ending."""
    if _URL.match(given):
        raise InvalidInputError(f"{given} is a URL; list URLs in the uri column of a CSV: --manifest FILE.csv")
    if os.path.lexists(given):
        matches = [given]
    else:
        matches = sorted(glob.glob(given, recursive=True))  # noqa: PTH207 — the pattern may be absolute
        if not matches:
            raise InvalidInputError(f"there is no file or folder {given}, and nothing matches it as a pattern")
    fixed = _absolute(_fixed_part(given))
    for match in matches:
        path = _absolute(match)
        if path.is_dir():
            root = _Root(path if match == given else fixed, base_uri)
            for file in _walk(path):
                yield _candidate(file, root) if isinstance(file, Path) else file
        else:
            yield _candidate(path, _Root(path.parent if match == given else fixed, base_uri))


def candidate_in(folder: Path, path: Path, base_uri: str | None) -> Candidate | Refusal:
    """Return the image in a file below `folder`, both absolute; `base_uri`, if given, stands for the folder."""
    return _candidate(path, _Root(folder, base_uri))


def _candidate(path: Path, root: _Root) -> Candidate | Refusal:
    try:
        return Candidate(_checked(root.uri(path)), path, str(path))
    except InvalidInputError as error:
        return Refusal(str(path), str(error))


def _checked(uri: str) -> str:
    size = len(uri.encode())
    if size > _MAX_URI_BYTES:
        raise InvalidInputError(f"its uri has {size:,} bytes; {_MAX_URI_BYTES:,} can be stored")
    return uri


def _absolute(path: str | Path) -> Path:
    # Not resolve(): the uri is the path as the user names it, with its links unresolved.
    return Path(os.path.abspath(path))  # noqa: PTH100


def _fixed_part(pattern: str) -> Path:
    fixed = Path()
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _walk(folder: Path) -> Iterator[Path | Refusal | None]:
    """Yield the image files below a folder in order of name; None for each file with another ending.

    Real folders come before linked ones, and each folder comes once.
    """
    waiting = deque([folder])
    linked: deque[Path] = deque()
    visited: set[tuple[int, int]] = set()
    while waiting or linked:
        here = waiting.popleft() if waiting else linked.popleft()
        try:
            status = here.stat()
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            yield Refusal(str(here), f"the folder cannot be read: {error.strerror}")
            continue
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        inner: list[Path] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                (linked if entry.is_symlink() else inner).append(Path(entry.path))
            else:
                yield Path(entry.path) if Path(entry.name).suffix.lower() in SUFFIXES else None
        waiting.extendleft(reversed(inner))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _rows(
    csv: Path, folders: Sequence[Path], base_uri: str | None, text: Collection[str]
) -> Iterator[Candidate | Refusal]:
    """Yield the images of a manifest's rows; a relative path is relative to its folder, else to one of `folders`."""
    home = _absolute(csv.parent)
    for row in manifests.read(csv, text=text):
        origin = f"{csv} line {row.line}"
        if row.error:
            yield Refusal(origin, row.error)
            continue
        try:
            uri, path = _uri_and_path(row, [home, *folders], base_uri)
            _checked(uri)
        except InvalidInputError as error:
            yield Refusal(origin, str(error))
        else:
            yield Candidate(uri, path, f"{origin}, {row.file or row.uri}", row.caption, row.attributes)


def _uri_and_path(row: manifests.Row, folders: Sequence[Path], base_uri: str | None) -> tuple[str, Path | None]:
    """Return the uri of a row's image, and the file to read if it is on this machine."""
    if row.file is not None and not _URL.match(row.file):
        found, folder = _locate(row.file, folders)
        if row.uri is None:
            return _Root(folder, base_uri).uri(found), found
        if not _URL.match(row.uri) and not Path(row.uri).is_absolute():
            raise InvalidInputError(f"its uri {row.uri} is neither a URL nor an absolute path")
        return row.uri, found
    uri = str(row.uri or row.file)
    if not _URL.match(uri):
        found, folder = _locate(uri, folders)
        return _Root(folder, base_uri).uri(found), found
    if not uri.lower().startswith("file://"):
        return uri, None
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise InvalidInputError(
            f"{uri} is not a file URL of this machine; write file:///folder/name, with ? as %3F and # as %23"
        )
    return uri, Path(url2pathname(parts.path))


def _locate(name: str, folders: Sequence[Path]) -> tuple[Path, Path]:
    for folder in folders:
        path = _absolute(folder / name)
        if os.path.lexists(path):
            return path, folder
    tried = " or ".join(map(str, dict.fromkeys(folders)))
    raise InvalidInputError(f"there is no file {name}" + ("" if Path(name).is_absolute() else f" in {tried}"))
