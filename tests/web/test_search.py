"""POST /v1/search and GET /v1/images/{id}/similar: results and refused requests."""

import base64
import dataclasses
import io
import json
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from app import db
from app.db import sql
from app.store.images import Image
from app.web.search_schemas import SearchAnswer
from tests.support.api import IMAGES, QUERY, ids, nearest, refused, vectors


def test_by_vector(reader: FlaskClient) -> None:
    response = reader.post("/v1/search", json={"vector": QUERY.tolist(), "k": 5})
    assert ids(response) == nearest(QUERY)[:5]
    first = response.json["results"][0]
    assert first["similarity"] == pytest.approx(1 - first["distance"] ** 2 / 2)
    assert first["image"]["caption"] == f"image {first['image']['id']}"
    assert response.json["space"] == "tiny"
    assert "plan" not in response.json
    assert "timings" not in response.json
    assert response.headers["Server-Timing"].startswith("search;dur=")


def test_vector_is_scaled_to_unit_length(reader: FlaskClient) -> None:
    unit = reader.post("/v1/search", json={"vector": QUERY.tolist()}).json
    for scale in (1e-300, 3.0, 1e300):
        scaled = reader.post("/v1/search", json={"vector": [float(x) * scale for x in QUERY]}).json
        assert [one["image"]["id"] for one in scaled["results"]] == [one["image"]["id"] for one in unit["results"]]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_by_base64(reader: FlaskClient, dtype: str) -> None:
    text = base64.b64encode(QUERY.astype(np.dtype(dtype).newbyteorder("<")).tobytes()).decode()
    body: dict[str, Any] = {"vector": text, "k": 5}
    if dtype != "float32":
        body["vector_dtype"] = dtype
    assert ids(reader.post("/v1/search", json=body)) == nearest(QUERY)[:5]


def test_a_vector_with_its_space(client: FlaskClient, gallery_url: str) -> None:
    with db.connect(gallery_url, autocommit=True) as conn:
        conn.execute("SELECT lookalike.create_space('other', 'none', 8, '{}', 'g')")
    plain = client.post("/v1/search", json={"vector": QUERY.tolist()}).json
    for more in ({}, {"like": [QUERY.tolist()]}, {"max_distance": 2.0}):
        body = {"vector": QUERY.tolist(), **more}
        assert client.post("/v1/search", json={**body, "space": "tiny"}).json["results"] == plain["results"]
        response = client.post("/v1/search", json={**body, "space": "other"})
        refused(response, 409, "space_changed", "embedded in space other, but the active one is tiny")
    response = client.post("/v1/search", json={"vector": QUERY.tolist(), "space": "nowhere"})
    refused(response, 404, "not_found", 'no embedding space "nowhere"; there are: tiny, other')
    response = client.post("/v1/search", json={"image_id": 1, "space": "tiny"})
    refused(response, 422, "invalid_input", "space names the space of the vectors")


def test_an_answer_matches_its_model(reader: FlaskClient) -> None:
    for query, body in (
        ("", {"image_id": 4}),
        ("?explain=1", {"image_id": 4, "max_distance": 1.0}),
        ("", {"image_id": 4, "text": "image"}),
        ("", {"image_id": 4, "group_by": "color"}),
        ("", {"image_id": 4, "cursor": "start", "k": 3}),
    ):
        text = reader.post(f"/v1/search{query}", json=body).text
        assert json.loads(SearchAnswer.model_validate_json(text).model_dump_json(exclude_unset=True)) == json.loads(
            text
        )


def test_the_columns_of_the_statement_are_the_fields_of_an_image(reader_url: str) -> None:
    values = dict.fromkeys(("filter", "max_distance", "recall", "ef_search", "strategy", "in_space", "query"))
    with db.connect(reader_url) as conn:
        found = conn.execute(sql.query("search"), {**values, "image_id": 1, "k": 1, "exclude": [], "explain": False})
        names = [column.name for column in found.description or ()]
    assert names == ["space", "plan", "distance", *(field.name for field in dataclasses.fields(Image))]


def test_by_image_id_leaves_itself_out(reader: FlaskClient) -> None:
    expected = nearest(vectors()[3])[1:11]
    assert ids(reader.post("/v1/search", json={"image_id": 4})) == expected
    assert ids(reader.get("/v1/images/4/similar")) == expected


