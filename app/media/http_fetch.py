"""Fetch an image or read a stream over http(s), only from public or explicitly allowed hosts, within a deadline."""

import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from app.errors import ImageError
from app.media.limits import Limits, check_size, raise_permanent, raise_transient, run_with_timeout

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Resolved = tuple[socket.AddressFamily, tuple[Any, ...]]

_CHUNK = 2**16
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT_STATUS = frozenset({408, 425, 429})  # 4xx statuses that ask for a retry
# Connection: close, because each image may be on another host; identity, because images are compressed already.
_HEADERS = {
    "User-Agent": "lookalike",
    "Accept": "image/*, */*;q=0.5",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


@dataclass(frozen=True)
class _Target:
    secure: bool
    host: str
    port: int
    selector: str

    def __str__(self) -> str:
        """Return the URL without path and query, which may hold a signature."""
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}"


def fetch_http(uri: str, *, limits: Limits) -> bytes:
    """Return the body of `uri`, after at most 5 redirects, all within `limits`.

    Hosts with private, loopback or link-local addresses are refused unless `limits` names them. Proxies of the
    environment are ignored, because a proxy would hide the address from this check.

    Raises:
        TransientImageError: a retry may succeed.
        ImageError: a retry would fail too, as after a 4xx or for a refused host.
    """
    with _answer(uri, limits, _Deadline(limits.timeout)) as (target, response):
        return _read_body(response, target, limits)


class HttpStream(io.RawIOBase):
    """The body of a uri, of any length, read as it arrives; the timeout applies to each read.

    Its checks and errors are those of `fetch_http`.
    """

    def __init__(self, uri: str, *, limits: Limits) -> None:
        super().__init__()
        self._seconds = limits.timeout
        self._deadline = _Deadline(limits.timeout)
        self._open = ExitStack()
        self._answer = _answer(uri, limits, self._deadline)
        target, self._response = self._open.enter_context(self._answer)
        try:
            _check_status(self._response, target)
        except BaseException:
            self._open.close()
            raise
        self.content_type = self._response.getheader("Content-Type", "").partition(";")[0].strip().lower()

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes as soon as any arrive; empty at the end."""
        self._deadline.renew(self._seconds)
        try:
            return self._response.read1(size)
        except BaseException as error:
            # Raise it within the context manager, which translates the error and closes the connection.
            self._open.pop_all().__exit__(type(error), error, error.__traceback__)
            raise

    def close(self) -> None:
        """Close the connection."""
        self._open.close()
        super().close()


class _Deadline:
    """A deadline on the monotonic clock; a stream renews it with each read."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds

    def renew(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds


@contextmanager
def _answer(uri: str, limits: Limits, deadline: _Deadline) -> Iterator[tuple[_Target, http.client.HTTPResponse]]:
    """Yield the response after redirects, with its target. Raise errors within the block as ImageError."""
    target = _target(uri)
    try:
        for _ in range(_MAX_REDIRECTS + 1):
            with _connect(target, limits, deadline) as connection:
                connection.request("GET", target.selector, headers=_HEADERS)
                with connection.getresponse() as response:
                    if response.status not in _REDIRECTS:
                        yield target, response
                        return
                    if not (location := response.getheader("Location")):
                        raise ImageError("fetch", f"{target} redirects without saying where to")
                    uri = urljoin(uri, location)
            target = _redirected(target, uri)
    except ssl.SSLCertVerificationError as error:
        raise_permanent(f"{target} has no valid certificate: {error.verify_message}", error)
    except TimeoutError as error:
        raise_transient(f"{target} did not deliver within {limits.timeout:g} s (LOOKALIKE_FETCH_TIMEOUT)", error)
    except http.client.HTTPException as error:
        raise_transient(f"{target} broke off its answer: {error or type(error).__name__}", error)
    except ConnectionRefusedError as error:
        raise_transient(f"{target} refused the connection", error)
    except OSError as error:
        raise_transient(f"{target} cannot be reached: {error.strerror or error}", error)
    except ValueError as error:  # a header or a redirect that http.client or urljoin refuses
        raise_permanent(f"{target}: {error}", error)
    raise ImageError("fetch", f"more than {_MAX_REDIRECTS} redirects, the last to {target}")


def _target(uri: str) -> _Target:
    try:
        parts = urlsplit(uri)
        port, host = parts.port, (parts.hostname or "").rstrip(".")
        if not host.isascii():
            host = host.encode("idna").decode()
        selector = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # Escape what browsers escape, because http.client rejects it.
        selector = "".join(c if "!" <= c <= "~" else "".join(f"%{b:02X}" for b in c.encode()) for c in selector)
    except ValueError as error:
        raise_permanent(f"{uri!r} is not a URL: {error}", error)
    if not host:
        raise_permanent(f"{uri!r} names no host")
    if "@" in parts.netloc:
        raise_permanent(f"the URL of {host} holds a user name or password, which is not supported; use a signed URL")
    secure = parts.scheme == "https"
    return _Target(secure, host, port or (443 if secure else 80), selector)


def _redirected(source: _Target, uri: str) -> _Target:
    scheme = urlsplit(uri).scheme
    if scheme not in ("http", "https") or (source.secure and scheme == "http"):
        was = "https" if source.secure else "http"
        raise_permanent(f"{source} redirects from {was} to {scheme or 'nothing'}, which is not followed")
    return _target(uri)


@contextmanager
def _connect(target: _Target, limits: Limits, deadline: _Deadline) -> Iterator[http.client.HTTPConnection]:
    named = target.host in limits.allowed_hosts
    if not named and "*" not in limits.allowed_hosts:
        allowed = ", ".join(sorted(limits.allowed_hosts)) or "none"
        raise_permanent(f"the host {target.host} is not among the allowed hosts: {allowed} (LOOKALIKE_IMAGE_HOSTS)")
    addresses = _resolve(target, deadline)
    if not named:
        for address in addresses:
            _check_public(target, address)
    # The socket is opened to the very address that was checked, so a second answer of the DNS changes nothing.
    opened = _open_socket(addresses, deadline)
    try:
        if target.secure:
            opened.settimeout(_left(deadline))
            opened = ssl.create_default_context().wrap_socket(opened, server_hostname=target.host)
        kind = http.client.HTTPSConnection if target.secure else http.client.HTTPConnection
        connection = kind(target.host, target.port)
        connection.sock = _TimedSocket(opened, deadline)
        yield connection
    finally:
        opened.close()


def _resolve(target: _Target, deadline: _Deadline) -> list[_Resolved]:
    def look_up() -> list[_Resolved]:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]

    try:
        return run_with_timeout(_left(deadline), look_up)
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise_permanent(f"there is no host named {target.host}", error)
        raise_transient(f"the name of the host {target.host} cannot be looked up now: {error.strerror}", error)


