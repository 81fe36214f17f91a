"""`lookalike key`: made and shown once, listed by prefix, revoked; users' mistakes."""

import json

import pytest

from app import db
from app.store import api_keys
from tests.support.cli import Command, runner


@pytest.fixture
def lookalike(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Command:
    return runner(monkeypatch, database_url)


def test_create_ls_revoke(lookalike: Command, database_url: str) -> None:
    assert "no key yet" in lookalike("key", "ls").stderr
    made = lookalike("key", "create", "shop", "--scope", "search", "--expires", "90d")
    key = made.stdout.strip()
    assert made.exit_code == 0
    assert "cannot be shown again" in made.stderr
    with db.connect(database_url) as conn:
        found = api_keys.find(conn, key)
    assert found is not None
    assert found.expires_at is not None
    assert round((found.expires_at - found.created_at).total_seconds() / 86400) == 90
    listed = lookalike("key", "ls")
    assert key not in listed.output
    assert f"{key[:11]}…" in listed.stdout
    again = lookalike("key", "create", "shop", "--scope", "write")
    assert (again.exit_code, "is in use; revoke it first" in again.stderr) == (1, True)
    assert lookalike("key", "revoke", f"{key[:11]}…").stdout == "1 key revoked\n"
    assert "revoked" in lookalike("key", "ls").stdout
    replaced = json.loads(lookalike("key", "create", "shop", "--scope", "admin", "--json").stdout)
    assert replaced["record"]["scope"] == "admin"
    assert lookalike("key", "revoke", "shop").exit_code == 0
    assert lookalike("key", "revoke", "shop").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("a", "--scope", "root"), "scope 'root' does not exist"),
        (("a", "--scope", "search", "--expires", "soon"), "write 3600, 30m, 12h, 90d or 4w"),
        (("a", "--scope", "search", "--expires", "0"), "is not a valid lifetime"),
        (("", "--scope", "search"), "a key needs a name"),
    ],
)
def test_mistakes(lookalike: Command, arguments: tuple[str, ...], expected: str) -> None:
    refused = lookalike("key", "create", *arguments)
    assert refused.exit_code == 1
    assert expected in refused.stderr


def test_serve_refuses_an_open_address_without_a_key(lookalike: Command) -> None:
    refused = lookalike("serve", env={"LOOKALIKE_HOST": "0.0.0.0"})
    assert refused.exit_code == 1
    assert "lookalike key create NAME --scope admin" in refused.stderr
