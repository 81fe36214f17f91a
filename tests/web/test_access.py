"""Keys and scopes over HTTP, and the checks against other sites if no key is needed."""

import logging
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from app import db
from app.config import Settings
from app.errors import ConfigurationError
from app.store import api_keys
from app.web import auth
from tests.support.api import bearer, refused


def make_key(url: str, scope: api_keys.Scope, **options: float) -> str:
    with db.connect(url, autocommit=True) as conn:
        return api_keys.create(conn, f"{scope} key", scope=scope, **options)[0]


@pytest.fixture
def guarded(make_client: Callable[..., FlaskClient], gallery_url: str) -> FlaskClient:
    return make_client(gallery_url, api_auth="keys")


def test_without_a_key(guarded: FlaskClient) -> None:
    for response in (guarded.get("/v1/images/1"), guarded.post("/v1/search", json={"image_id": 1})):
        refused(response, 401, "unauthorized", "lookalike key create")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="lookalike"'
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200
    assert guarded.get("/v1/nothing").status_code == 404


@pytest.mark.parametrize(
    "sent", ["Bearer lk_" + "A" * 43, "Bearer x", "Bearer ", "Basic bGs6eA==", "lk_x", "Bearer lk_é' OR 1=1 --"]
)
def test_malformed_keys(guarded: FlaskClient, sent: str) -> None:
    response = guarded.get("/v1/images/1", headers={"Authorization": sent})
    refused(response, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")


def test_scopes(guarded: FlaskClient, gallery_url: str) -> None:
    search, write, admin = (make_key(gallery_url, scope) for scope in api_keys.SCOPES)
    for key in (search, write, admin):
        assert guarded.get("/v1/images/1", headers=bearer(key)).status_code == 200
        assert guarded.post("/v1/search", json={"image_id": 1}, headers=bearer(key)).status_code == 200
    for response in (
        guarded.patch("/v1/images/1", json={"caption": "x"}, headers=bearer(search)),
        guarded.delete("/v1/images/1", headers=bearer(search)),
        guarded.post("/v1/images", json={"uri": "/a"}, headers=bearer(search)),
    ):
        refused(response, 403, "forbidden", "has scope search", "needs write", search[:11])
        assert 'scope="write"' in response.headers["WWW-Authenticate"]
        assert search not in response.text
    assert guarded.patch("/v1/images/1", json={"caption": "x"}, headers=bearer(write)).status_code == 200
    assert guarded.delete("/v1/images/1", headers=bearer(admin)).status_code == 204


def test_revoked_and_expired_keys(guarded: FlaskClient, gallery_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHE_SECONDS", 0.0)
    key = make_key(gallery_url, "search")
    assert guarded.get("/v1/images/1", headers=bearer(key)).status_code == 200
    with db.connect(gallery_url, autocommit=True) as conn:
        assert api_keys.revoke(conn, "search key") == 1
        other = api_keys.create(conn, "search key", scope="search", expires_seconds=1000)[0]
        conn.execute(
            "UPDATE lookalike.api_keys SET expires_at = clock_timestamp() - interval '1 s' WHERE revoked_at IS NULL"
        )
    refused(guarded.get("/v1/images/1", headers=bearer(key)), 401, "unauthorized", "revoked")
    refused(guarded.get("/v1/images/1", headers=bearer(other)), 401, "unauthorized", "expired")


def test_the_use_of_a_key_is_recorded_once_a_minute_and_the_key_never_logged(
    guarded: FlaskClient, gallery_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_key(gallery_url, "search")

    def used() -> object:
        with db.connect(gallery_url) as conn:
            return api_keys.ls(conn)[0].last_used_at

    assert used() is None
    with caplog.at_level(logging.DEBUG):
        guarded.get("/v1/images/1", headers=bearer(key))
        first = used()
        assert first is not None
        guarded.delete("/v1/images/1", headers=bearer(key))
    assert used() == first
    assert key not in caplog.text


def test_only_the_hash_is_stored(database_url: str) -> None:
    with db.connect(database_url, autocommit=True) as conn:
        key, made = api_keys.create(conn, "shop", scope="search")
        rows = str(conn.execute("SELECT k::text FROM lookalike.api_keys k").fetchall())
        assert api_keys.find(conn, key) == made
    assert key not in rows
    assert api_keys.digest(key).hex() in rows
    assert key.startswith(made.prefix)
    assert len(key) == 46


def test_on_this_machine_a_key_is_optional_and_checked(client: FlaskClient, gallery_url: str) -> None:
    assert client.get("/v1/images/1").status_code == 200
    refused(client.get("/v1/images/1", headers=bearer("lk_" + "A" * 43)), 401, "unauthorized")
    key = make_key(gallery_url, "search")
    refused(client.delete("/v1/images/1", headers=bearer(key)), 403, "forbidden")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.5:8000", "localhost.evil"])
def test_a_foreign_host_name_that_leads_here_is_refused(client: FlaskClient, host: str) -> None:
    refused(client.get("/v1/images/1", headers={"Host": host}), 403, "forbidden", "LOOKALIKE_API_AUTH=keys")
    for own in ("localhost", "127.0.0.1:8000", "[::1]:8000"):
        assert client.get("/v1/images/1", headers={"Host": own}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_foreign_page_cannot_write_here(client: FlaskClient, headers: dict[str, str]) -> None:
    refused(client.delete("/v1/images/1", headers=headers), 403, "forbidden", "are not allowed")
    refused(client.post("/v1/images", data={"caption": "x"}, headers=headers), 403, "forbidden")
    assert client.get("/v1/images/1").status_code == 200
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert client.delete("/v1/images/1", headers=own).status_code == 204


def test_on_an_open_address_the_api_starts_only_with_a_key(database_url: str) -> None:
    with db.connect(database_url, autocommit=True) as conn:
        for settings in (Settings(host="0.0.0.0"), Settings(host="::"), Settings(api_auth="keys")):
            with pytest.raises(ConfigurationError, match=r"key create NAME.*LOOKALIKE_API_AUTH=none"):
                auth.check_start(conn, settings)
        for settings in (Settings(), Settings(host="localhost"), Settings(host="0.0.0.0", api_auth="none")):
            auth.check_start(conn, settings)
        api_keys.create(conn, "short", scope="admin", expires_seconds=100)
        auth.check_start(conn, Settings(host="0.0.0.0"))
        conn.execute("UPDATE lookalike.api_keys SET expires_at = created_at")
        with pytest.raises(ConfigurationError):
            auth.check_start(conn, Settings(host="0.0.0.0"))


def test_the_document_names_the_scopes(reader: FlaskClient) -> None:
    document = reader.get("/openapi.json").json
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    wanted = {
        ("/v1/search", "post"): [{"key": ["search"]}, {}],
        ("/v1/images", "post"): [{"key": ["write"]}, {}],
        ("/v1/images/{image_id}", "get"): [{"key": ["search"]}, {}],
        ("/healthz", "get"): [],
    }
    for (path, method), security in wanted.items():
        assert document["paths"][path][method]["security"] == security