def _check_public(target: _Target, address: _Resolved) -> None:
    ip = ipaddress.ip_address(str(address[1][0]).partition("%")[0])
    if not all(each.is_global and not each.is_multicast for each in _reached(ip)):
        raise_permanent(
            f"the host {target.host} has the private address {ip}, which is not fetched from; "
            "name the host among the allowed hosts to permit it"
        )


def _reached(ip: _Address) -> list[_Address]:
    """Return the addresses that a packet to `ip` may reach, because an IPv6 address can embed an IPv4 one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    if ip.ipv4_mapped:
        return [ip.ipv4_mapped]
    carried = [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)] if ip in _NAT64 else []
    return [ip, *carried, *([ip.sixtofour] if ip.sixtofour else []), *(ip.teredo or ())]


def _open_socket(addresses: list[_Resolved], deadline: _Deadline) -> socket.socket:
    failure: OSError = OSError("the host has no address")
    for family, address in addresses:
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.settimeout(_left(deadline))
            opened.connect(address)
        except OSError as error:
            opened.close()
            failure = error
        else:
            return opened
    raise failure


def _left(deadline: _Deadline) -> float:
    left = deadline.at - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _TimedReader(io.RawIOBase):
    """The reading side of a socket, with one deadline for all reads.

    A socket's own timeout starts over with each byte, so a server could drip bytes forever.
    """

    def __init__(self, raw: socket.socket, deadline: _Deadline) -> None:
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        self._raw.settimeout(_left(self._deadline))
        return self._raw.recv_into(buffer)


class _TimedSocket:
    """The part of a socket's interface that http.client uses; `_connect` closes the socket."""

    def __init__(self, raw: socket.socket, deadline: _Deadline) -> None:
        self._raw = raw
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._raw.settimeout(_left(self._deadline))
        self._raw.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._raw, self._deadline), _CHUNK)

    def close(self) -> None:
        """Do nothing, because http.client closes its socket before the response is read."""


def _check_status(response: http.client.HTTPResponse, target: _Target) -> None:
    status = response.status
    if status != http.client.OK:
        fail = raise_transient if status >= 500 or status in _TRANSIENT_STATUS else raise_permanent
        fail(f"{target} answered {status} {response.reason}")


def _read_body(response: http.client.HTTPResponse, target: _Target, limits: Limits) -> bytes:
    _check_status(response, target)
    if (encoding := response.getheader("Content-Encoding", "identity")) != "identity":
        raise_permanent(f"{target} sent the image compressed as {encoding!r}, although the request excludes it")
    announced = response.length  # None: chunked, or until the connection closes
    check_size(announced or 0, limits)
    body = bytearray()
    while chunk := response.read(_CHUNK):
        body += chunk
        check_size(len(body), limits, more=True)
    if announced is not None and len(body) < announced:
        raise_transient(f"{target} broke off after {len(body):,} of {announced:,} bytes")
    return bytes(body)
