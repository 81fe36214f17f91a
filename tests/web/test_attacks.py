"""Attacks by HTTP that no other test makes; docs/security.md lists them all, each with its test."""

import gzip
import io
import logging
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from tests.support.api import refused
from tests.support.images import encoded, picture

ROOT = Path(__file__).parents[2]
SPLIT = "a\r\nSet-Cookie: owned=1\r\n\r\n<script>alert(1)</script>"


@pytest.mark.parametrize("start", ["/static/", "/docs/swagger/"])
@pytest.mark.parametrize(
    "path",
    ["../pages.py", "..%2fpages.py", "%2e%2e/%2e%2e/config.py", "....//....//config.py", "/etc/passwd", "..\\pages.py"],
)
def test_no_path_leads_out_of_the_served_folders(reader: FlaskClient, start: str, path: str) -> None:
    response = reader.get(start + path, follow_redirects=True)
    assert response.status_code == 404
    assert "import" not in response.text
    assert "root:" not in response.text


def test_a_file_name_is_never_used(client: FlaskClient, tmp_path: Path) -> None:
    name = "../../../../etc/cron.d/owned\0.html"
    form = {"image": (io.BytesIO(encoded(picture(), "PNG")), name)}
    image = client.post("/v1/images", data=form, content_type="multipart/form-data").json
    stored = Path(image["uri"])
    assert stored.is_relative_to(tmp_path / "home" / "uploads")
    assert stored.stem == image["sha256"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:{port}/v1/status",
        "http://localhost.:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "/etc/../etc/passwd",
        "gopher://127.0.0.1:{port}/_x",
        "memory://secret",
    ],
)
def test_a_picture_by_url_reaches_nothing_inside(
    make_client: Callable[..., FlaskClient], gallery_url: str, tmp_path: Path, uri: str
) -> None:
    client = make_client(gallery_url, image_roots=str(tmp_path), fetch_timeout=2)
    image = client.post("/v1/images", json={"uri": uri.format(port=1)}).json
    response = client.get(f"/v1/images/{image['id']}/thumbnail")
    assert response.status_code in (410, 422, 502), response.text
    assert "root:" not in response.text
    assert "Connection refused" not in response.text  # no connection was even tried


@pytest.mark.parametrize("header", ["HTTP_X_REQUEST_ID", "HTTP_IDEMPOTENCY_KEY", "HTTP_TRACEPARENT", "HTTP_HOST"])
def test_no_header_is_split(client: FlaskClient, header: str) -> None:
    """Send the header as a server that does not reject line breaks would."""
    for response in (
        client.get("/v1/images/1", environ_overrides={header: SPLIT}),
        client.post("/v1/images", json={"uri": f"/x/{header}"}, environ_overrides={header: SPLIT}),
    ):
        assert "Set-Cookie" not in response.headers
        assert not any("\r" in value or "\n" in value for _, value in response.headers)
        assert response.mimetype == "application/json"


def test_a_forwarded_path_is_no_markup(make_client: Callable[..., FlaskClient], gallery_url: str) -> None:
    client = make_client(gallery_url, trusted_proxies=1, api_auth="none")
    page = client.get("/", headers={"X-Forwarded-Prefix": '/x"><script>alert(1)</script>'})
    assert "<script>alert" not in page.text


@pytest.mark.parametrize("evil", ["'; DROP TABLE lookalike.images; --", "x') OR true --", "$$; SELECT pg_sleep(9); $$"])
def test_no_text_becomes_sql(client: FlaskClient, evil: str) -> None:
    answers = [
        client.post("/v1/search", json={"image_id": 1, "filter": {evil: evil}}),
        client.post("/v1/search", json={"image_id": 1, "group_by": evil}),
        client.post("/v1/search?explain=1", json={"text": evil}),
        client.post("/v1/search", json={"vector": [1.0] * 8, "space": evil}),
        client.get("/v1/facets", query_string={"name": evil}),
        client.get(f"/v1/images/{quote(evil)}"),
        client.post("/v1/images", json={"uri": f"/{evil}", "caption": evil, "attributes": {evil: evil}}),
    ]
    assert all(answer.status_code < 500 for answer in answers), [answer.text for answer in answers]
    assert client.get("/v1/images/1").status_code == 200
    assert answers[-1].json["caption"] == evil


@pytest.mark.parametrize(
    "body", ["[" * 200_000, '{"a":' * 100_000, '{"image_id": ' + "9" * 5000 + "}", '{"image_id": 1e999999}']
)
def test_json_bombs(reader: FlaskClient, body: str) -> None:
    response = reader.post("/v1/search", data=body, content_type="application/json")
    assert response.status_code in (400, 422), response.text[:200]
    deep = '{"$or": [' * 3000 + '{"a": 1}' + "]}" * 3000
    response = reader.post("/v1/search", data=f'{{"image_id": 1, "filter": {deep}}}', content_type="application/json")
    assert response.status_code in (400, 422), response.text[:200]


def test_a_form_of_ten_thousand_fields(reader: FlaskClient) -> None:
    form = (
        "".join(f'--x\r\nContent-Disposition: form-data; name="f{n}"\r\n\r\nx\r\n' for n in range(10_000)) + "--x--\r\n"
    )
    response = reader.post("/v1/search", data=form.encode(), content_type="multipart/form-data; boundary=x")
    refused(response, 413, "request_entity_too_large")


def test_a_compressed_body_is_not_unpacked(reader: FlaskClient) -> None:
    body = gzip.compress(b" " * 10**8 + b'{"image_id": 1}')
    response = reader.post(
        "/v1/search", data=body, content_type="application/json", headers={"Content-Encoding": "gzip"}
    )
    refused(response, 400, "bad_request")


def test_an_animation_of_many_frames_is_refused(make_client: Callable[..., FlaskClient], gallery_url: str) -> None:
    frames = [picture((16, 16)).rotate(n) for n in range(8)]
    client = make_client(gallery_url, max_image_frames=4)
    for form in ("GIF", "WEBP"):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        for path in ("/v1/images", "/v1/search"):
            response = client.post(
                path, data={"image": (io.BytesIO(data), "a.gif")}, content_type="multipart/form-data"
            )
            refused(response, 422, "image_error", "LOOKALIKE_MAX_IMAGE_FRAMES")


def test_the_databases_password_is_never_exposed(
    make_client: Callable[..., FlaskClient], caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client("postgresql://lookalike:s3kr1t@127.0.0.1:1/nothing")
    with caplog.at_level(logging.DEBUG):
        answers = [client.get(path) for path in ("/readyz", "/v1/status", "/metrics")]
    assert all("s3kr1t" not in answer.text for answer in answers)
    assert "s3kr1t" not in caplog.text


def test_the_list_names_existing_tests() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page)
    assert len(named) > 30
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
    own = re.findall(r"^def (test_\w+)", Path(__file__).read_text(encoding="utf-8"), re.MULTILINE)
    assert set(own[:-1]) <= {name for _, name in named}
