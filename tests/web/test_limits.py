"""Rate and concurrency limits, statement timeouts, proxies, and the request log."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient

from app import db
from app.config import Settings
from app.errors import ConfigurationError, OverloadedError
from app.store import api_keys
from app.web import auth, create_app, logs
from app.web.rate_limit import ConcurrencyLimit
from tests.support.api import bearer, refused


def test_a_key_has_its_own_rate(make_client: Callable[..., FlaskClient], gallery_url: str) -> None:
    client = make_client(gallery_url, api_auth="keys", rate_limit="3/hour")
    with db.connect(gallery_url, autocommit=True) as conn:
        one, other = (api_keys.create(conn, name, scope="search")[0] for name in ("one", "other"))
    for _ in range(3):
        assert client.get("/v1/images/1", headers=bearer(one)).status_code == 200
    response = client.post("/v1/search", json={"image_id": 1}, headers=bearer(one))
    refused(response, 429, "too_many_requests")
    assert int(response.headers["Retry-After"]) > 0
    assert client.get("/v1/images/1", headers=bearer(other)).status_code == 200
    for _ in range(5):
        assert client.get("/healthz").status_code == 200
        refused(client.get("/v1/images/1"), 401, "unauthorized")


def test_a_key_runs_so_many_at_once(make_client: Callable[..., FlaskClient], gallery_url: str) -> None:
    client = make_client(gallery_url, api_auth="keys", concurrency_limit=1)
    with db.connect(gallery_url, autocommit=True) as conn:
        one, other = (api_keys.create(conn, name, scope="write")[0] for name in ("one", "other"))
    with db.connect(gallery_url) as conn, ThreadPoolExecutor(1) as threads:
        conn.execute("SELECT FROM lookalike.images WHERE id = 1 FOR UPDATE")
        # This request waits for the lock, so that the test decides how long it runs.
        waiting = threads.submit(
            client.application.test_client().patch, "/v1/images/1", json={"caption": "x"}, headers=bearer(one)
        )
        while conn.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
            assert not waiting.done()
        response = client.get("/v1/images/2", headers=bearer(one))
        refused(response, 429, "too_many_requests", "LOOKALIKE_CONCURRENCY_LIMIT")
        assert response.headers["Retry-After"] == "1"
        assert client.get("/v1/images/2", headers=bearer(other)).status_code == 200
        assert client.get("/healthz").status_code == 200
        conn.rollback()
        assert waiting.result().status_code == 200
    for _ in range(3):
        assert client.get("/v1/images/2", headers=bearer(one)).status_code == 200
        assert client.get("/v1/images/777", headers=bearer(one)).status_code == 404


def test_a_malformed_rate_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"LOOKALIKE_RATE_LIMIT=often is not a valid rate limit"):
        create_app(Settings(rate_limit="often"), "postgresql://127.0.0.1:1/nothing")


def test_a_statement_that_takes_too_long(make_client: Callable[..., FlaskClient], reader_url: str) -> None:
    client = make_client(reader_url, search_timeout=0.001)
    response = client.post("/v1/search", json={"image_id": 1, "diverse": 0.5, "k": 25})
    refused(response, 503, "query_canceled", "timeout")
    assert "Retry-After" in response.headers
    assert client.get("/v1/images/1").status_code == 200  # on the same connection, with its own timeout
    assert client.patch("/v1/images/777", json={}).status_code == 404


def test_the_concurrency_limit() -> None:
    limit = ConcurrencyLimit(1, what="tests run")
    with limit.acquire(), pytest.raises(OverloadedError, match="too many tests run at once"), limit.acquire():
        pass
    with limit.acquire():
        pass


def test_behind_a_proxy_under_a_path(make_client: Callable[..., FlaskClient], gallery_url: str) -> None:
    forwarded = {"X-Forwarded-Prefix": "/pictures", "X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https"}
    direct = make_client(gallery_url).post("/v1/images", json={"uri": "/a"}, headers=forwarded)
    assert direct.headers["Location"] == f"/v1/images/{direct.json['id']}"
    behind = make_client(gallery_url, trusted_proxies=1, api_auth="none")
    added = behind.post("/v1/images", json={"uri": "/b"}, headers=forwarded)
    assert added.headers["Location"] == f"/pictures/v1/images/{added.json['id']}"
    assert 'data-document="/pictures/openapi.json"' in behind.get("/docs", headers=forwarded).text
    assert auth.needs_keys(Settings(trusted_proxies=1))


def test_slow_requests_are_logged_with_id_and_without_secrets(
    make_client: Callable[..., FlaskClient], gallery_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(gallery_url, slow_ms=0.0)
    with db.connect(gallery_url, autocommit=True) as conn:
        key = api_keys.create(conn, "k", scope="search")[0]
    with caplog.at_level(logging.WARNING):
        headers = {**bearer(key), "X-Request-ID": "abc-1"}
        client.post("/v1/search?explain=1", json={"image_id": 1, "text": "private words"}, headers=headers)
    (record,) = (one for one in caplog.records if one.name == "app.web.logs")
    entry = json.loads(logs.JsonFormatter().format(record))
    assert (entry["level"], entry["method"], entry["path"], entry["status"]) == ("WARNING", "POST", "/v1/search", 200)
    assert entry["key"] == key[:11]
    assert "search;dur=" in entry["timing"]
    assert "[request abc-1]" in entry["message"]
    assert "private words" not in caplog.text
    assert key not in caplog.text


def test_the_json_log_names_the_request(client: FlaskClient) -> None:
    with client.application.test_request_context(headers={"X-Request-ID": "abc"}):
        try:
            int("broken\nthing")
        except ValueError:
            record = logging.LogRecord("a", logging.ERROR, "f", 1, "line\n%s", ("two",), __import__("sys").exc_info())
        line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["request_id"], entry["message"]) == ("abc", "line\ntwo")
    assert "ValueError: invalid" in entry["error"]
