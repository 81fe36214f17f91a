"""POST, GET, PATCH and DELETE of /v1/images: rows, uploaded files, conflicts, and refused requests."""

import hashlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import db
from tests.support.api import refused, upload
from tests.support.images import encoded, oriented, picture


def jobs(url: str) -> list[int]:
    with db.connect(url) as conn:
        return [row[0] for row in conn.execute("SELECT image_id FROM lookalike.jobs ORDER BY 1").fetchall()]


def test_get(reader: FlaskClient) -> None:
    image = reader.get("/v1/images/4").json
    assert (image["id"], image["uri"], image["caption"]) == (4, "/gallery/4.png", "image 4")
    assert image["attributes"] == {"color": "blue", "price": 3}
    assert image["created_at"].endswith("Z")
    refused(reader.get("/v1/images/777"), 404, "not_found", "there is no image 777")


def test_add_by_uri(client: FlaskClient, gallery_url: str) -> None:
    body = {"uri": "https://example.org/a.jpg", "caption": "Ein Bär 🐻", "attributes": {"a": {"b": [1.5, None]}}}
    response = client.post("/v1/images", json=body)
    assert response.status_code == 201
    image = response.json
    assert {name: image[name] for name in body} == body
    assert client.get(response.headers["Location"]).json == image
    assert image["id"] in jobs(gallery_url)
    refused(client.post("/v1/images", json=body), 409, "conflict", f"image {image['id']} already has this uri")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "uri: Field required"),
        ({"uri": ""}, "uri: "),
        ({"uri": 5}, "uri: "),
        ({"uri": "a\0b"}, "NUL"),
        ({"uri": "/a", "caption": 5}, "caption: "),
        ({"uri": "/a", "caption": "a\0b"}, "NUL"),
        ({"uri": "/a", "attributes": [1]}, "attributes: "),
        ({"uri": "/a", "attributes": {"a": "\0"}}, ""),
        ({"uri": "/a", "id": 3}, "id: Extra inputs"),
    ],
)
def test_add_bad_values(reader: FlaskClient, body: dict[str, Any], expected: str) -> None:
    refused(reader.post("/v1/images", json=body), 422, "invalid_input", expected)


def test_upload(client: FlaskClient, gallery_url: str, tmp_path: Path) -> None:
    data = oriented(6)
    response = upload(client, data, "../../evil.html", caption='"quoted"', attributes='{"a": 1}')
    assert response.status_code == 201, response.text
    image = response.json
    sha256 = hashlib.sha256(data).hexdigest()
    assert image["uri"] == str(tmp_path / "home" / "uploads" / sha256[:2] / f"{sha256}.jpg")
    assert Path(image["uri"]).read_bytes() == data
    assert (image["sha256"], image["media_type"]) == (sha256, "image/jpeg")
    assert (image["width"], image["height"]) == picture().size
    assert (image["caption"], image["attributes"]) == ('"quoted"', {"a": 1})
    assert image["id"] in jobs(gallery_url)
    refused(upload(client, data, "b.jpg"), 409, "conflict", f"image {image['id']} already has this content")


def test_upload_to_an_object_store(make_client: Callable[..., FlaskClient], gallery_url: str, tmp_path: Path) -> None:
    client = make_client(gallery_url, storage_url=f"memory://bucket{tmp_path}")
    image = upload(client, encoded(picture(), "PNG")).json
    assert image["uri"].startswith("memory://")
    assert client.get(f"/v1/images/{image['id']}/thumbnail").status_code == 200
    assert client.delete(f"/v1/images/{image['id']}").status_code == 204
    assert upload(client, encoded(picture(), "PNG")).status_code == 201


@pytest.mark.parametrize(
    ("form", "code", "expected"),
    [
        ({}, "invalid_input", "image: 0 files were sent"),
        ({"image": (io.BytesIO(b""), "a.png")}, "image_error", "empty"),
        ({"image": (io.BytesIO(b"GIF87a"), "a.gif")}, "image_error", "damaged"),
        ({"image": (io.BytesIO(b"<svg xmlns=''/>"), "a.svg")}, "image_error", "an SVG drawing"),
        ({"image": (io.BytesIO(b"x"), "a"), "attributes": "{"}, "invalid_input", "attributes: is not JSON"),
        ({"image": (io.BytesIO(b"x"), "a"), "attributes": "[]"}, "invalid_input", "attributes: "),
        ({"image": (io.BytesIO(b"x"), "a"), "colour": "red"}, "invalid_input", "colour: "),
    ],
)
def test_bad_uploads(
    make_client: Callable[..., FlaskClient],
    tmp_path: Path,
    reader_url: str,
    form: dict[str, Any],
    code: str,
    expected: str,
) -> None:
    client = make_client(reader_url)
    refused(client.post("/v1/images", data=form, content_type="multipart/form-data"), 422, code, expected)
    assert not (tmp_path / "home").exists()


