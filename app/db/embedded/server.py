"""Start, share and stop the embedded server."""

import fcntl
import logging
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from app.db.embedded.place import PORT, Place, chown_to_server, environment, find_place, run_tool, socket_dir_of, tail
from app.db.embedded.sizing import settings_for, this_machine
from app.errors import ConfigurationError, ConflictError, DatabaseUnavailableError

logger = logging.getLogger(__name__)

DATABASE = "lookalike"
SUPERUSER = "postgres"
_STOP_SECONDS = 600  # a fast shutdown writes every dirty page
_LOG_BYTES = 16 * 2**20  # a larger log is rotated at the next start
_ORPHAN_SECONDS = 15.0  # backends of a killed postmaster need a moment to exit

# Not the package's PostgresServer, because it allows 10 seconds for a start, opens every parent directory to everyone
# (/root too), keeps killed users in its count, and accepts any local user as superuser.


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server. `url` works with libpq, psycopg and SQLAlchemy; `bin_dir` holds psql, pg_dump and the like."""

    data_dir: Path
    socket_dir: Path
    url: str
    bin_dir: Path
    log: Path
    pid: int


@dataclass(frozen=True)
class _Postmaster:
    """Contents of postmaster.pid; `socket_dir` is None in the first moments of a start."""

    pid: int
    socket_dir: Path | None


@contextmanager
def running(home: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedServer]:
    """Keep the server of `home` running within the block. Start it or use the running one; the last block stops it.

    Any number of processes and threads may share it. `settings` (as in postgresql.conf) apply if this call starts the
    server. The server runs in a session of its own, so a terminal's Ctrl-C ends the block and not the server. If a
    process is killed, its lock goes with it, and the next block or `stop` takes over its server. A start waits for
    crash recovery.

    Raises:
        ConfigurationError: the extra is not installed, the folder is not accessible, or its data has another version.
        DatabaseUnavailableError: the server does not start; the message ends with its log.
    """
    place = find_place(home)
    users = -1
    try:
        with _lock(place):
            users = _flock(place.base / "users.lock", fcntl.LOCK_SH)
            try:
                server = _ensure_running(place, settings or {})
            except BaseException:
                os.close(users)
                users = -1
                _stop_if_unused(place)
                raise
        yield server
    finally:
        if users >= 0:
            with _lock(place):
                # Close it and lock a new descriptor, because a forked child still holds the old one.
                os.close(users)
                _stop_if_unused(place)


def stop(home: Path) -> bool:
    """Stop the server that killed processes left in `home`; return whether one ran.

    Raises:
        ConflictError: the server is in use.
    """
    if not (home / "postgres").is_dir():
        return False
    place = find_place(home)
    with _lock(place):
        users = _flock(place.base / "users.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
        if users < 0:
            raise ConflictError(
                f"the embedded server in {home} is in use: first stop its users (lookalike up, worker, …)"
            )
        try:
            return _stop(place)
        finally:
            os.close(users)


# Locks: `start.lock` serializes starts and stops; every process that uses the server holds `users.lock` shared. The
# kernel releases them with the process, and the server inherits neither, because Python's descriptors close on exec.


@contextmanager
def _lock(place: Place) -> Iterator[None]:
    descriptor = _flock(place.base / "start.lock", fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _flock(path: Path, operation: int) -> int:
    """Return a descriptor that holds the lock, or -1 if `operation` has LOCK_NB and another process holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"cannot open {path} ({error.strerror}): run as the owner of that folder, or set LOOKALIKE_HOME to another"
        ) from error
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _stop_if_unused(place: Place) -> None:
    users = _flock(place.base / "users.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
    if users >= 0:
        try:
            _stop(place)
        finally:
            os.close(users)


def _stop(place: Place) -> bool:
    postmaster = _read_pid_file(place)
    if postmaster is None or not _is_alive(place, postmaster.pid):
        return False
    result = run_tool(
        place, "pg_ctl", "stop", "-s", "-w", "-m", "fast", "-t", str(_STOP_SECONDS), "-D", str(place.data)
    )
    if result.returncode != 0 and _is_alive(place, postmaster.pid):
        raise DatabaseUnavailableError(
            f"the server in {place.home} does not stop: {result.stderr.strip()}\n{tail(place.log)}"
        )
    if postmaster.socket_dir and postmaster.socket_dir.parent != place.base:
        shutil.rmtree(postmaster.socket_dir, ignore_errors=True)
    return True


def _ensure_running(place: Place, settings: Mapping[str, str]) -> EmbeddedServer:
    """Start the server if it does not run. The caller holds the start lock."""
    if not place.data.exists():
        _create(place, durable=settings.get("fsync") != "off")
    _check_version(place)
    postmaster = _running_postmaster(place)
    if postmaster is None or postmaster.socket_dir is None:
        _start(place, socket_dir_of(place), settings)
        postmaster = _read_pid_file(place)
    if postmaster is None or postmaster.socket_dir is None:
        raise DatabaseUnavailableError(f"the server in {place.home} stopped at once:\n{tail(place.log)}")
    _ensure_database(place, postmaster.socket_dir)
    host = quote(str(postmaster.socket_dir), safe="/")
    url = f"postgresql://{SUPERUSER}@/{DATABASE}?host={host}&port={PORT}"
    return EmbeddedServer(place.data, postmaster.socket_dir, url, place.bin_dir, place.log, postmaster.pid)


def _running_postmaster(place: Place) -> _Postmaster | None:
    """Return the running server, once it accepts connections; wait while one starts, recovers or shuts down."""
    began = reported = time.monotonic()
    while True:
        postmaster = _read_pid_file(place)
        if postmaster is None:
            return None
        # Ask the server first, because its process is invisible here if another container shares the folder.
        code = _is_ready(place, postmaster.socket_dir) if postmaster.socket_dir else 2
        if code == 0:
            return postmaster
        if code != 1 and not _is_alive(place, postmaster.pid):
            _remove_stale_locks(place, postmaster)
            return None
        if time.monotonic() - reported > 5:
            reported = time.monotonic()
            logger.info("waiting for the embedded server, %.0f s: %s", reported - began, tail(place.log, lines=1))
        time.sleep(0.1)


def _remove_stale_locks(place: Place, dead: _Postmaster) -> None:
    """Remove the lock files of a dead server, because PostgreSQL refuses to start while any process has their pid.

    That is a zombie in a container whose init reaps none, or another process in a restarted container, which counts
    from 1 again.
    """
    try:
        os.kill(dead.pid, 0)
    except ProcessLookupError:
        return  # PostgreSQL removes them itself, after checks of its own
    except PermissionError:
        pass
    (place.data / "postmaster.pid").unlink(missing_ok=True)
    if dead.socket_dir:
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (dead.socket_dir / name).unlink(missing_ok=True)


def _create(place: Place, *, durable: bool) -> None:
    """Create the data directory, sized to this machine; rename it last, so that a failed attempt leaves nothing."""
    new = place.base / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    chown_to_server(place, new)
    logger.info("creating the embedded server in %s", place.base)
    # Trust is safe because only the server's user and root can open the socket. If a user opens a TCP port, it asks
    # for a password. The builtin C.UTF-8 sorts the same on every machine.
    options = ("--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions")
    provider = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8") if place.version >= 17 else ()
    sync = () if durable else ("--no-sync",)
    result = run_tool(place, "initdb", "-U", SUPERUSER, *options, *provider, *sync, "-D", str(new))
    if result.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise DatabaseUnavailableError(f"cannot create a database in {place.base}: {result.stderr.strip()}")
    lines = [f"{name} = '{value}'" for name, value in settings_for(this_machine(new)).items()]
    conf = new / "lookalike.conf"
    conf.write_text(
        "# Sized to the machine when this folder was created; edit as you like.\n" + "\n".join(lines) + "\n"
    )
    chown_to_server(place, conf)
    with (new / "postgresql.conf").open("a") as file:
        file.write("\ninclude_if_exists = 'lookalike.conf'\n")
    new.rename(place.data)


def _check_version(place: Place) -> None:
    try:
        found = (place.data / "PG_VERSION").read_text().strip()
    except PermissionError as error:
        raise ConfigurationError(
            f"{place.data} belongs to another user: run as its owner, or set LOOKALIKE_HOME to another folder"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{place.data} is not a PostgreSQL data directory (no PG_VERSION): restore it, or remove it to start over"
        ) from error
    if found != str(place.version):
        raise ConfigurationError(
            f"{place.data} was made by PostgreSQL {found}, but the installed embedded server is {place.version}: "
            f"dump it with the old version and restore it, or set LOOKALIKE_HOME to another folder"
        )


def _start(place: Place, socket_dir: Path, settings: Mapping[str, str]) -> None:
    if place.log.exists() and place.log.stat().st_size > _LOG_BYTES:
        place.log.replace(place.log.with_suffix(".log.1"))
    if not place.log.exists():
        place.log.touch(mode=0o600)
        chown_to_server(place, place.log)
    # Our own settings come last and win, because everyone who can open the socket is superuser.
    own = {"unix_socket_directories": str(socket_dir), "unix_socket_permissions": "0700", "port": str(PORT)}
    options = {"listen_addresses": "", **settings, **own}
    arguments = " ".join(shlex.quote(part) for name, value in options.items() for part in ("-c", f"{name}={value}"))
    until = time.monotonic() + _ORPHAN_SECONDS
    while True:
        before = place.log.stat().st_size
        if _pg_ctl_start(place, arguments) == 0:
            return
        logged = tail(place.log, start=before)
        if "pre-existing shared memory block" not in logged or time.monotonic() > until:
            reason = "the disk is full" if "No space left on device" in logged else "the end of its log"
            raise DatabaseUnavailableError(f"the embedded server in {place.home} does not start; {reason}:\n{logged}")
        time.sleep(0.2)


def _pg_ctl_start(place: Place, arguments: str) -> int:
    """Start the server in a session of its own, and wait until its recovery ends. An interrupt stops it again."""
    command = [str(place.bin_dir / "pg_ctl"), "start", "-s", "-w", "-t", "1000000", "-D", str(place.data)]
    command += ["-l", str(place.log), "-o", arguments]
    identity = place.user.identity() if place.user else {}
    began = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        cwd="/",
        start_new_session=True,
        **identity,
    ) as process:
        try:
            while True:
                try:
                    return process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    waited = time.monotonic() - began
                    logger.info("the embedded server is starting, %.0f s: %s", waited, tail(place.log, lines=1))
        except BaseException:
            process.send_signal(signal.SIGINT)  # pg_ctl passes it on to the server that it waits for
            raise


