"""GET /v1/images/{id}/thumbnail: pixels, cache headers, and files that cannot be read."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from tests.support.api import refused
from tests.support.images import encoded, oriented, picture


@pytest.fixture(scope="module")
def thumbnails_url(new_database: Callable[..., str], gallery_template: str) -> str:
    """A gallery to which these tests add images."""
    return new_database(gallery_template)


@pytest.fixture
def client(make_client: Callable[..., FlaskClient], thumbnails_url: str) -> FlaskClient:
    return make_client(thumbnails_url)


@pytest.fixture
def add(client: FlaskClient, tmp_path: Path) -> Callable[[bytes], str]:
    """Add an image with these bytes by its path; returns the path of its thumbnail."""

    def make(data: bytes) -> str:
        file = tmp_path / f"{hashlib.sha256(data).hexdigest()}.bin"
        file.write_bytes(data)
        return f"/v1/images/{client.post('/v1/images', json={'uri': str(file)}).json['id']}/thumbnail"

    return make


def decoded(response: Any) -> Image.Image:
    assert response.status_code == 200, response.text
    assert response.mimetype == "image/jpeg"
    return Image.open(io.BytesIO(response.data)).convert("RGB")


def test_size_is_the_longest_side(client: FlaskClient, add: Callable[[bytes], str]) -> None:
    path = add(encoded(picture((900, 600)), "JPEG"))
    assert decoded(client.get(path)).size == (256, 171)
    assert decoded(client.get(f"{path}?size=60")).size == (60, 40)
    assert decoded(client.get(f"{path}?size=1024")).size == (900, 600)
    for size in ("15", "1025", "x", "-1", "1e9"):
        refused(client.get(f"{path}?size={size}"), 422, "invalid_input", "size: ")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(client: FlaskClient, add: Callable[[bytes], str], orientation: int) -> None:
    shown = decoded(client.get(add(oriented(orientation))))
    wanted = picture().resize(shown.size)
    assert shown.size == (256, 171)
    worst = max(
        abs(a - b)
        for at in ((30, 10), (70, 70), (190, 50), (230, 150))
        for a, b in zip(shown.getpixel(at), wanted.getpixel(at), strict=True)
    )
    assert worst < 40


def test_transparency_is_white(client: FlaskClient, add: Callable[[bytes], str]) -> None:
    clear = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    assert decoded(client.get(add(encoded(clear, "PNG")))).getpixel((25, 25)) == (255, 255, 255)


def test_conditional_get(client: FlaskClient, add: Callable[[bytes], str]) -> None:
    data = encoded(picture(), "PNG")
    path = add(data)
    first = client.get(path)
    tag = first.headers["ETag"]
    assert tag == f'"{hashlib.sha256(data).hexdigest()}-256"'
    assert "max-age=" in first.headers["Cache-Control"]
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    again = client.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert client.get(f"{path}?size=64", headers={"If-None-Match": tag}).status_code == 200
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_known_sha256_answers_without_the_file(client: FlaskClient) -> None:
    data = encoded(picture(), "PNG")
    form = {"image": (io.BytesIO(data), "a.png")}
    image = client.post("/v1/images", data=form, content_type="multipart/form-data").json
    path = f"/v1/images/{image['id']}/thumbnail"
    tag = client.get(path).headers["ETag"]
    Path(image["uri"]).unlink()
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    refused(client.get(path), 410, "image_gone", image["uri"])


def test_files_that_cannot_be_read(client: FlaskClient, add: Callable[[bytes], str], tmp_path: Path) -> None:
    def of(uri: str) -> Any:
        return client.get(f"/v1/images/{client.post('/v1/images', json={'uri': uri}).json['id']}/thumbnail")

    refused(client.get("/v1/images/777/thumbnail"), 404, "not_found")
    refused(of(str(tmp_path / "missing.png")), 410, "image_gone", "missing.png")
    refused(of(str(tmp_path)), 502, "image_unavailable", "directory")
    refused(of("relative.png"), 502, "image_unavailable", "relative.png")
    refused(of("http://127.0.0.1:1/a.png"), 502, "image_unavailable", "private address")
    refused(of("http://[::1/a.png"), 502, "image_unavailable", "URL")
    for data, expected in ((b"", "empty"), (b"hello", "not an image"), (encoded(picture(), "PNG")[:200], "PNG")):
        refused(client.get(add(data)), 422, "image_error", expected)


def test_limits(make_client: Callable[..., FlaskClient], thumbnails_url: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    client = make_client(thumbnails_url, max_image_pixels=1000)
    image = client.post("/v1/images", json={"uri": str(tmp_path / "a.png")}).json
    refused(client.get(f"/v1/images/{image['id']}/thumbnail"), 422, "image_error", "LOOKALIKE_MAX_IMAGE_PIXELS")
