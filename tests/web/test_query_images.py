"""Search by an uploaded picture: through the database to a real worker and back."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import db
from app.config import Settings
from app.demo import tour
from app.ingest.find import find_images
from app.ingest.register import register_images
from app.web import create_app
from app.web.services import EXTENSION
from tests.support.api import refused
from tests.support.images import encoded, picture
from tests.support.running import live_worker

IMAGES = 12


@pytest.fixture(scope="module")
def served(
    new_database: Callable[..., str], template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlaskClient]:
    """The API on some of the demo gallery, with a live worker that has embedded it."""
    url = new_database(template)
    found = find_images([], manifest=tour.MANIFEST)
    with db.connect(url, autocommit=True) as conn:
        for _ in register_images(conn, found.candidates[:IMAGES], max_bytes=2**26, max_pixels=10**8):
            pass
        with live_worker(url):
            conn.execute("SET statement_timeout = '120s'")
            while conn.execute("SELECT count(*) FROM lookalike.gallery").fetchone() != (IMAGES,):
                conn.execute("SELECT pg_sleep(0.1)")
            app = create_app(Settings(home=tmp_path_factory.mktemp("home")), url)
            yield app.test_client()
            app.extensions[EXTENSION].database.close()


def searched(client: FlaskClient, data: bytes, query: str = "", **fields: str) -> Any:
    form = {"image": (io.BytesIO(data), "query"), **fields}
    return client.post(f"/v1/search{query}", data=form, content_type="multipart/form-data")


def test_a_picture_finds_itself(served: FlaskClient) -> None:
    image = served.get("/v1/images/3").json
    response = searched(served, Path(image["uri"]).read_bytes(), "?explain=1", k="3")
    assert response.status_code == 200, response.text
    results = response.json["results"]
    assert len(results) == 3
    assert results[0]["image"]["id"] == 3
    assert results[0]["distance"] < 0.05
    assert response.json["timings"]["embed_ms"] > 0
    assert response.headers["Server-Timing"].startswith("embed;dur=")


def test_options_come_as_json_texts(served: FlaskClient) -> None:
    image = served.get("/v1/images/3").json
    data = Path(image["uri"]).read_bytes()
    without = searched(served, data, exclude="[3]", k="100").json["results"]
    assert len(without) == IMAGES - 1
    category = image["attributes"]["category"]
    filtered = searched(served, data, filter=f'{{"category": "{category}"}}', k="100").json["results"]
    assert {one["image"]["attributes"]["category"] for one in filtered} == {category}


def test_what_cannot_be_decoded(served: FlaskClient) -> None:
    refused(searched(served, encoded(picture(), "PNG")[:2000]), 422, "image_error", "PNG")


def test_no_worker(client: FlaskClient) -> None:
    response = searched(client, encoded(picture(), "PNG"))
    refused(response, 503, "no_worker", "lookalike worker")
    assert int(response.headers["Retry-After"]) > 0


def test_a_picture_with_words_examples_and_pages(served: FlaskClient) -> None:
    image = served.get("/v1/images/3").json
    data = Path(image["uri"]).read_bytes()
    fused = searched(served, data, text=f'"{image["caption"]}"', k="1")
    assert fused.status_code == 200, fused.text
    assert fused.json["results"][0]["image"]["id"] == 3
    assert fused.json["results"][0]["text_score"] > 0
    examples = searched(served, data, like="[5]", unlike="[7]", k="100").json["results"]
    assert {one["image"]["id"] for one in examples} == set(range(1, IMAGES + 1)) - {5, 7}
    groups = searched(served, data, group_by="category").json["results"]
    assert groups[0]["group"] == image["attributes"]["category"]
    seen: list[int] = []
    cursor = "start"
    while cursor:
        page = searched(served, data, cursor=cursor, k="5").json
        seen += [one["image"]["id"] for one in page["results"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == list(range(1, IMAGES + 1))
    other = searched(
        served, encoded(picture(), "PNG"), cursor=searched(served, data, cursor="start", k="5").json["next_cursor"]
    )
    refused(other, 422, "invalid_input", "the cursor belongs to another search")
