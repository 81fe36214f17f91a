"""The search page, used as visitors use it."""

import json
import re
import subprocess
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from app import db
from app.db.embedded import EmbeddedServer
from app.demo import tour
from app.store import api_keys
from tests.support import running
from tests.support.browser import LOOKS
from tests.support.running import Running

Open = Callable[..., Page]
PICTURE = tour.GALLERY / "mammals-02.jpg"


def tiles(page: Page):
    return page.locator(".tile:not(.skeleton)")


def state(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def ready(page: Page) -> None:
    expect(page.locator("#grid")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#facets details").first).to_be_attached()
    expect(page.locator(".look img.here").first).to_be_visible()


def test_a_visitor_sees_pictures_at_once(open_page: Open, shoot) -> None:
    page = open_page("/")
    ready(page)
    expect(tiles(page)).to_have_count(60)
    shoot(page, "landing")
    first = tiles(page).first.get_attribute("data-id")
    page.get_by_role("button", name="Show others").click()
    expect(tiles(page).first).not_to_have_attribute("data-id", first or "")


def test_click_back_forward_and_share(open_page: Open) -> None:
    page = open_page("/")
    ready(page)
    chosen = tiles(page).nth(3).get_attribute("data-id")
    tiles(page).nth(3).locator(".look").click()
    expect(page.locator("#summary")).to_contain_text("24 images")
    assert state(page) == {"image": [chosen]}
    expect(page.locator(f'.tile[data-id="{chosen}"]')).to_have_count(0)
    distances = [float(text) for text in page.locator(".distance").all_inner_texts()]
    assert len(distances) == 24
    assert distances == sorted(distances)
    found = [one.get_attribute("data-id") for one in tiles(page).all()]
    page.go_back()
    expect(tiles(page)).to_have_count(60)
    page.go_forward()
    expect(tiles(page)).to_have_count(24)
    shared = open_page(page.url.removeprefix(page.url.split("/?")[0]))
    expect(tiles(shared)).to_have_count(24)
    assert [one.get_attribute("data-id") for one in tiles(shared).all()] == found


def test_filters_come_from_the_data(open_page: Open, live: Running, shoot) -> None:
    page = open_page("/?image=5")
    ready(page)
    with db.connect(live.url) as conn:
        rows = conn.execute(
            "SELECT attributes ->> 'category', count(*) FROM lookalike.images"
            " WHERE attributes ? 'category' GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
    name, count = rows[0]
    row = page.locator("#facets details[data-name=categorytext] li").first
    expect(row).to_contain_text(str(name))
    expect(row).to_contain_text(str(count))
    row.get_by_role("checkbox").check()
    expect(page.locator(".chip")).to_contain_text(str(name))
    assert json.loads(state(page)["filter"][0]) == {"category": name}
    # The other values stay visible with their counts.
    expect(page.locator("#facets details[data-name=categorytext] li")).not_to_have_count(1)
    most = page.get_by_label("brightness, at most")
    most.fill("200")
    most.press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    assert json.loads(state(page)["filter"][0]) == {"category": name, "brightness": {"$lte": 200}}
    shoot(page, "filters")
    page.get_by_role("button", name=re.compile("^Remove filter category")).click()
    expect(page.locator(".chip")).to_have_count(1)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".chip")).to_have_count(0)
    page.get_by_text("Filter as JSON").first.click()
    page.locator("#raw").fill('{"$or": [{"color": "red"}]}')
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".chip")).to_have_count(1)
    page.locator("#raw").fill("{oops")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#raw-problem")).to_contain_text("not JSON")


