"""Idempotency keys, If-Match, batches and lists."""

import json
import random
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import db
from tests.support.api import refused, upload
from tests.support.images import encoded, picture


def count(url: str) -> int:
    with db.connect(url) as conn:
        row = conn.execute("SELECT count(*) FROM lookalike.images").fetchone()
    assert row is not None
    return int(str(row[0]))


KEY = {"Idempotency-Key": "order-17"}


def test_the_same_request_twice_has_one_effect(client: FlaskClient, gallery_url: str) -> None:
    first = client.post("/v1/images", json={"uri": "/a"}, headers=KEY)
    again = client.post("/v1/images", json={"uri": "/a"}, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["ETag"] == first.headers["ETag"]
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    assert count(gallery_url) == 31
    refused(client.post("/v1/images", json={"uri": "/b"}, headers=KEY), 422, "invalid_input", "'order-17'", "new key")
    refused(client.delete("/v1/images/1", headers=KEY), 422, "invalid_input")
    assert count(gallery_url) == 31
    deleted = [client.delete("/v1/images/1", headers={"Idempotency-Key": "x"}) for _ in range(2)]
    assert [one.status_code for one in deleted] == [204, 204]


def test_two_concurrent_requests_have_one_effect(client: FlaskClient, gallery_url: str) -> None:
    def add(_: int) -> tuple[int, Any]:
        response = client.application.test_client().post("/v1/images", json={"uri": "/a"}, headers=KEY)
        return response.status_code, response.json["id"]

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(add, range(12)))) == 1
    assert count(gallery_url) == 31


def test_errors_are_not_stored(client: FlaskClient) -> None:
    refused(client.post("/v1/images", json={"uri": "/gallery/1.png"}, headers=KEY), 409, "conflict")
    assert client.delete("/v1/images/1").status_code == 204
    assert client.post("/v1/images", json={"uri": "/gallery/1.png"}, headers=KEY).status_code == 201


def test_an_upload_is_the_same_whatever_its_boundary(client: FlaskClient, tmp_path: Path) -> None:
    data = encoded(picture(), "PNG")

    def send(key: str, content: bytes, boundary: str) -> Any:
        form = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'.encode()
        body = form + content + f"\r\n--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return client.post("/v1/images", data=body, content_type=kind, headers={"Idempotency-Key": key})

    first, again = send("k", data, "abc"), send("k", data, "xyz")
    assert (first.status_code, again.json) == (201, first.json)
    assert Path(first.json["uri"]).read_bytes() == data
    refused(send("k", encoded(picture((9, 9)), "PNG"), "abc"), 422, "invalid_input")


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
def test_bad_idempotency_keys(reader: FlaskClient, key: str) -> None:
    refused(reader.patch("/v1/images/1", json={}, headers={"Idempotency-Key": key}), 422, "invalid_input", "printable")


def test_responses_are_stored_for_24_hours(client: FlaskClient, gallery_url: str) -> None:
    client.post("/v1/images", json={"uri": "/a"}, headers=KEY)
    client.post("/v1/images", json={"uri": "/c"}, headers={"Idempotency-Key": "other"})
    with db.connect(gallery_url) as conn:
        conn.execute("UPDATE lookalike.api_answers SET answered_at = answered_at - interval '25 h'")
    assert client.post("/v1/images", json={"uri": "/b"}, headers=KEY).status_code == 201
    with db.connect(gallery_url) as conn:
        assert conn.execute("SELECT idempotency_key FROM lookalike.api_answers").fetchall() == [("order-17",)]


def test_a_lost_update_is_refused(client: FlaskClient) -> None:
    read = client.get("/v1/images/4")
    tag = {"If-Match": read.headers["ETag"]}
    changed = client.patch("/v1/images/4", json={"caption": "first"}, headers=tag)
    assert changed.status_code == 200
    refused(
        client.patch("/v1/images/4", json={"caption": "second"}, headers=tag), 412, "precondition_failed", "image 4"
    )
    refused(client.delete("/v1/images/4", headers=tag), 412, "precondition_failed")
    assert client.get("/v1/images/4").json["caption"] == "first"
    assert client.delete("/v1/images/4", headers={"If-Match": changed.headers["ETag"]}).status_code == 204
    refused(client.patch("/v1/images/4", json={}, headers={"If-Match": "*"}), 404, "not_found")


def test_an_unchanged_image_gets_304(client: FlaskClient) -> None:
    tag = {"If-None-Match": client.get("/v1/images/4").headers["ETag"]}
    assert client.get("/v1/images/4", headers=tag).status_code == 304
    client.patch("/v1/images/4", json={"caption": "new"})
    assert client.get("/v1/images/4", headers=tag).json["caption"] == "new"


ITEMS: list[Any] = [
    {"uri": "/new/1", "caption": "one", "attributes": {"price": 5}},
    {"uri": "/gallery/3.png"},
    {"uri": ""},
    {"uri": "/new/1"},
    {"uri": "/new/2", "colour": "red"},
    {"uri": "a\0b"},
    "x",
    {"uri": "/new/3"},
]
STATUSES = [201, 409, 422, 409, 422, 422, 422, 201]