def _ensure_database(place: Place, socket_dir: Path) -> None:
    server = ("-h", str(socket_dir), "-p", str(PORT), "-U", SUPERUSER)
    listed = run_tool(place, "psql", *server, "-d", "postgres", "-X", "--list", "--tuples-only", "--no-align")
    if listed.returncode == 0 and any(line.startswith(f"{DATABASE}|") for line in listed.stdout.splitlines()):
        return
    made = run_tool(place, "createdb", *server, DATABASE) if listed.returncode == 0 else listed
    if made.returncode != 0:
        raise DatabaseUnavailableError(f"cannot use the embedded server in {place.home}: {made.stderr.strip()}")


def _is_ready(place: Place, socket_dir: Path) -> int:
    """Return pg_isready's code: 0 accepts connections, 1 starts or shuts down, 2 no answer."""
    return run_tool(place, "pg_isready", "-q", "-h", str(socket_dir), "-p", str(PORT)).returncode


def _read_pid_file(place: Place) -> _Postmaster | None:
    try:
        lines = (place.data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    if not lines or not lines[0].strip().isdecimal():
        return None
    socket_dir = lines[4].strip() if len(lines) > 4 else ""
    return _Postmaster(int(lines[0]), Path(socket_dir) if socket_dir else None)


def _is_alive(place: Place, pid: int) -> bool:
    """Return whether the process is this folder's server, and not another one that reuses its pid."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        words = []
        if not Path("/proc/self/cmdline").exists():  # macOS
            shown = subprocess.run(
                ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
            )
            return "postgres" in shown.stdout and str(place.data) in shown.stdout
    return words[0].endswith("postgres") and str(place.data) in words if words else False
