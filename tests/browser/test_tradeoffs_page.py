"""The trade-offs page: measurements, the cost of a recall, and the choice in use."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from app import db
from app.index.spec import parse_spec
from app.store import spaces
from app.tuning import results
from app.tuning.apply import current_text
from app.tuning.records import Measurement, Request
from tests.support.browser import LOOKS
from tests.support.running import Running

Open = Callable[..., Page]

# Choice, recall, p50, bytes of the index for 20,000 images, seconds of its build.
MEASURED = (
    ("exact", 1.0, 46.0, 0, 0.0),
    ("hnsw(m=16,ef_construction=64,ef_search=40)", 0.962, 1.0, 82_000_000, 12.4),
    ("hnsw(m=16,ef_construction=64,ef_search=200)", 0.9951, 2.3, 82_000_000, 12.4),
    ("ivfflat(lists=141,probes=12)", 0.88, 1.6, 52_000_000, 2.1),
    ("pca(128,m=16)+rerank(50)", 0.989, 1.6, 11_200_000, 4.9),
    ("bits(512,m=8)+rerank(100)", 0.992, 2.2, 5_300_000, 4.6),
    ("bits(512,m=8)+rerank(400)", 1.0, 6.9, 5_300_000, 4.6),
    ("bits(512,m=8)+rerank(150)", 0.9962, 2.6, 5_300_000, 4.8),
)


@pytest.fixture(scope="module")
def measured(live: Running) -> Callable[[], None]:
    """Store measurements, the choice in use among them, as `lookalike tradeoffs` would, only once."""

    def fill() -> None:
        with db.connect(live.url, autocommit=True) as conn:
            space = spaces.active(conn)
            if results.latest(conn, space) is not None:
                return
            rows = [*MEASURED, (current_text(space), 0.987, 1.5, 82_000_000, 12.4)]
            request = Request(choices=tuple(row[0] for row in rows))
            run = results.begin(conn, space, request, rows_total=20_000, conditions={"cores": 2})
            results.add(conn, run, [_measurement(*row) for row in rows])
            results.end(conn, run)

    return fill


def _measurement(choice: str, recall: float, p50: float, index_bytes: int, seconds: float) -> Measurement:
    return Measurement(
        choice=choice,
        options=parse_spec(choice).options(),
        rows=20_000,
        k=10,
        recall=recall,
        recall_floor=recall if choice == "exact" else recall - 0.004,
        label_precision=None,
        p50_ms=p50,
        p95_ms=p50 * 1.6,
        p99_ms=p50 * 2,
        p95_ceiling_ms=p50 * 1.8,
        qps={"1": 1000 / p50, "4": 1700 / p50},
        build_seconds=seconds,
        insert_ms=0.3 + seconds / 20,
        index_bytes=index_bytes,
        table_bytes=54_000_000,
        memory_bytes=index_bytes * 2,
        query_ms=[p50] * 10,
        query_recalls=[recall] * 10,
    )


def test_what_recall_costs(open_page: Open, accessible, shoot, measured: Callable[[], None]) -> None:
    page = open_page("/tradeoffs")
    expect(page.locator("#empty")).to_contain_text("Nothing has been measured yet")
    expect(page.locator("#empty code").nth(1)).to_have_text("lookalike tradeoffs --quick")
    accessible(page)
    shoot(page, "tradeoffs-empty")
    measured()
    page.reload()
    expect(page.locator("#chart-latency .mark")).to_have_count(len(MEASURED) + 1)
    expect(page.locator("#about")).to_contain_text("20,000 images, k 10")
    expect(page.locator(".mark.current")).to_have_count(3)
    picked, slider = page.locator(".picked code"), page.get_by_label("Recall, at least")
    expect(picked).to_have_text("bits(512,m=8)+rerank(100)")  # the fastest with 0.99
    expect(page.locator("#price .figure b")).to_have_text(["2.2 ms", "3.0 kB", "4.6 s"])
    expect(page.locator("#price .than").first).to_have_text("1.5 × as much as now")
    expect(page.locator(".command code").last).to_have_text("lookalike tune --recall 0.99")
    slider.press("End")
    expect(page.locator("#recall-value")).to_have_text("1")
    expect(picked).to_have_text("bits(512,m=8)+rerank(400)")
    page.get_by_role("radio", name="build time").check()
    expect(picked).to_have_text("exact")
    assert page.url.endswith("?recall=1&by=build")
    page.reload()
    expect(picked).to_have_text("exact")
    expect(page.get_by_role("radio", name="build time")).to_be_checked()


def test_marks_describe_and_select_choices(open_page: Open, measured: Callable[[], None]) -> None:
    measured()
    page = open_page("/tradeoffs")
    mark = page.locator('#chart-latency .mark[aria-label^="pca"]')
    mark.hover()
    tip = page.locator("#chart-latency .tip")
    expect(tip).to_contain_text("pca(128,m=16)+rerank(50)")
    expect(tip).to_contain_text("p50 1.6 ms, p95 2.6 ms")
    mark.click()
    expect(page.locator(".picked code")).to_have_text("pca(128,m=16)+rerank(50)")
    expect(page.locator('[role="option"][aria-selected="true"]')).to_have_count(3)
    expect(page.locator("tr.chosen code")).to_have_text("pca(128,m=16)+rerank(50)")
    # Arrow keys move to the next better recall, in another chart too.
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".picked code")).to_have_text("bits(512,m=8)+rerank(100)")
    page.locator('#chart-storage .mark[tabindex="0"]').focus()
    page.keyboard.press("Home")
    expect(page.locator("#chart-storage .tip")).to_contain_text("ivfflat(lists=141,probes=12)")
    page.keyboard.press("Escape")
    expect(page.locator("#chart-storage .tip")).to_be_hidden()


@pytest.mark.parametrize("look", LOOKS)
def test_accessible(open_page: Open, accessible, shoot, measured: Callable[[], None], look: str) -> None:
    measured()
    page = open_page("/tradeoffs", **LOOKS[look])
    expect(page.locator("#chart-build .mark").first).to_be_visible()
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": page.viewport_size["width"], "height": 1900})
    shoot(page, f"tradeoffs-{look}")
