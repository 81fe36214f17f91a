"""POST /v1/search beyond nearest neighbours, and GET /v1/duplicates: results and refused requests."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from pgvector import HalfVector

from app import db
from app.search import cursor
from app.search.cursor import Position
from tests.support.api import IMAGES, QUERY, ids, nearest, refused, vectors
from tests.support.images import encoded, picture

STORED = vectors()[: IMAGES - 1].astype(np.float16).astype(np.float32)


def search(reader: FlaskClient, **body: Any) -> Any:
    return reader.post("/v1/search", json=body)


def test_exclude_goes_with_every_kind(reader: FlaskClient) -> None:
    for kind in (
        {},
        {"text": "image"},
        {"diverse": 0.5},
        {"distinct": 0.1},
        {"group_by": "price"},
        {"cursor": "start"},
    ):
        found = ids(search(reader, image_id=4, exclude=[3, 5], k=100, **kind))
        assert not {3, 4, 5} & set(found), kind
        assert len(found) > 20, kind
    assert not {3, 5} & set(ids(search(reader, text="image", exclude=[3, 5], k=100)))


def test_words_alone(reader: FlaskClient) -> None:
    answer = search(reader, text="image 30", k=3)
    assert ids(answer) == [30]
    assert answer.json["space"] is None
    (result,) = answer.json["results"]
    assert (result["distance"], result["similarity"]) == (None, None)
    assert result["score"] == result["text_score"] > 0
    assert len(ids(search(reader, text="image", filter={"color": "red"}, k=100))) == IMAGES // 2


def test_words_and_image(reader: FlaskClient) -> None:
    answer = search(reader, image_id=4, text='"image 9"', k=5)
    found = ids(answer)
    assert found[0] == 9
    assert set(found[1:]) <= set(nearest(vectors()[3])[1:6])
    by_words, by_look = answer.json["results"][:2]
    assert by_words["text_score"] > 0
    assert by_look["text_score"] is None
    assert by_words["score"] > by_look["score"]
    assert answer.json["space"] == "tiny"
    # The best match by image and the best by words tie; the latter has no embedding.
    assert ids(search(reader, vector=QUERY.tolist(), text='"image 30"', k=2)) == [nearest(QUERY)[0], 30]


def test_examples(reader: FlaskClient) -> None:
    towards = STORED[2] / np.linalg.norm(STORED[2]) + STORED[7] / np.linalg.norm(STORED[7])
    expected = [one for one in nearest(towards / np.linalg.norm(towards)) if one not in (3, 8)]
    assert ids(search(reader, like=[3, 8], k=5)) == expected[:5]
    assert ids(search(reader, image_id=3, like=[8], k=5)) == expected[:5]
    by_vectors = ids(search(reader, vector=STORED[2].tolist(), like=[STORED[7].tolist()], k=7))
    assert [one for one in by_vectors if one not in (3, 8)] == expected[:5]
    text = base64.b64encode(STORED[7].astype("<f2").tobytes()).decode()
    assert ids(search(reader, like=[3, text], vector_dtype="float16", k=6, exclude=[8]))[:5] == expected[:5]
    away = search(reader, like=[3], unlike=[expected[0]], k=100, recall=1)
    assert not {3, expected[0]} & set(ids(away))
    assert "plan" in reader.post("/v1/search?explain=1", json={"like": [3]}).json
    # Examples combine with the other modes.
    assert set(ids(search(reader, like=[3, 8], diverse=1.0, k=5))) == set(expected[:5])


def test_diverse_and_distinct(reader: FlaskClient) -> None:
    plain = ids(search(reader, image_id=4, k=5))
    assert ids(search(reader, image_id=4, k=5, diverse=1)) == plain
    diverse = ids(search(reader, image_id=4, k=5, diverse=0.1))
    assert diverse[0] == plain[0]
    assert diverse != plain
    distinct = ids(search(reader, image_id=4, k=100, distinct=0.9))
    assert 1 < len(distinct) < IMAGES - 2
    kept = STORED[np.array(distinct) - 1]
    gaps = np.linalg.norm(kept[:, None] - kept[None], axis=2)[np.triu_indices(len(kept), 1)]
    assert gaps.min() > 0.9


def test_groups(reader: FlaskClient) -> None:
    answer = search(reader, image_id=4, group_by="color")
    order = nearest(vectors()[3])[1:]
    best = {"red": next(n for n in order if n % 2), "blue": next(n for n in order if n % 2 == 0)}
    assert {one["group"]: one["image"]["id"] for one in answer.json["results"]} == best
    assert ids(search(reader, image_id=4, group_by="none")) == []


def test_within_a_radius_it_says_whether_that_is_all(reader: FlaskClient) -> None:
    everything = search(reader, image_id=4, k=100).json
    assert "complete" not in everything
    limit = everything["results"][7]["distance"]
    for k, complete in ((7, False), (8, True), (9, True), (10_000, True)):
        answer = search(reader, image_id=4, k=k, max_distance=limit).json
        assert answer["complete"] is complete
        assert answer["results"] == everything["results"][: min(k, 8)]
    query = f"/v1/images/4/similar?max_distance={limit}&k=3&explain=1"
    similar = reader.get(query).json
    assert (similar["complete"], similar["plan"]["rows"], similar["plan"]["truncated"]) == (False, 3, True)
    assert search(reader, image_id=4, max_distance=0).json["complete"]


def test_a_radius_is_proven_past_an_index(client: FlaskClient, gallery_url: str) -> None:
    with db.connect(gallery_url, autocommit=True) as conn:
        conn.execute("CREATE INDEX ON lookalike.embeddings_1 USING hnsw (embedding halfvec_l2_ops)")
    body = {"image_id": 4, "k": 10, "max_distance": 0.9}
    expected = [n for n in nearest(vectors()[3])[1:] if np.linalg.norm(STORED[n - 1] - STORED[3]) <= 0.9]
    answer = client.post("/v1/search?explain=1", json=body)
    assert ids(answer) == expected[:10]
    assert answer.json["complete"] == (len(expected) <= 10)
    assert answer.json["plan"]["rows"] == len(answer.json["results"])
    assert "complete" not in client.post("/v1/search", json={**body, "max_distance": 0.5, "recall": 0.9}).json


def test_pages(reader: FlaskClient) -> None:
    expected = nearest(vectors()[3])[1:]
    body: dict[str, Any] = {"image_id": 4, "filter": {"price": {"$gte": 0}}, "cursor": "start"}
    seen: list[int] = []
    for k in (1, 7, 10, 11):
        answer = search(reader, **body, k=k)
        seen += ids(answer)
        body["cursor"] = answer.json["next_cursor"]
    assert seen == expected
    assert body["cursor"] is None
    assert "next_cursor" not in search(reader, image_id=4).json


def test_a_cursor_serves_its_own_search(reader: FlaskClient) -> None:
    body: dict[str, Any] = {"image_id": 4, "k": 3, "max_distance": 1.9, "exclude": [1, 2]}
    mine = {**body, "cursor": search(reader, **body, cursor="start").json["next_cursor"]}
    assert ids(search(reader, **{**mine, "exclude": [2, 1], "k": 5}))
    for change in (
        {"image_id": 5},
        {"filter": {"color": "red"}},
        {"max_distance": 1.8},
        {"exclude": [1]},
        {"like": [9]},
    ):
        refused(search(reader, **{**mine, **change}), 422, "invalid_input", "the cursor belongs to another search")
    for text in ("", "x", "nonsense!", "é", "AAAA", mine["cursor"] + "AAAA", mine["cursor"][:-4]):
        refused(search(reader, **{**mine, "cursor": text}), 422, "invalid_input", "is not valid")


def test_cursors_keep_positions_exactly() -> None:
    asked = cursor.fingerprint(b"embedding", 1, {"a": 1, "b": [2]})
    assert asked == cursor.fingerprint(b"embedding", 1, {"b": [2], "a": 1})
    assert asked != cursor.fingerprint(b"embedding", 1, {"a": 1, "b": [2, 3]})
    for position in (Position(0.0, -(2**63)), Position(1 / 3, 2**63 - 1), Position(np.nextafter(2.0, 3), 0)):
        assert cursor.read(cursor.write(position, asked), asked) == position


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"text": "a", "diverse": 0.5}, "text and diverse cannot be combined"),
        ({"image_id": 1, "diverse": 0.5, "distinct": 0.5}, "diverse and distinct cannot be combined"),
        ({"image_id": 1, "group_by": "a", "cursor": "start"}, "group_by and cursor cannot be combined"),
        ({"image_id": 1, "text": "a", "cursor": "start"}, "text and cursor cannot be combined"),
        ({"image_id": 1, "text": "a", "max_distance": 1}, "text and max_distance cannot be combined"),
        ({"text": "a", "recall": 1}, "text alone and recall cannot be combined"),
        ({"unlike": [1]}, "unlike needs a positive example beside it: one of image_id, vector, like"),
        ({"unlike": [1], "text": "a"}, "unlike needs a positive example"),
        ({"like": []}, "nothing to search for"),
        ({"diverse": 0.5}, "nothing to search for"),
        ({"like": [1.5]}, "like.0: Input should be a valid integer"),
        ({"like": [None]}, "like.0: "),
        ({"like": [2**63]}, "like.0: Input should be less than"),
        ({"like": [1, [0.0] * 8]}, "like.1: is all zeros"),
        ({"like": [1], "unlike": ["?"]}, "unlike.0: is not base64"),
        ({"like": [[1.0, 2.0]]}, "2 dimensions"),
        ({"like": [1] * 101}, "like: "),
        ({"like": [1], "unlike": [[-float(x) for x in STORED[0]]], "filter": {"a": {"$x": 1}}}, "$x"),
        ({"image_id": 1, "diverse": 1.1}, "diverse: "),
        ({"image_id": 1, "diverse": 0.5, "k": 1001}, "k is 1001, but must be 1 to 1000"),
        ({"image_id": 1, "distinct": -1}, "distinct: "),
        ({"image_id": 1, "group_by": ""}, "attribute"),
        ({"text": ""}, "there is no word to search for"),
        ({"text": "- ,"}, "there is no word to search for"),
        ({"text": "a\u0000b"}, "NUL"),
        ({"text": 5}, "text: Input should be a valid string"),
        ({"text": "a" * 1001}, "text: "),
        ({"image_id": 1, "cursor": 5}, "cursor: Input should be a valid string"),
    ],
)
def test_contradictions_and_bad_values(reader: FlaskClient, body: dict[str, Any], expected: str) -> None:
    refused(reader.post("/v1/search", json=body), 422, "invalid_input", expected)


def test_unknown_examples(reader: FlaskClient) -> None:
    refused(search(reader, like=[777]), 404, "not_found", "there is no image 777")
    refused(search(reader, like=[1], unlike=[30]), 404, "not_found", "image 30 has no embedding in space tiny yet")
    refused(search(reader, image_id=30, group_by="color"), 404, "not_found", "image 30 has no embedding")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"text": "a", "group_by": "b"}, "text and group_by cannot be combined"),
        ({"text": "a", "max_distance": "1"}, "text and max_distance cannot be combined"),
        ({"like": "[null]"}, "like.0: "),
        ({"diverse": "much"}, "diverse: is not JSON"),
        ({"vector_dtype": "float64"}, "vector_dtype: "),
    ],
)
def test_bad_fields_of_an_upload(reader: FlaskClient, form: dict[str, str], expected: str) -> None:
    data = {"image": (io.BytesIO(encoded(picture(), "PNG")), "a.png"), **form}
    response = reader.post("/v1/search", data=data, content_type="multipart/form-data")
    refused(response, 422, "invalid_input", expected)


def test_duplicates(client: FlaskClient, gallery_url: str) -> None:
    assert client.get("/v1/duplicates?threshold=0.001").json == {"total": 0, "groups": []}
    with db.connect(gallery_url) as conn:
        for image_id, vector in ((2, STORED[0]), (9, STORED[7])):
            conn.execute(
                "UPDATE lookalike.embeddings_1 SET embedding = %s WHERE image_id = %s", (HalfVector(vector), image_id)
            )
    answer = client.get("/v1/duplicates?threshold=0.001").json
    assert answer["total"] == 2
    assert [[one["image"]["id"] for one in group["images"]] for group in answer["groups"]] == [[1, 2], [8, 9]]
    assert [group["group"] for group in answer["groups"]] == [1, 8]
    assert answer["groups"][0]["images"][0]["distance"] == 0
    limited = client.get("/v1/duplicates?threshold=0.001&limit=1").json
    assert (limited["total"], len(limited["groups"])) == (2, 1)
    assert client.get('/v1/duplicates?threshold=0.001&filter={"color":"red"}').json["total"] == 0


def test_duplicates_that_take_too_long(client: FlaskClient, gallery_url: str) -> None:
    with db.connect(gallery_url) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("LOCK TABLE lookalike.images")
        answer = threads.submit(client.get, "/v1/duplicates")
        cancelled = False
        while not cancelled and not answer.done():
            # The statement timeout does the same.
            row = holder.execute(
                "SELECT bool_or(pg_cancel_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'lookalike api' AND datname = current_database()"
                " AND wait_event_type = 'Lock'"
            ).fetchone()
            cancelled = bool(row and row[0])
            # Otherwise a transaction reads pg_stat_activity only once.
            holder.execute("SELECT pg_stat_clear_snapshot()")
        refused(answer.result(), 503, "query_canceled", "send a narrower filter", '"lookalike duplicates"')


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("threshold=3", "threshold: "),
        ("threshold=nan", "threshold: "),
        ("limit=0", "limit: "),
        ("k=3", "k: Extra inputs"),
        ("filter={", "the filter is not JSON"),
        ('filter={"a":{"$x":1}}', "$x"),
    ],
)
def test_bad_parameters_of_duplicates(reader: FlaskClient, query: str, expected: str) -> None:
    refused(reader.get(f"/v1/duplicates?{query}"), 422, "invalid_input", expected)