def test_upload_too_large(make_client: Callable[..., FlaskClient], reader_url: str) -> None:
    client = make_client(reader_url, max_image_bytes=1000)
    for size in (1001, 3_000_000):
        for path in ("/v1/images", "/v1/search"):
            # Built by hand, because the test client leaves its temporary file open.
            form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n%b\r\n--x--\r\n'
            response = client.post(path, data=form % (b"x" * size), content_type="multipart/form-data; boundary=x")
            refused(response, 413, "request_entity_too_large")


def test_upload_of_too_many_pixels(make_client: Callable[..., FlaskClient], reader_url: str) -> None:
    client = make_client(reader_url, max_image_pixels=1000)
    refused(upload(client, encoded(picture(), "PNG")), 422, "image_error", "LOOKALIKE_MAX_IMAGE_PIXELS")


@pytest.mark.parametrize("content_type", ["application/json", "application/merge-patch+json"])
def test_patch(client: FlaskClient, content_type: str, gallery_url: str) -> None:
    before = jobs(gallery_url)
    patch = {"caption": None, "attributes": {"color": None, "size": {"w": 1}}}
    response = client.patch("/v1/images/4", data=json.dumps(patch), content_type=content_type)
    assert response.status_code == 200, response.text
    assert (response.json["caption"], response.json["attributes"]) == (None, {"price": 3, "size": {"w": 1}})
    assert client.get("/v1/images/4").json == response.json
    assert jobs(gallery_url) == before
    found = client.post("/v1/search", json={"image_id": 5, "filter": {"size.w": 1}}).json["results"]
    assert [one["image"]["id"] for one in found] == [4]


def test_patch_of_the_uri_embeds_anew(client: FlaskClient, gallery_url: str) -> None:
    assert client.patch("/v1/images/4", json={"uri": "/other.png"}).json["uri"] == "/other.png"
    assert 4 in jobs(gallery_url)
    assert client.get("/v1/images/4/similar").status_code == 404
    refused(client.patch("/v1/images/5", json={"uri": "/other.png"}), 409, "conflict", "image 4 already has this uri")


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"uri": None}, "uri: "),
        ({"uri": ""}, "uri: "),
        ({"id": 5}, "id: Extra inputs"),
        ({"sha256": "00"}, "sha256: Extra inputs"),
        ({"attributes": "x"}, "attributes: "),
        ([], "Input should be"),
    ],
)
def test_bad_patches(reader: FlaskClient, patch: Any, expected: str) -> None:
    before = reader.get("/v1/images/4").json
    refused(reader.patch("/v1/images/4", json=patch), 422, "invalid_input", expected)
    assert reader.get("/v1/images/4").json == before


def test_patch_of_nothing_changes_nothing(reader: FlaskClient) -> None:
    before = reader.get("/v1/images/4").json
    assert reader.patch("/v1/images/4", json={}).json == before
    refused(reader.patch("/v1/images/777", json={}), 404, "not_found")
    refused(reader.patch("/v1/images/4", data="{", content_type="application/json"), 400, "bad_request")
    refused(reader.patch("/v1/images/4", data="{}", content_type="text/plain"), 415, "unsupported_media_type")


def test_delete(client: FlaskClient) -> None:
    assert client.delete("/v1/images/4").status_code == 204
    refused(client.get("/v1/images/4"), 404, "not_found")
    refused(client.delete("/v1/images/4"), 404, "not_found")
    found = client.post("/v1/search", json={"image_id": 5, "k": 100}).json["results"]
    assert 4 not in [one["image"]["id"] for one in found]


def test_an_upload_goes_with_its_image_and_other_files_stay(client: FlaskClient, tmp_path: Path) -> None:
    own = tmp_path / "own.png"
    own.write_bytes(encoded(picture(), "PNG"))
    stays = client.post("/v1/images", json={"uri": str(own)}).json
    uploaded = upload(client, own.read_bytes()).json
    for image in (stays, uploaded):
        assert client.delete(f"/v1/images/{image['id']}").status_code == 204
    assert own.exists()
    assert not Path(uploaded["uri"]).exists()
    again = upload(client, own.read_bytes()).json
    assert Path(again["uri"]).exists()
    client.patch(f"/v1/images/{again['id']}", json={"uri": "/elsewhere.png"})
    assert not Path(again["uri"]).exists()


def test_uploads_and_deletions_of_one_content_at_once(client: FlaskClient, gallery_url: str) -> None:
    data = encoded(picture((40, 30)), "PNG")

    def upload_and_delete(_: int) -> None:
        own = client.application.test_client()
        answer = upload(own, data)
        assert answer.status_code in (201, 409), answer.text
        if answer.status_code == 201:
            assert Path(answer.json["uri"]).read_bytes() == data
            assert own.delete(f"/v1/images/{answer.json['id']}").status_code == 204

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(upload_and_delete, range(40)))
    last = upload(client, data)
    assert last.status_code == 201
    assert Path(last.json["uri"]).read_bytes() == data