def test_batch(client: FlaskClient, gallery_url: str) -> None:
    response = client.post("/v1/images:batch", json={"images": ITEMS})
    assert response.status_code == 207
    results = response.json["results"]
    assert [one["status"] for one in results] == STATUSES
    assert [one["index"] for one in results] == list(range(len(ITEMS)))
    assert (response.json["added"], response.json["failed"]) == (2, 6)
    assert results[0]["image"]["attributes"] == {"price": 5}
    assert results[1]["error"]["message"] == "image 3 already has this uri: /gallery/3.png"
    assert results[4]["error"]["fields"][0]["field"] == "colour"
    assert count(gallery_url) == 32
    all_new = client.post("/v1/images:batch", json={"images": [{"uri": f"/many/{n}"} for n in range(1000)]})
    assert (all_new.status_code, all_new.json["added"]) == (201, 1000)


def test_a_uri_that_no_index_takes(client: FlaskClient) -> None:
    # Random characters, because the index compresses what repeats.
    long = "/" + "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=5000))
    refused(client.post("/v1/images", json={"uri": long}), 422, "invalid_input", "at most some 2,700 bytes")
    refused(client.patch("/v1/images/1", json={"uri": long}), 422, "invalid_input", "at most some 2,700 bytes")
    response = client.post("/v1/images:batch", json={"images": [{"uri": "/short"}, {"uri": long}, {"uri": "/other"}]})
    assert [one["status"] for one in response.json["results"]] == [201, 422, 201]


def test_batch_of_lines(client: FlaskClient, gallery_url: str) -> None:
    lines = [json.dumps(one) for one in ITEMS]
    lines[6] = "{not json"
    response = client.post("/v1/images:batch", data="\n".join(lines) + "\n\n", content_type="application/x-ndjson")
    assert (response.status_code, response.mimetype) == (207, "application/x-ndjson")
    answered = [json.loads(line) for line in response.text.splitlines()]
    assert [one["status"] for one in answered] == STATUSES
    assert "line 7 is not JSON" in answered[6]["error"]["message"]
    assert count(gallery_url) == 32


def test_an_atomic_batch_is_all_or_nothing(client: FlaskClient, gallery_url: str) -> None:
    response = client.post("/v1/images:batch?atomic=1", json={"images": ITEMS}, headers=KEY)
    assert response.status_code == 207
    assert [one["status"] for one in response.json["results"]] == [424 if one == 201 else one for one in STATUSES]
    assert count(gallery_url) == 30
    response = client.post("/v1/images:batch?atomic=1", json={"images": [ITEMS[0], ITEMS[7]]})
    assert (response.status_code, count(gallery_url)) == (201, 32)


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"images": []}, "images: "), ({}, "images: "), ([], ""), ({"images": [{}] * 1001}, "images: ")],
)
def test_bad_batches(reader: FlaskClient, body: Any, expected: str) -> None:
    refused(reader.post("/v1/images:batch", json=body), 422, "invalid_input", expected)


def test_list(client: FlaskClient) -> None:
    seen: list[int] = []
    page: dict[str, Any] = {"next_after": None}
    while True:
        query = {"limit": 7, "filter": '{"color": "red"}', **({"after": page["next_after"]} if seen else {})}
        page = client.get("/v1/images", query_string=query).json
        seen += [one["id"] for one in page["images"]]
        if page["next_after"] is None:
            break
        client.delete(f"/v1/images/{seen[-1]}")  # pages do not shift
    assert seen == list(range(1, 31, 2))
    assert len(client.get("/v1/images").json["images"]) == 28
    assert client.get("/v1/images", query_string={"after": 10**9}).json == {"images": [], "next_after": None}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"filter": "{"}, "is not JSON"),
        ({"filter": '{"a": {"$x": 1}}'}, "$x"),
        ({"filter": '{"a": 1, "a": 2}'}, "twice"),
        ({"limit": 0}, "limit: "),
        ({"limit": 1001}, "limit: "),
        ({"after": "x"}, "after: "),
        ({"sort": "price"}, "sort: "),
    ],
)
def test_bad_lists(reader: FlaskClient, query: dict[str, Any], expected: str) -> None:
    refused(reader.get("/v1/images", query_string=query), 422, "invalid_input", expected)


def test_a_duplicate_json_key_is_refused_everywhere(reader: FlaskClient) -> None:
    for body in (
        '{"image_id": 1, "filter": {"price": {"$lt": 5}, "price": {"$gt": 20}}}',
        '{"image_id": 1, "filter": {"price": {"$lt": 5, "$lt": 20}}}',
        '{"image_id": 1, "image_id": 2}',
    ):
        response = reader.post("/v1/search", data=body, content_type="application/json")
        refused(response, 422, "invalid_input", "occurs twice in one object")


def test_nothing_is_served_as_active_content(client: FlaskClient) -> None:
    # A GIF that is also a script, under the name of an HTML page.
    polyglot = encoded(picture(), "GIF").replace(b"GIF89a", b"GIF89a", 1) + b"<script>alert(1)</script>"
    image = upload(client, polyglot, "x.html").json
    assert image["uri"].endswith(".gif")
    thumbnail = client.get(f"/v1/images/{image['id']}/thumbnail")
    assert thumbnail.mimetype == "image/jpeg"
    assert b"<script" not in thumbnail.data
    for response in (thumbnail, client.get("/v1/images/1"), client.get("/v1/nothing")):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in response.headers["Content-Security-Policy"]
