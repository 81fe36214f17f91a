"""Authentication by API keys and scopes; on a loopback address, no key is needed.

Probes, documentation, the page's HTML and static files are public. Reads and searches need the scope search, all other
methods need write. If no key is needed, the API accepts only host names of this machine, and rejects writes from pages
of other sites, because a user of this machine may visit a malicious web site.
"""

import ipaddress
import logging
import threading
import time
from collections import OrderedDict
from functools import lru_cache
from urllib.parse import urlsplit

from flask import Flask, g, request

from app.config import Settings
from app.db import Connection
from app.errors import AuthenticationError, ConfigurationError, DatabaseUnavailableError, ForbiddenError, LookalikeError
from app.store import api_keys
from app.store.api_keys import ApiKey, Scope
from app.web.pool import Database

logger = logging.getLogger(__name__)

# A revoked key works for up to this long in a process that has looked it up.
CACHE_SECONDS = 5.0
_CACHED_KEYS = 1000
_RECORD_SECONDS = 60.0

_PUBLIC = frozenset({"health.get_health", "health.get_ready"})
# Pages contain no data: their scripts get it from the routes below /v1.
_PUBLIC_BLUEPRINTS = frozenset({"docs", "pages"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# POST requests that change nothing.
_READ_ONLY_POSTS = frozenset({"search.search_images"})


class MissingScopeError(ForbiddenError):
    """The key is valid, but its scope is too narrow."""

    def __init__(self, key: ApiKey, wanted: Scope) -> None:
        super().__init__(
            f"the key {key.prefix}… has scope {key.scope}, but this request needs {wanted}; create a key with"
            f' "lookalike key create NAME --scope {wanted}"'
        )
        self.scope = wanted


class KeyCache:
    """Cache of recently used keys, so that most requests need no query for their key."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._cached: OrderedDict[bytes, tuple[ApiKey, float]] = OrderedDict()
        self._recorded_at: dict[int, float] = {}

    def find(self, text: str) -> ApiKey:
        """Return the record of a valid key.

        Raises:
            AuthenticationError: the key is unknown, revoked or expired.
        """
        digest, now = api_keys.digest(text), time.monotonic()
        with self._lock:
            cached = self._cached.get(digest)
        if cached is None or now - cached[1] > CACHE_SECONDS:
            cached = (self._load(text), now)
            with self._lock:
                self._cached[digest] = cached
                self._cached.move_to_end(digest)
                if len(self._cached) > _CACHED_KEYS:
                    self._cached.popitem(last=False)
        self._record_use(cached[0], now)
        return cached[0]

    def _load(self, text: str) -> ApiKey:
        with self._database.connection() as conn:
            found = api_keys.find(conn, text)
        if found is None:
            raise AuthenticationError("the API key is unknown")
        if found.revoked_at is not None:
            raise AuthenticationError(f"the API key {found.prefix}… has been revoked")
        if found.expired:
            raise AuthenticationError(f"the API key {found.prefix}… has expired")
        return found

    def _record_use(self, key: ApiKey, now: float) -> None:
        with self._lock:
            if now - self._recorded_at.get(key.id, float("-inf")) < _RECORD_SECONDS:
                return
            self._recorded_at[key.id] = now
        try:
            with self._database.connection() as conn:
                api_keys.record_use(conn, key)
        except DatabaseUnavailableError:
            raise
        except LookalikeError as error:  # a standby or a read-only role: the key is valid all the same
            logger.debug("cannot record the use of key %s: %s", key.prefix, error)


def needs_keys(settings: Settings) -> bool:
    """Return whether clients need a key: as LOOKALIKE_API_AUTH sets it, or if other machines can connect."""
    if settings.api_auth != "auto":
        return settings.api_auth == "keys"
    return settings.trusted_proxies > 0 or not _is_loopback(settings.host)


def check_start(conn: Connection, settings: Settings) -> None:
    """Raise ConfigurationError if clients need a key and none exists."""
    if needs_keys(settings) and not api_keys.any_valid(conn):
        raise ConfigurationError(
            f"LOOKALIKE_HOST={settings.host}, LOOKALIKE_API_AUTH={settings.api_auth}: clients need an API key, but"
            ' there is none; create one with "lookalike key create NAME --scope admin", or let in everyone who can'
            " connect, with LOOKALIKE_API_AUTH=none"
        )


def required_scope(endpoint: str, method: str) -> Scope | None:
    """Return the scope that a request needs; None if the route is public."""
    blueprint, _, name = endpoint.rpartition(".")
    if endpoint in _PUBLIC or blueprint in _PUBLIC_BLUEPRINTS or name == "static":
        return None
    return "search" if method in _SAFE_METHODS or endpoint in _READ_ONLY_POSTS else "write"


def register(app: Flask, settings: Settings, keys: KeyCache) -> None:
    """Check the key of every request to a route, and set `g.api_key`; None without a key."""
    keys_needed = needs_keys(settings)
    local = not keys_needed and settings.api_auth == "auto"

    def check() -> None:
        g.api_key = None
        if request.endpoint is None:
            return  # no route: Flask answers 404 or 405
        if local:
            _check_host()
        if not keys_needed:
            _check_origin()
        wanted = required_scope(request.endpoint, request.method)
        given = request.authorization
        if wanted is None or (given is None and not keys_needed):
            return
        if given is None or given.type != "bearer" or not given.token:
            raise AuthenticationError(
                'an API key is needed: send it as "Authorization: Bearer lk_…"; "lookalike key create" creates one'
            )
        key = keys.find(given.token)
        if not api_keys.allows(key.scope, wanted):
            raise MissingScopeError(key, wanted)
        g.api_key = key

    app.before_request(check)


def challenge(error: LookalikeError) -> str | None:
    """Return the WWW-Authenticate header (RFC 6750) for an authentication or scope error, else None."""
    if isinstance(error, MissingScopeError):
        return f'Bearer realm="lookalike", error="insufficient_scope", scope="{error.scope}"'
    if isinstance(error, AuthenticationError):
        return 'Bearer realm="lookalike"' + (', error="invalid_token"' if request.authorization else "")
    return None


def _check_host() -> None:
    # A malicious site can let its own host name resolve to 127.0.0.1, and then read the responses.
    if not _names_this_machine(request.host):
        raise ForbiddenError(
            f"the host {request.host[:100]!r} is not a name of this machine; use http://127.0.0.1, or require keys"
            " with LOOKALIKE_API_AUTH=keys"
        )


def _check_origin() -> None:
    # Without keys, a form on another site could write here through a user's browser.
    if request.method in _SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    foreign = site not in ("same-origin", "none") if site else bool(origin) and urlsplit(origin).netloc != request.host
    if foreign:
        raise ForbiddenError(f"writes from a page of {(origin or 'another site')[:100]} are not allowed")


@lru_cache(maxsize=256)
def _names_this_machine(netloc: str) -> bool:
    return _is_loopback(urlsplit(f"//{netloc}").hostname or "")


def _is_loopback(host: str) -> bool:
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