def test_options(reader: FlaskClient) -> None:
    red_and_cheap = [n for n in range(1, IMAGES) if n % 2 and n - 1 < 20]
    among = [n for n in red_and_cheap if n not in (3, 5)]
    expected = nearest(vectors()[3], among)
    filter_ = {"color": "red", "price": {"$lt": 20}}
    body = {"image_id": 4, "k": 100, "filter": filter_, "exclude": [3, 5], "recall": 1}
    assert ids(reader.post("/v1/search", json=body)) == expected
    query = {"k": 100, "filter": json.dumps(filter_), "exclude": [3, 5], "recall": 1}
    assert ids(reader.get("/v1/images/4/similar", query_string=query)) == expected


def test_max_distance(reader: FlaskClient) -> None:
    everything = reader.post("/v1/search", json={"image_id": 4, "k": 100}).json["results"]
    limit = everything[7]["distance"]
    near = reader.post("/v1/search", json={"image_id": 4, "k": 100, "max_distance": limit}).json["results"]
    assert near == everything[:8]
    assert reader.post("/v1/search", json={"image_id": 4, "max_distance": 0}).json["results"] == []


def test_explain(reader: FlaskClient) -> None:
    for response in (
        reader.post("/v1/search?explain=1", json={"image_id": 4}),
        reader.get("/v1/images/4/similar?explain=true"),
    ):
        assert response.json["plan"]["space"] == "tiny"
        assert response.json["plan"]["strategy"] in ("exact", "index")
        timings = response.json["timings"]
        assert 0 < timings["search_ms"] <= timings["total_ms"]


def test_unknown_and_not_yet_embedded(reader: FlaskClient) -> None:
    for response in (reader.post("/v1/search", json={"image_id": 777}), reader.get("/v1/images/777/similar")):
        refused(response, 404, "not_found", "there is no image 777")
    refused(reader.get("/v1/images/30/similar"), 404, "not_found", "image 30 has no embedding in space tiny yet")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "nothing to search for: give one of image_id, vector, like, text"),
        ({"image_id": 1, "vector": [1.0]}, "vector and image_id cannot be combined: choose one"),
        ({"image_id": "1"}, "image_id: Input should be a valid integer"),
        ({"image_id": 2**63}, "image_id: Input should be less than"),
        ({"image_id": 1, "k": 0}, "k: Input should be greater than or equal to 1"),
        ({"image_id": 1, "k": 10_001}, "k: Input should be less than or equal to 10000"),
        ({"image_id": 1, "k": 10**30}, "k: "),
        ({"image_id": 1, "k": 2.5}, "k: "),
        ({"image_id": 1, "limit": 5}, "limit: Extra inputs are not permitted"),
        ({"image_id": 1, "max_distance": -1}, "max_distance: "),
        ({"image_id": 1, "recall": 0}, "recall: "),
        ({"image_id": 1, "recall": 1.5}, "recall: "),
        ({"image_id": 1, "exclude": [2**70]}, "exclude.0: "),
        ({"image_id": 1, "exclude": list(range(10_001))}, "exclude: "),
        ({"image_id": 1, "filter": [1]}, "filter: Input should be a valid dictionary"),
        ({"image_id": 1, "filter": {"price": {"$near": 3}}}, "$near"),
        ({"image_id": 1, "filter": {"$xor": []}}, "$xor"),
        ({"image_id": 1, "filter": {"a\u0000": 1}}, ""),
        ({"vector": [1.0, 2.0]}, "2 dimensions"),
        ({"vector": []}, "vector: is empty"),
        ({"vector": [0.0] * 8}, "all zeros"),
        ({"vector": ["1"] * 8}, "vector.0: "),
        ({"vector": [1.0] * 7 + [None]}, "vector.7: "),
        ({"vector": "not base64!"}, "vector: is not base64"),
        ({"vector": "AAA"}, "vector: is not base64"),
        ({"vector": "AAAA"}, "has 3 bytes, which is not a multiple of 4"),
        ({"vector": ""}, "vector: is empty"),
        ({"vector": base64.b64encode(np.full(8, np.nan, "<f4").tobytes()).decode()}, "nan at position 0"),
        ({"vector": base64.b64encode(np.full(8, np.inf, "<f4").tobytes()).decode()}, "inf at position 0"),
        ({"vector": "AAAA", "vector_dtype": "float64"}, "vector_dtype: "),
    ],
)
def test_bad_values_in_json(reader: FlaskClient, body: dict[str, Any], expected: str) -> None:
    refused(reader.post("/v1/search", json=body), 422, "invalid_input", expected)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[1", "nonsense", "[" * 100_000, b'{"a": "\xff"}'),
        *('{"vector": [NaN]}', '{"vector": [Infinity]}', '{"a": "\\ud800"}'),
    ],
)
def test_malformed_json(reader: FlaskClient, text: str | bytes) -> None:
    response = reader.post("/v1/search", data=text, content_type="application/json")
    refused(response, 400, "bad_request", "the body is not JSON")