def test_options_sql_and_plan(open_page: Open, server: EmbeddedServer, live: Running, shoot) -> None:
    page = open_page("/?image=5", permissions=["clipboard-read", "clipboard-write"])
    ready(page)
    page.get_by_label("Results").select_option("12")
    expect(tiles(page)).to_have_count(12)
    page.get_by_role("button", name="SQL & plan").click()
    plan = page.locator(".explain-side .plan")
    page.get_by_text("Exact", exact=True).click()
    expect(plan).to_contain_text("exact")
    assert state(page) == {"image": ["5"], "k": ["12"], "mode": ["exact"]}
    page.get_by_text("Index", exact=True).click()
    expect(plan).to_contain_text("index")
    expect(plan).to_contain_text("asked for")
    shoot(page, "plan")
    page.get_by_role("button", name="Copy SQL").click()
    expect(page.locator("#toast")).to_have_text("Copied")
    text = page.evaluate("navigator.clipboard.readText()")
    found = [one.get_attribute("data-id") for one in tiles(page).all()]
    psql = subprocess.run(
        [server.bin_dir / "psql", live.url, "-X", "-At", "-F", "|", "-c", text],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split("|")[0] for line in psql.stdout.splitlines()] == found
    page.get_by_label("Variety").select_option("diverse")
    expect(page.get_by_label("Relevance against diversity")).to_be_visible()
    expect(page.get_by_role("radio", name="Index")).to_be_disabled()
    page.get_by_label("Variety").select_option("distinct")
    expect(page.get_by_label("Minimum distance apart")).to_be_visible()
    page.get_by_label("Variety").select_option("")
    page.locator("#radius").fill("0.1")
    expect(page.locator("#notice")).to_contain_text("Nothing was found")
    page.get_by_role("button", name="At any distance").click()
    expect(tiles(page)).to_have_count(12)


def test_a_picture_chosen_and_dropped(open_page: Open, tmp_path, shoot) -> None:
    page = open_page("/", expected=("422",))
    ready(page)
    page.locator("#file").set_input_files(PICTURE)
    expect(tiles(page)).to_have_count(24)
    expect(page.locator(".subject")).to_contain_text("mammals-02.jpg")
    # The picture is in the gallery, so it finds itself first.
    expect(page.locator(".distance").first).to_have_text(re.compile(r"^0\.0"))
    shoot(page, "picture")
    page.reload()
    expect(tiles(page)).to_have_count(24)
    elsewhere = open_page(page.url.removeprefix(page.url.split("/?")[0]))
    expect(elsewhere.locator("#notice")).to_contain_text("This picture is no longer here")
    transfer = page.evaluate_handle(
        "() => { const carried = new DataTransfer();"
        " carried.items.add(new File(['no picture'], 'x.png', {type: 'image/png'})); return carried; }"
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.get_by_role("alert")).to_contain_text("This picture cannot be read")


def test_words_examples_and_keys(open_page: Open, shoot) -> None:
    page = open_page("/")
    ready(page)
    page.keyboard.press("/")
    expect(page.locator("#words")).to_be_focused()
    page.keyboard.type("dog")
    page.keyboard.press("Enter")
    expect(page.locator(".name").first).to_contain_text(re.compile("dog", re.IGNORECASE))
    assert state(page) == {"words": ["dog"]}
    tiles(page).first.locator(".look").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("24 images")
    page.locator(".look").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".look").nth(1)).to_be_focused()
    liked, unliked = (tiles(page).nth(at).get_attribute("data-id") for at in (2, 5))
    page.locator(f'.tile[data-id="{unliked}"] .less').click()
    expect(page.locator(".subject.unlike")).to_have_count(1)
    page.locator(f'.tile[data-id="{liked}"] .more').click()
    expect(page.locator(".subject")).to_have_count(3)
    assert state(page)["like"] == [liked]
    assert state(page)["unlike"] == [unliked]
    expect(page.locator(f'.tile[data-id="{liked}"]')).to_have_count(0)
    shoot(page, "examples")
    page.get_by_role("button", name="Details of").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("brightness")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_words_that_are_nowhere_and_errors_help(open_page: Open) -> None:
    page = open_page("/?words=xyzzy", expected=("404",))
    expect(page.locator("#notice")).to_contain_text("No caption or attribute contains “xyzzy”")
    page.goto("/?image=999999")
    expect(page.get_by_role("alert")).to_contain_text("there is no image 999999")
    page.goto("/?k=bogus&filter={&image=-1&like=a,b&mode=magic")
    expect(tiles(page)).to_have_count(60)


