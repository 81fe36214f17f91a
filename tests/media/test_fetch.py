"""The limits on image sources: no spelling of a private address, a local path or a host may bypass them."""

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import pytest

from app.errors import ImageError
from app.media.fetch import _UNCHECKED, fetch
from app.media.limits import Limits

LIMITS = Limits(max_bytes=2**20, max_pixels=10**7, timeout=5)


class Inner(http.server.BaseHTTPRequestHandler):
    """A server that no fetch may reach; it records requests."""

    reached: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.reached.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"secret")

    do_CONNECT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(address: str) -> Iterator[int]:
    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    Inner.reached.clear()
    server = Server((address, 0), Inner)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def inner() -> Iterator[int]:
    with served("127.0.0.1") as port:
        yield port


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "127.0.0.1.",
        "LOCALHOST",
        "localhost.",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::]",
        "[64:ff9b::127.0.0.1]",
        "①②⑦.⓪.⓪.①",  # as a browser reads them, 127.0.0.1
        "127。0。0。1",
        "%31%32%37.0.0.1",
    ],
)
def test_no_spelling_of_an_inner_address_passes(inner: int, host: str) -> None:
    with pytest.raises(ImageError):
        fetch(f"http://{host}:{inner}/x", limits=LIMITS)
    assert Inner.reached == []


@pytest.mark.parametrize(
    "uri",
    [
        "http://allowed.example@127.0.0.1:{port}/x",
        "http://allowed.example:80@127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}#@allowed.example/x",
        "http://127.0.0.1:{port}?@allowed.example/x",
        "http://127.0.0.1:{port}\\@allowed.example/x",
        "HTTP://127.0.0.1:{port}/x",
        "http:/127.0.0.1:{port}/x",
        "http:127.0.0.1:{port}/x",
        "//127.0.0.1:{port}/x",
        " http://127.0.0.1:{port}/x",
        "http://allowed.example.127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}/x\r\nHost: allowed.example",
    ],
)
def test_a_host_is_not_hidden_behind_an_allowed_one(inner: int, uri: str) -> None:
    with pytest.raises(ImageError):
        fetch(uri.format(port=inner), limits=replace(LIMITS, allowed_hosts=frozenset({"allowed.example"})))
    assert Inner.reached == []


