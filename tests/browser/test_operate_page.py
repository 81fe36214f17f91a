"""The operator's page: live state, and retry of failures."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from app import db
from app.demo import tour
from tests.support.running import Running

Open = Callable[..., Page]


def test_a_failure_is_shown_repaired_and_retried(open_page: Open, live: Running, tmp_path, shoot) -> None:
    page = open_page("/operate", expected=("422", "503"))
    expect(page.locator("#live")).to_have_class("live on")
    expect(page.locator("#failures")).to_contain_text("No image has failed")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture at all")
    with db.connect(live.url, autocommit=True) as conn:
        conn.execute("INSERT INTO lookalike.images (uri) VALUES (%s)", [str(broken)])
    # The stream updates the page without a reload.
    failure = page.locator(".failure")
    expect(failure).to_contain_text("decode", timeout=30_000)
    expect(failure).to_contain_text(str(broken))
    shoot(page, "failure")
    broken.write_bytes((tour.GALLERY / "mammals-04.jpg").read_bytes())
    failure.get_by_role("button", name="Retry").click()
    expect(page.locator("#toast")).to_contain_text("1 queued again")
    expect(page.locator("#failures")).to_contain_text("No image has failed", timeout=30_000)


def test_recall_of_live_searches(open_page: Open, live: Running, accessible, shoot) -> None:
    with db.connect(live.url, autocommit=True) as conn:
        # Six hours with a lower recall at the end.
        conn.execute(
            "INSERT INTO lookalike.recall_checks (space_id, source, searched_at, checked_at, k, asked, plan, expected,"
            " recall, seconds) SELECT lookalike.active_space_id(), 'api', t, t, 10, 0.99, 'index', 10,"
            " CASE WHEN h < 2 AND n % 2 = 0 THEN 0.9 ELSE 1 END, 0.01"
            " FROM generate_series(0, 5) h, generate_series(1, 60) n,"
            " LATERAL (SELECT clock_timestamp() - h * interval '1 hour') c (t)"
        )
        try:
            page = open_page("/operate")
            expect(page.locator("#recall .figure.bad").first).to_contain_text("0.9500")
            expect(page.locator("#recall")).to_contain_text("Below the goal of 0.99;")
            expect(page.locator("#recall .trend")).to_have_attribute("aria-label", re.compile("6 points|7 points"))
            accessible(page)
            page.locator("#recall").scroll_into_view_if_needed()
            shoot(page, "recall")
        finally:
            conn.execute("TRUNCATE lookalike.recall_checks")


def test_readers_beyond_the_limit_of_streams_poll(open_page: Open) -> None:
    pages = [open_page("/operate", expected=("503",)) for _ in range(4)]
    for page in pages:
        expect(page.locator(".figure").first).to_contain_text("images")
    texts = [page.locator("#live-text").inner_text() for page in pages]
    # A stream whose client has just left may still occupy its slot.
    assert set(texts) <= {"Live", "Every 3 seconds"}
    assert texts.count("Live") <= 2
