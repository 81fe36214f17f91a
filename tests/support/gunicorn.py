"""Run `lookalike serve` in a process of its own."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.running import ROOT

SCRIPT = """
import os
from contextlib import contextmanager
from app.config import Settings
from app.web.server import serve

@contextmanager
def around():
    try:
        yield
    finally:
        print("left by", os.getpid(), flush=True)

with around():
    serve(Settings(), os.environ["LOOKALIKE_DATABASE_URL"])
"""


@contextmanager
def gunicorn(
    url: str, home: Path, command: Sequence[str] = ("-c", SCRIPT)
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run the server on a free port; yield its address and process."""
    settings = {"DATABASE_URL": url, "PORT": "0", "API_WORKERS": "2", "API_THREADS": "2", "HOME": str(home)}
    environment = {**os.environ, **{f"LOOKALIKE_{name}": value for name, value in settings.items()}}
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0], process
                return
        pytest.fail("".join(lines))
    finally:
        process.terminate()
        process.communicate(timeout=40)


def fetched(address: str, body: object = None) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(address, headers={"Content-Type": "application/json"})
    if body is not None:
        request.data = json.dumps(body).encode()
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.status, json.load(response)
