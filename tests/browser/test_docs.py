"""The documentation's JavaScript examples run in a page of the service."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.support.running import ROOT, Running

BLOCKS = [
    (path.name, match[1])
    for path in sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for match in re.finditer(r"^```js\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize(("name", "code"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_every_block_runs(open_page: Callable[..., Page], live: Running, name: str, code: str) -> None:
    page = open_page("/docs")
    lines: list[str] = []
    page.on("console", lambda message: lines.append(message.text))
    page.evaluate(f"(async () => {{ {code.replace('http://127.0.0.1:8000', live.api)} }})()")
    assert len(lines) == 3
    assert all(re.match(r"\d\.\d+ \S+", line) for line in lines)
