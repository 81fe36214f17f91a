"""Headless Chromium on the demo gallery.

A page fails its test at an error, a violation of the policy or a request to another host. Screenshots go to
build/screenshots.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.running import ROOT, Running

SHOTS = ROOT / "build" / "screenshots"
AXE = (Path(__file__).parent / "axe.min.js").read_text(encoding="utf-8")

# Without these options Chromium contacts Google's hosts at every start.
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("the browser tests need Chromium at hand: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(_QUIET))
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser, live: Running) -> Iterator[Callable[..., Page]]:
    """Open a page of the live gallery; options go to the browser context. `expected`: errors that may occur."""
    problems: list[str] = []
    contexts = []

    def opened(path: str = "/", *, base: str = live.api, expected: tuple[str, ...] = (), **options: object) -> Page:
        context = browser.new_context(base_url=base, **{"viewport": {"width": 1400, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()

        def check_console(message) -> None:
            if message.type in ("error", "warning") and not any(one in message.text for one in expected):
                problems.append(f"console: {message.text}")

        def asked(request) -> None:
            if urlsplit(request.url).scheme not in ("data", "blob") and not request.url.startswith(base + "/"):
                problems.append(f"foreign: {request.url}")

        page.on("console", check_console)
        page.on("pageerror", lambda error: problems.append(f"uncaught: {error}"))
        page.on("request", asked)
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def accessible() -> Callable[[Page], None]:
    """Check a page with axe-core against WCAG 2.2 A and AA."""

    def check(page: Page) -> None:
        # In an isolated world, because the page's policy allows no other script.
        page.evaluate(AXE)
        found = page.evaluate(
            "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
        )
        violations = [
            (one["id"], one["help"], [node["html"][:160] for node in one["nodes"][:4]]) for one in found["violations"]
        ]
        assert not violations

    return check


@pytest.fixture
def shoot() -> Callable[[Page, str], None]:
    """Save a screenshot of a page."""
    SHOTS.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str) -> None:
        page.screenshot(path=SHOTS / f"{name}.png", animations="disabled")

    return take
