"""The page's routes: facets, samples, operation with its events, failures, and their access rules."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import db
from app.web.server_events import EventStreams


def test_facets_and_samples(reader: FlaskClient) -> None:
    found = reader.get("/v1/facets").json
    color = next(one for one in found["facets"] if one["name"] == "color")
    assert {one["value"]: one["images"] for one in color["values"]} == {"red": 15, "blue": 15}
    only = reader.get("/v1/facets", query_string={"filter": '{"color": "red"}', "name": ["price"]}).json
    assert [(one["name"], one["images"], one["minimum"]) for one in only["facets"]] == [("price", 15, 0)]
    images = reader.get("/v1/sample", query_string={"filter": '{"color": "red"}', "limit": 4}).json["images"]
    assert len(images) == 4
    assert {image["attributes"]["color"] for image in images} == {"red"}


@pytest.mark.parametrize(
    "path", ["/v1/facets?filter=[", "/v1/sample?limit=0", "/v1/sample?filter=%7B%22a%22:%7B%22$x%22:1%7D%7D"]
)
def test_bad_input_is_named(reader: FlaskClient, path: str) -> None:
    refused = reader.get(path)
    assert refused.status_code == 422
    assert refused.json["error"]["message"]


def test_sql_and_strategy(reader: FlaskClient) -> None:
    answer = reader.post("/v1/search?explain=1", json={"image_id": 4, "k": 3, "strategy": "exact"}).json
    assert answer["plan"]["strategy"] == "exact"
    assert "lookalike.similar(" in answer["sql"]
    assert "sql" not in reader.post("/v1/search", json={"image_id": 4}).json
    refused = reader.post("/v1/search", json={"image_id": 4, "diverse": 0.5, "strategy": "exact"})
    assert "diverse and strategy cannot be combined" in refused.json["error"]["message"]


def test_failures_are_shown_and_retried(client: FlaskClient, gallery_url: str) -> None:
    with db.connect(gallery_url, autocommit=True) as conn:
        conn.execute("DELETE FROM lookalike.jobs")
        conn.execute(
            "INSERT INTO lookalike.failures (space_id, image_id, uri, step, reason, attempts)"
            " SELECT 1, id, uri, 'decode', '<b>no image</b>', 1 FROM lookalike.images WHERE id IN (3, 4, 5)"
        )
    assert {one["image_id"] for one in client.get("/v1/failures").json} == {3, 4, 5}
    seen = client.get("/v1/operation").json
    assert seen["status"]["spaces"][0]["failed"] == 3
    assert seen["failures"][0]["reason"] == "<b>no image</b>"
    assert client.post("/v1/failures/retry", json={"image_ids": [3]}).json == {"queued": 1}
    assert client.post("/v1/failures/retry", json={}).json == {"queued": 2}
    assert client.get("/v1/failures").json == []
    assert client.get("/v1/operation").json["status"]["spaces"][0]["queued"] == 3


def test_another_origin_retries_nothing(reader: FlaskClient) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert reader.post("/v1/failures/retry", json={"image_ids": []}, headers=headers).status_code == 403


def test_without_a_key_no_data_is_served(make_client: Callable[..., FlaskClient], gallery_url: str) -> None:
    client = make_client(gallery_url, api_auth="keys")
    for path in ("/", "/operate", "/static/search.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        answer.close()
    for path in ("/v1/facets", "/v1/sample", "/v1/operation", "/v1/operation/events", "/v1/failures"):
        assert client.get(path).status_code == 401, path
    assert client.post("/v1/failures/retry", json={}).status_code == 401


def test_a_form_retries_nothing(reader: FlaskClient) -> None:
    """Another site can send a form without a preflight request, but not JSON."""
    assert reader.post("/v1/failures/retry", data="{}", content_type="text/plain").status_code == 415


def test_events(make_client: Callable[..., FlaskClient], gallery_url: str) -> None:
    client = make_client(gallery_url, api_threads=4)
    stream = client.get("/v1/operation/events", buffered=False)
    assert stream.mimetype == "text/event-stream"
    first = next(iter(stream.response)).decode()
    assert json.loads(first.removeprefix("data: "))["status"]["images"] == 30
    busy = client.get("/v1/operation/events")
    assert busy.status_code == 503
    assert busy.headers["Retry-After"]
    stream.close()
    again = client.get("/v1/operation/events", buffered=False)
    assert again.status_code == 200
    again.close()


def test_a_stream_outlives_the_database(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client("postgresql://nobody@127.0.0.1:1/nothing")
    stream = client.get("/v1/operation/events", buffered=False)
    event: Any = json.loads(next(iter(stream.response)).decode().removeprefix("data: "))
    assert event["error"]["code"] == "database_unavailable"
    stream.close()


def test_all_streams_share_one_read() -> None:
    reads = []
    streams = EventStreams(lambda: str(reads.append(1)), limit=8, interval=60)
    watchers = [threading.Thread(target=streams.latest) for _ in range(8)]
    for one in watchers:
        one.start()
    for one in watchers:
        one.join()
    assert len(reads) == 1


@pytest.mark.parametrize("path", ["/", "/operate", "/tradeoffs"])
def test_pages_have_no_inline_code_and_a_strict_policy(reader: FlaskClient, path: str) -> None:
    page = reader.get(path)
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    for forbidden in ("style=", "onclick=", "<style", "javascript:", "http://", "https://"):
        assert forbidden not in page.text, forbidden


def test_page_works_below_a_path(reader: FlaskClient) -> None:
    page = reader.get("/", environ_overrides={"SCRIPT_NAME": "/below"})
    assert 'data-root="/below"' in page.text
    assert 'src="/below/static/search.js"' in page.text
