"""bench.freshness runs from end to end and makes its table from the file that it wrote. No number is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.freshness import report
from tests.support import running

pytestmark = pytest.mark.long


def test_it_runs_and_its_table_comes_from_its_file(tmp_path: Path):
    out, readme = tmp_path / "freshness.json", tmp_path / "README.md"
    command = [sys.executable, "-m", "bench.freshness", "--out", str(out), "--readme", str(readme)]
    environment = running.environment("", OMP_NUM_THREADS="1", LOOKALIKE_PRECISION="fp32", LOOKALIKE_BATCH_SIZE="4")
    subprocess.run([*command, "--quick"], env=environment, check=True, timeout=300)
    found = json.loads(out.read_text())
    assert {name: len(taken) for name, taken in found["idle"]["seconds"].items()} == dict.fromkeys(
        ("model", "searchable", "query"), 2
    )
    assert [part["queries"] for part in found["backlog"]] == ["none", "some", "flood"]
    assert found["idle"]["counted"]["searchable"]["count"] == 2
    readme.write_text(f"before\n{report.MARKERS[0]}\nold\n{report.MARKERS[1]}\nafter\n")
    subprocess.run([*command, "--report"], env=environment, check=True, timeout=60)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "commit → searchable, idle worker" in text
