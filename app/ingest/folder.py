"""Scan a watched folder: its image files, their state, and whether they are complete.

Symbolic links are not followed, because they would let anyone who may write to the folder publish any file that the
watcher may read.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.ingest.find import SUFFIXES

# On these filesystems, changes made by other machines raise no inotify event.
_REMOTE = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gpfs"),
        *("lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "virtiofs", "vboxsf", "fuse.vmhgfs-fuse"),
    }
)
_MOUNTS = Path("/proc/self/mountinfo")
_TAIL = 64


Signature = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FileState:
    """The state of a regular file; `age` is in seconds.

    `signature` changes with the content, even if size and mtime stay: its second part is the ctime. A new name changes
    that too, so that its first part alone identifies a moved file.
    """

    signature: Signature
    size: int
    age: float


@dataclass(slots=True)
class SkippedFiles:
    """What a scan skipped: symbolic links, files with other endings, folders that cannot be read."""

    links: int = 0
    others: int = 0
    closed: int = 0


def stat_file(path: Path | str, now: float) -> FileState | None:
    """Return the state of the file at `path` at the time `now`; None unless it is a regular file."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    moved_with = hash((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    signature = (moved_with, status.st_ctime_ns)
    return FileState(signature, status.st_size, now - status.st_mtime)


def is_wanted(path: str, folder: Path) -> bool:
    """Return whether the name of a file below `folder` is that of an image, and no part of it begins with a dot."""
    name = Path(path)
    return (
        name.suffix.lower() in SUFFIXES
        and name.is_relative_to(folder)
        and not any(part.startswith(".") for part in name.relative_to(folder).parts)
    )


def scan(folder: Path, skipped: SkippedFiles) -> Iterator[str]:
    """Yield the image files below `folder`, and count all others in `skipped`.

    Raises:
        OSError: `folder` itself cannot be read.
    """
    waiting = [str(folder)]
    while waiting:
        here = waiting.pop()
        try:
            entries = list(os.scandir(here))
        except OSError:
            if here == str(folder):
                raise
            skipped.closed += 1
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                skipped.links += 1
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif Path(entry.name).suffix.lower() in SUFFIXES:
                yield entry.path
            else:
                skipped.others += 1


def looks_complete(path: str) -> bool:
    """Guess from its first and last bytes whether a file is complete.

    Files of formats without an end mark count as complete. The guess only decides how long to wait for more bytes.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            head = file.read(16)
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _TAIL))
            tail = file.read(_TAIL)
    except OSError:
        return True  # the next reader reports why it cannot be read
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    if head.startswith(b"GIF8"):
        return tail.rstrip(b"\0").endswith(b";")
    if head.startswith(b"RIFF"):
        return size >= int.from_bytes(head[4:8], "little") + 8
    if head.startswith(b"BM"):
        return size >= int.from_bytes(head[2:6], "little")
    return head.strip(b"\0") != b""


def remote_filesystem(folder: Path, mounts: str | None = None) -> str | None:
    """Return the type of a folder's filesystem if it is a network filesystem, else None.

    `mounts` is the text of a mountinfo file, by default that of this process; see mountinfo(5).
    """
    try:
        lines = (mounts if mounts is not None else _MOUNTS.read_text(encoding="utf-8", errors="replace")).splitlines()
    except OSError:
        return None
    kind, depth = "", -1
    real = Path(os.path.realpath(folder))
    for line in lines:
        fields = line.split()
        point = Path(fields[4].replace("\\040", " "))
        if real.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = fields[fields.index("-") + 1], len(point.parts)
    return kind if kind in _REMOTE else None
