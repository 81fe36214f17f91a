"""Create, list, revoke and check API keys.

A key is `lk_` and 256 random bits; only its SHA-256 is stored. A slow hash (bcrypt, argon2) would not help, because it
protects passwords that a word list can guess, and nobody can guess 256 random bits. It would cost each request tens of
milliseconds, which attackers could use to overload the service.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from psycopg.rows import class_row, dict_row, scalar_row

from app.db import Connection, sql, translated
from app.errors import InvalidInputError, NotFoundError

Scope = Literal["search", "write", "admin"]
# Each scope includes those before it.
SCOPES: tuple[Scope, ...] = get_args(Scope)

MARK = "lk_"
_PREFIX_LENGTH = len(MARK) + 8
_KEY = re.compile(r"lk_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A row of `lookalike.api_keys`, without the key's hash."""

    id: int
    name: str
    prefix: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    expired: bool


def create(conn: Connection, name: str, *, scope: Scope, expires_seconds: float | None = None) -> tuple[str, ApiKey]:
    """Store a new key; return it with its record. Nothing can return the key again.

    Raises:
        ConflictError: the name is in use.
        InvalidInputError: scope, name or expiry is not valid.
    """
    if scope not in SCOPES:
        raise InvalidInputError(f"there is no scope {scope!r}; choose {', '.join(SCOPES)}")
    if not name.strip() or len(name) > 100:
        raise InvalidInputError(f"a key needs a name of 1 to 100 characters, got {name[:100]!r}")
    if expires_seconds is not None and expires_seconds <= 0:
        raise InvalidInputError(f"a key must expire in the future, got {expires_seconds:g} s")
    key = MARK + secrets.token_urlsafe(32)
    values = {
        "name": name,
        "prefix": key[:_PREFIX_LENGTH],
        "sha": digest(key),
        "scope": scope,
        "expires_seconds": expires_seconds,
    }
    with translated(), conn.cursor(row_factory=class_row(ApiKey)) as cursor:
        made = cursor.execute(sql.query("add_key"), values).fetchone()
    if made is None:
        raise RuntimeError("an INSERT that returns its row returned none")
    return key, made


def ls(conn: Connection) -> list[ApiKey]:
    """Return all keys, newest first."""
    with translated(), conn.cursor(row_factory=class_row(ApiKey)) as cursor:
        return cursor.execute(sql.query("keys")).fetchall()


def revoke(conn: Connection, name: str) -> int:
    """Revoke the key of this name, or the keys with this prefix; return how many.

    Raises:
        NotFoundError: there is no such key, or it is already revoked.
    """
    with translated():
        found = conn.execute(sql.query("revoke_key"), {"name": name}).fetchall()
    if not found:
        raise NotFoundError(f"there is no key {name!r} that is not revoked; lookalike key ls lists them")
    return len(found)


def find(conn: Connection, key: str) -> ApiKey | None:
    """Return the record of this key, even if it is revoked or expired, or None. Compare in constant time."""
    if not _KEY.fullmatch(key):
        return None
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql.query("keys_by_prefix"), {"prefix": key[:_PREFIX_LENGTH]}).fetchall()
    wanted = digest(key)
    for row in rows:
        if hmac.compare_digest(bytes(row.pop("secret_sha256")), wanted):
            return ApiKey(**row)
    return None


def record_use(conn: Connection, key: ApiKey) -> None:
    """Set the key's last use to now, at most once a minute."""
    with translated():
        conn.execute(sql.query("record_key_use"), {"id": key.id})


def any_valid(conn: Connection) -> bool:
    """Return whether there is a key that is neither revoked nor expired."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(sql.query("any_key")).fetchone())


def allows(scope: str, wanted: Scope) -> bool:
    """Return whether a key of `scope` includes the scope `wanted`."""
    return SCOPES.index(scope) >= SCOPES.index(wanted)


def digest(key: str) -> bytes:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(key.encode()).digest()
