"""Errors in one shape, from all sources: routes, methods, sizes, the database, defects."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import errors
from app.web import create_app
from app.web.errors import KINDS, kind_of


def check_shape(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.mimetype == "application/json"
    assert set(response.json) == {"error"}
    error: dict[str, Any] = response.json["error"]
    assert set(error) == {"code", "message", "request_id", "fields"}
    assert error["code"] == code
    assert error["message"]
    assert error["request_id"] == response.headers["X-Request-ID"]
    return error


def test_unknown_route(reader: FlaskClient) -> None:
    error = check_shape(reader.get("/v1/nothing/here"), 404, "not_found")
    assert "/v1/nothing/here" in error["message"]


def test_method_not_allowed(reader: FlaskClient) -> None:
    response = reader.delete("/v1/search")
    check_shape(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_every_error_class_has_a_status() -> None:
    def below(kind: type[errors.LookalikeError]) -> list[type[errors.LookalikeError]]:
        return [kind, *(one for sub in kind.__subclasses__() for one in below(sub))]

    mapped = {kind for kind, _ in KINDS}
    for kind in below(errors.LookalikeError):
        if kind.__module__ == "app.errors":
            assert kind in mapped
    for at, (kind, _) in enumerate(KINDS):
        assert not any(issubclass(kind, earlier) for earlier, _ in KINDS[:at]), f"{kind} is never reached"
    assert kind_of(errors.TransientImageError("fetch", "x")).status == 503


def test_a_well_formed_request_id_of_the_client_is_used(reader: FlaskClient) -> None:
    assert reader.get("/healthz", headers={"X-Request-ID": "abc-1.2_3:4"}).headers["X-Request-ID"] == "abc-1.2_3:4"
    for bad in ("", "a b", "x" * 200, "<script>"):
        made = reader.get("/healthz", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
        assert made != bad
        assert len(made) == 32


def test_defects_show_no_traceback(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> str:
        raise RuntimeError("a secret detail")

    client.application.add_url_rule("/broken", view_func=broken)
    with caplog.at_level(logging.ERROR):
        response = client.get("/broken")
    error = check_shape(response, 500, "internal_error")
    assert "secret" not in response.text
    assert error["request_id"] in caplog.text
    assert "a secret detail" in caplog.text


def test_no_database(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client("postgresql://127.0.0.1:1/nothing")
    assert client.get("/healthz").json == {"status": "ok"}
    for path in ("/readyz", "/v1/status", "/v1/images/1"):
        response = client.get(path)
        check_shape(response, 503, "database_unavailable")
        assert int(response.headers["Retry-After"]) > 0


def test_readiness_reports_what_is_missing(
    make_client: Callable[..., FlaskClient], new_database: Callable[..., str], database_url: str, reader_url: str
) -> None:
    empty = check_shape(make_client(new_database()).get("/readyz"), 503, "schema_mismatch")
    assert "lookalike migrate" in empty["message"]
    without_space = check_shape(make_client(database_url).get("/readyz"), 503, "schema_mismatch")
    assert "no embedding space is active" in without_space["message"]
    ready = make_client(reader_url).get("/readyz")
    assert (ready.status_code, ready.json["status"], ready.json["space"]) == (200, "degraded", "tiny")
    assert ready.json["problems"] == [
        "no worker is alive: images are not embedded, and searches by an uploaded image fail"
    ]


def test_status(reader: FlaskClient) -> None:
    found = reader.get("/v1/status").json
    assert found["images"] == 30
    assert found["spaces"][0]["name"] == "tiny"
    assert found["spaces"][0]["embedded"] == 29
    assert found["workers"] == []


def test_create_app_connects_to_nothing(tmp_path: Any) -> None:
    from app.config import Settings

    create_app(Settings(home=tmp_path / "home"), "postgresql://127.0.0.1:1/nothing")
    assert not (tmp_path / "home").exists()
