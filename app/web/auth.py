"""Who may call what: keys and scopes, or none on this machine alone.

Everything needs a key but the probes, the documentation, the page's frame and static files; reading and searching need
the scope search, all other methods write. Where no key is needed, the API answers to names of this machine only, and no
foreign page may have a browser write here: that keeps out the web sites that a user of this machine visits.
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

# How long a process takes a key that it has looked up for good: so long does a revoked one still work.
CACHE_SECONDS = 5.0
_CACHED_KEYS = 1000
_NOTE_SECONDS = 60.0

_PUBLIC = frozenset({"health.get_health", "health.get_ready"})
# The pages hold no data: their scripts call the routes below /v1 for it.
_PUBLIC_BLUEPRINTS = frozenset({"docs", "pages"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
# POST that changes nothing.
_SEARCHES = frozenset({"search.search_images"})


class MissingScopeError(ForbiddenError):
    """The key is valid, and may not do this."""

    def __init__(self, key: ApiKey, wanted: Scope) -> None:
        super().__init__(
            f"the key {key.prefix}… has the scope {key.scope}, and this needs {wanted}; make one with"
            f' "lookalike key create NAME --scope {wanted}"'
        )
        self.scope = wanted


class Keyring:
    """The keys that this process has seen lately, so that most requests ask the database nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[ApiKey, float]] = OrderedDict()
        self._noted: dict[int, float] = {}

    def find(self, text: str) -> ApiKey:
        """Return the record of a key that is valid now; AuthenticationError says why it is not."""
        digest, now = api_keys.digest(text), time.monotonic()
        with self._lock:
            known = self._known.get(digest)
        if known is None or now - known[1] > CACHE_SECONDS:
            known = (self._looked_up(text), now)
            with self._lock:
                self._known[digest] = known
                self._known.move_to_end(digest)
                if len(self._known) > _CACHED_KEYS:
                    self._known.popitem(last=False)
        self._note(known[0], now)
        return known[0]

    def _looked_up(self, text: str) -> ApiKey:
        with self._database.connection() as conn:
            found = api_keys.find(conn, text)
        if found is None:
            raise AuthenticationError("the API key is unknown")
        if found.revoked_at is not None:
            raise AuthenticationError(f"the API key {found.prefix}… has been revoked")
        if found.expired:
            raise AuthenticationError(f"the API key {found.prefix}… has expired")
        return found

    def _note(self, key: ApiKey, now: float) -> None:
        with self._lock:
            if now - self._noted.get(key.id, float("-inf")) < _NOTE_SECONDS:
                return
            self._noted[key.id] = now
        try:
            with self._database.connection() as conn:
                api_keys.record_use(conn, key)
        except DatabaseUnavailableError:
            raise
        except LookalikeError as error:  # a standby, or a role that may only read: the key is good all the same
            logger.debug("the use of key %s cannot be noted: %s", key.prefix, error)


def needs_keys(settings: Settings) -> bool:
    """Tell whether callers need a key: by the setting, else wherever others than this machine can call."""
    if settings.api_auth != "auto":
        return settings.api_auth == "keys"
    return settings.trusted_proxies > 0 or not _is_loopback(settings.host)


def check_start(conn: Connection, settings: Settings) -> None:
    """Raise ConfigurationError where keys are needed and there is none, so that nobody could call."""
    if needs_keys(settings) and not api_keys.any_valid(conn):
        raise ConfigurationError(
            f"LOOKALIKE_HOST={settings.host}, LOOKALIKE_API_AUTH={settings.api_auth}: callers need an API key, and"
            ' there is none; make one with "lookalike key create NAME --scope admin", or let everyone in who can'
            " reach it with LOOKALIKE_API_AUTH=none"
        )


def wanted_scope(endpoint: str, method: str) -> Scope | None:
    """Return the scope that a call needs; None for one that is open to all."""
    blueprint, _, name = endpoint.rpartition(".")
    if endpoint in _PUBLIC or blueprint in _PUBLIC_BLUEPRINTS or name == "static":
        return None
    return "search" if method in _READING or endpoint in _SEARCHES else "write"


def register(app: Flask, settings: Settings, keyring: Keyring) -> None:
    """Check every request that a route takes, before it is handled; `g.api_key` is then its key, or None."""
    keys_needed = needs_keys(settings)
    local = not keys_needed and settings.api_auth == "auto"

    def check() -> None:
        g.api_key = None
        if request.endpoint is None:
            return  # no route: 404 or 405 comes of itself
        if local:
            _check_host()
        if not keys_needed:
            _check_origin()
        wanted = wanted_scope(request.endpoint, request.method)
        given = request.authorization
        if wanted is None or (given is None and not keys_needed):
            return
        if given is None or given.type != "bearer" or not given.token:
            raise AuthenticationError(
                'an API key is needed: send it as "Authorization: Bearer lk_…"; "lookalike key create" makes one'
            )
        key = keyring.find(given.token)
        if not api_keys.allows(key.scope, wanted):
            raise MissingScopeError(key, wanted)
        g.api_key = key

    app.before_request(check)


def challenge(error: LookalikeError) -> str | None:
    """Return the WWW-Authenticate header (RFC 6750) that goes with an error; None for one of another kind."""
    if isinstance(error, MissingScopeError):
        return f'Bearer realm="lookalike", error="insufficient_scope", scope="{error.scope}"'
    if isinstance(error, AuthenticationError):
        return 'Bearer realm="lookalike"' + (', error="invalid_token"' if request.authorization else "")
    return None


def _check_host() -> None:
    # A foreign page can have its own host name resolve to 127.0.0.1, and then read what is answered.
    if not _names_this_machine(request.host):
        raise ForbiddenError(
            f"the host {request.host[:100]!r} is no name of this machine; call http://127.0.0.1, or have callers use"
            " keys with LOOKALIKE_API_AUTH=keys"
        )


def _check_origin() -> None:
    # Without keys a form on a foreign page could write here, by way of the browser of someone who may.
    if request.method in _READING:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    foreign = site not in ("same-origin", "none") if site else bool(origin) and urlsplit(origin).netloc != request.host
    if foreign:
        raise ForbiddenError(f"a page of {(origin or 'another site')[:100]} may not write here")


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