def test_a_name_is_looked_up_once_and_that_address_connected_to(inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second lookup of a name returns a private address."""
    answers = iter([[("198.51.100.7", inner)], [("127.0.0.1", inner)]])
    resolved: list[str] = []
    connected: list[object] = []

    def look_up(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        resolved.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in next(answers)]

    def connect(_: socket.socket, address: object) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("app.media.http_fetch._check_public", lambda *_: None)  # 198.51.100.0/24 is for documentation
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(ImageError, match="refused the connection"):
        fetch(f"http://rebind.example:{inner}/x", limits=LIMITS)
    assert (resolved, connected) == (["rebind.example"], [("198.51.100.7", inner)])


def test_one_inner_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(ImageError, match=r"private address 10\.0\.0\.1"):
        fetch("http://both.example/x", limits=LIMITS)


def test_proxies_of_the_environment_are_not_used(inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{inner}")
    for scheme in ("http", "https"):
        with pytest.raises(ImageError):
            fetch(f"{scheme}://no-such-host.invalid/x", limits=LIMITS)
    assert Inner.reached == []


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_inner_addresses_of_ipv6() -> None:
    try:
        with served("::1") as port:
            for host in ("[::1]", "[0:0:0:0:0:0:0:1]", "[::1%25lo]", "[::1%lo]"):
                with pytest.raises(ImageError):
                    fetch(f"http://{host}:{port}/x", limits=LIMITS)
            assert Inner.reached == []
            named = replace(LIMITS, allowed_hosts=frozenset({"::1"}))
            assert fetch(f"http://[::1]:{port}/x", limits=named) == b"secret"
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


# Local files


@pytest.fixture
def roots(tmp_path: Path) -> Limits:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.png").write_bytes(b"inside")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "c.png").write_bytes(b"secret")
    return replace(LIMITS, roots=(tmp_path / "in",))


def test_a_file_url_is_unquoted_once(tmp_path: Path, roots: Limits) -> None:
    assert fetch(f"file://{quote(str(tmp_path))}/in/a%20b.png", limits=roots) == b"inside"
    assert fetch(f"file://localhost{quote(str(tmp_path))}/in/a%20b.png", limits=roots) == b"inside"
    assert fetch(f"{tmp_path}/in/a b.png", limits=roots) == b"inside"


@pytest.mark.parametrize(
    "uri",
    [
        "file://{folder}/in/../secret.png",
        "file://{folder}/in/%2e%2e/secret.png",
        "file://{folder}/in/..%2fsecret.png",
        "file://{folder}/in%2f..%2fsecret.png",
        "file://{folder}/in/%252e%252e/secret.png",
        "FILE://{folder}/secret.png",
        "file:{folder}/secret.png",
        "file:////{folder}/secret.png",
        "file://127.0.0.1{folder}/secret.png",
        "file://other.example{folder}/secret.png",
        "//{folder}/secret.png",
        "{folder}/in/./../secret.png",
        "{folder}/inner/c.png",
        "/proc/self/cwd/../..{folder}/secret.png",
        "/proc/self/root{folder}/secret.png",
        "local://{folder}/secret.png",
        "dir://secret.png::file://{folder}",
        "simplecache::file://{folder}/secret.png",
        "filecache::file://{folder}/secret.png",
        "reference://{folder}/secret.png",
        "zip://secret.png::{folder}/secret.zip",
        "tar://secret.png::{folder}/secret.tar",
        "generic://file://{folder}/secret.png",
        "data:image/png;base64,AAAA",
    ],
)
def test_no_spelling_of_a_path_leads_outside_the_roots(tmp_path: Path, roots: Limits, uri: str) -> None:
    with pytest.raises(ImageError):
        fetch(uri.format(folder=tmp_path), limits=roots)


def test_links_out_of_the_roots_are_refused(tmp_path: Path, roots: Limits) -> None:
    (tmp_path / "in" / "file.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "inner")
    (tmp_path / "in" / "twice.png").symlink_to("file.png")
    (tmp_path / "in" / "within.png").symlink_to("a b.png")
    for name in ("file.png", "folder/c.png", "twice.png", "within.png/../../secret.png"):
        with pytest.raises(ImageError):
            fetch(f"{tmp_path}/in/{name}", limits=roots)
    assert fetch(f"{tmp_path}/in/within.png", limits=roots) == b"inside"


def test_a_root_that_is_a_link_is_followed(tmp_path: Path, roots: Limits) -> None:
    (tmp_path / "alias").symlink_to("in")
    assert fetch(f"{tmp_path}/in/a b.png", limits=replace(LIMITS, roots=(tmp_path / "alias",))) == b"inside"
    assert fetch(f"{tmp_path}/alias/a b.png", limits=roots) == b"inside"


def test_a_path_swapped_for_a_link_after_the_check_is_not_followed(
    tmp_path: Path, roots: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in" / "a b.png"
    opening = os.open

    def swap(*arguments: object, **options: object) -> int:
        path.unlink()
        path.symlink_to(tmp_path / "secret.png")
        return opening(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(ImageError):
        fetch(str(path), limits=roots)


def test_every_fsspec_protocol_has_been_reviewed() -> None:
    """A protocol that is new in fsspec needs a review first, because it may reach hosts and files by itself."""
    from fsspec.registry import known_implementations

    stores = {
        *("abfs", "abfss", "adl", "az", "box", "dropbox", "gcs", "gdrive", "gs", "hf", "memory", "oci", "ocilake"),
        *("oss", "s3", "s3a", "tos", "tosfs", "wandb"),
    }
    assert set(known_implementations) - _UNCHECKED - stores == {"data", "file"}
