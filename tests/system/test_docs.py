"""Run every command and statement of the docs, in the order of each page, on a gallery with worker and API."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.config import Settings
from app.db.embedded import EmbeddedServer
from tests.support import videos
from tests.support.running import Running

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Indented within the step of a list, or not.
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)

# Commands that are not run here, because they start what runs already or need other machines; see where instead.
ELSEWHERE = {
    "make demo": ".ci/run runs it",
    "make test": "this is it",
    "lookalike worker": "tests/workers/test_worker.py",
    "lookalike serve": "tests/cli/test_processes.py",
    "lookalike ingest --watch pictures": "tests/cli/test_processes.py",
    "LOOKALIKE_IMAGE_HOSTS=camera.local lookalike ingest rtsp://me:pass@camera.local/front --fps 2 --max-lag 30": (
        "tests/ingest/test_frames.py has a camera"
    ),
    'export LOOKALIKE_DATABASE_URL="postgresql://lookalike@db.example.com/lookalike"': "a host of yours",
    "POSTGRES_PASSWORD=secret docker compose up --build --detach": "tests/system/test_deployment.py checks the file",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    code: str
    line: int


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(match[2], textwrap.dedent(match[3]), text.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(text)
    ]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A working folder with a few pictures and a video."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    gallery = ROOT / "app/demo/gallery"
    shutil.copy(gallery / "beverages-05.jpg", pictures / "teapot.jpg")
    shutil.copy(gallery / "beverages-06.jpg", pictures / "cup of tea.jpg")
    videos.make(tmp_path / "clip.mp4")
    return tmp_path


@pytest.fixture
def run(server: EmbeddedServer, live: Running, desk: Path) -> Callable[[Block], None]:
    environment = {
        **os.environ,
        "LOOKALIKE_DATABASE_URL": live.url,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    def run_block(block: Block) -> None:
        if block.language == "sql":
            command = [str(server.bin_dir / "psql"), live.url, "-v", "ON_ERROR_STOP=1", "-f", "-"]
            given = block.code
        elif block.language == "sh":
            lines = [line for line in block.code.splitlines() if line.split("  #")[0].strip() not in ELSEWHERE]
            given = (
                "\n".join(lines)
                .replace("http://127.0.0.1:8000", live.api)
                .replace("curl -s", "curl -sS --fail-with-body")
            )
            command = ["bash", "-euo", "pipefail"]
        elif block.language == "python":
            command, given = [sys.executable, "-"], block.code.replace("http://127.0.0.1:8000", live.api)
        else:
            return
        done = subprocess.run(
            command, input=given, env=environment, cwd=desk, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"line {block.line}:\n{given}\n{done.stdout}\n{done.stderr}"

    return run_block


def runs(page: Path) -> bool:
    """Whether the page has a block to run here.

    tests/db/test_reference.py runs the examples of docs/sql.md, each in a transaction that is rolled back.
    """
    return _name(page) != "docs/sql.md" and any(block.language in {"sh", "sql", "python"} for block in blocks(page))


@pytest.mark.parametrize("page", list(filter(runs, PAGES)), ids=_name)
def test_every_block_of_the_page_runs(page: Path, run: Callable[[Block], None]) -> None:
    for block in blocks(page):
        run(block)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_existing_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{_name(page)} links to {target}"


def test_ci_runs_the_commands_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for command in ("make demo", "make test"):
        assert command in ELSEWHERE
        assert command in script


def test_settings_page_has_every_setting_as_it_is_declared() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        assert f"| `LOOKALIKE_{name.upper()}` | {default} | {field.description} |" in page