def test_markup_and_quotes_are_text(open_page: Open, tmp_path) -> None:
    page = open_page("/")
    odd = tmp_path / 'it\'s "quoted" <b>&.jpg'
    odd.write_bytes(PICTURE.read_bytes())
    evil = "<img src=x onerror=\"document.title='hacked'\"></p><script>alert(1)</script> xylophagous"
    add = (
        "async (body) => (await fetch('v1/images', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        " body: JSON.stringify(body)})).status"
    )
    attributes = {"<b>key</b>": "<i>xylophagous</i>"}
    assert page.evaluate(add, {"uri": str(odd), "attributes": attributes}) == 201
    assert page.evaluate(add, {"uri": str(tour.GALLERY / "../gallery/mammals-03.jpg"), "caption": evil}) == 201
    page.goto("/?words=xylophagous")
    expect(tiles(page)).to_have_count(2)
    names = page.locator(".name")
    expect(names.filter(has_text="<script>alert(1)</script>")).to_have_count(1)
    expect(names.filter(has_text='it\'s "quoted" <b>&.jpg')).to_have_count(1)
    page.get_by_role("button", name="Details of it's").click()
    expect(page.get_by_role("dialog")).to_contain_text("<b>key</b>")
    expect(page.locator("main b, main i, main script")).to_have_count(0)
    expect(page).to_have_title("Search · Lookalike")


def test_a_server_that_wants_a_key(open_page: Open, live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with db.connect(live.url, autocommit=True) as conn:
        key, _ = api_keys.create(conn, "browser", scope="search")
    monkeypatch.setenv("LOOKALIKE_API_AUTH", "keys")
    with running.live_api(live.url) as api:
        page = open_page("/", base=api, expected=("401",))
        field = page.get_by_label("API key", exact=True)
        field.fill("lk_wrong")
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#key-problem")).to_contain_text("API key")
        field.fill(key)
        page.get_by_role("button", name="Use this key").click()
        ready(page)
        assert page.locator(".look img.here").first.get_attribute("src").startswith("blob:")
        assert key not in page.url
        tiles(page).first.locator(".look").click()
        expect(page.locator("#summary")).to_contain_text("24 images")
        page.get_by_role("button", name="Forget key").click()
        expect(page.get_by_role("dialog")).to_be_visible()


@pytest.mark.parametrize("look", LOOKS)
def test_accessible(open_page: Open, accessible, shoot, look: str) -> None:
    page = open_page(
        "/?image=42&like=50&unlike=60&filter=" + json.dumps({"category": "animals"}), expected=("503",), **LOOKS[look]
    )
    ready(page)
    page.get_by_role("button", name="SQL & plan").click()
    accessible(page)
    shoot(page, f"search-{look}")
    page.get_by_role("button", name="Details of").first.click()
    expect(page.get_by_role("dialog").locator("img.here")).to_be_visible()
    accessible(page)
    shoot(page, f"detail-{look}")
    page.keyboard.press("Escape")
    if look == "narrow":
        page.get_by_role("button", name="Filters", exact=True).click()
        accessible(page)
        shoot(page, "filters-narrow")
        page.keyboard.press("Escape")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto("/operate")
    expect(page.locator("#live")).to_have_class("live on")
    accessible(page)
    shoot(page, f"operate-{look}")


def test_colours_can_be_chosen(open_page: Open) -> None:
    page = open_page("/", color_scheme="light")
    ready(page)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()
    page.locator("#theme").click()
    expect(page.locator("#theme")).to_have_attribute("aria-label", "Colours: dark")
    assert page.evaluate(ground) != light
    page.reload()
    assert page.evaluate(ground) != light