@pytest.mark.parametrize("text", ["null", "[]", "1", '"x"'])
def test_json_that_is_not_an_object(reader: FlaskClient, text: str) -> None:
    refused(reader.post("/v1/search", data=text, content_type="application/json"), 422, "invalid_input")


def test_content_types(reader: FlaskClient) -> None:
    refused(reader.post("/v1/search"), 415, "unsupported_media_type", "no content type", "multipart/form-data")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "image/png"):
        refused(reader.post("/v1/search", data=b"x=1", content_type=kind), 415, "unsupported_media_type", kind)


def test_json_too_large(reader: FlaskClient) -> None:
    response = reader.post("/v1/search", data=b" " * (2**20 + 1), content_type="application/json")
    refused(response, 413, "request_entity_too_large")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("k=0", "k: "),
        ("k=x", "k: Input should be a valid integer"),
        ("k=99999999999999999999999", "k: "),
        ("size=3", "size: Extra inputs are not permitted"),
        ("filter={", "the filter is not JSON"),
        ("filter=[]", "a filter is a JSON object"),
        ('filter={"price": {"$near": 3}}', "$near"),
        ("max_distance=nan", "max_distance: "),
        ("recall=2", "recall: "),
        ("exclude=x", "exclude.0: "),
        ("explain=perhaps", "explain: "),
    ],
)
def test_bad_query_parameters(reader: FlaskClient, query: str, expected: str) -> None:
    refused(reader.get(f"/v1/images/4/similar?{query}"), 422, "invalid_input", expected)


@pytest.mark.parametrize("path", ["x", "1.5", "99999999999999999999", "-99999999999999999999", "1;2", "%00"])
def test_bad_image_ids(reader: FlaskClient, path: str) -> None:
    for suffix in ("", "/similar", "/thumbnail"):
        refused(reader.get(f"/v1/images/{path}{suffix}"), 422, "invalid_input", "image_id: ")


@pytest.mark.parametrize(
    ("form", "status", "expected"),
    [
        ({}, 422, "image: 0 files were sent"),
        ({"image": "text"}, 422, "image: is text"),
        ({"image": (io.BytesIO(b""), "empty.png")}, 422, "the uploaded image is empty"),
        ({"image": (io.BytesIO(b"hello"), "cat.png")}, 422, "not an image"),
        ({"image": (io.BytesIO(b"%PDF-1.7"), "cat.png")}, 422, "PDF"),
        ({"image": [(io.BytesIO(b"1"), "a"), (io.BytesIO(b"2"), "b")]}, 422, "image: 2 files"),
        ({"image": (io.BytesIO(b"1"), "a"), "picture": (io.BytesIO(b"2"), "b")}, 422, "picture: is a file"),
        ({"image": (io.BytesIO(b"1"), "a"), "k": "many"}, 422, "k: is not JSON"),
        ({"image": (io.BytesIO(b"1"), "a"), "k": "[1]"}, 422, "k: Input should be a valid integer"),
        ({"image": (io.BytesIO(b"1"), "a"), "k": ["1", "2"]}, 422, "k: is given more than once"),
        ({"image": (io.BytesIO(b"1"), "a"), "filter": "{"}, 422, "the filter is not JSON"),
        ({"image": (io.BytesIO(b"1"), "a"), "image_id": "4"}, 422, "image_id: Extra inputs"),
    ],
)
def test_bad_uploads(reader: FlaskClient, form: dict[str, Any], status: int, expected: str) -> None:
    response = reader.post("/v1/search", data=form, content_type="multipart/form-data")
    assert response.status_code == status
    assert expected in response.json["error"]["message"]


def test_multipart_without_boundary(reader: FlaskClient) -> None:
    response = reader.post("/v1/search", data=b"--x\r\n", content_type="multipart/form-data")
    refused(response, 422, "invalid_input")
