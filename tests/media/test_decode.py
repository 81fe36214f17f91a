"""Fetching and decoding: every kind of image gives the right pixels, every error a step and a helpful reason."""

import contextlib
import http.server
import io
import ipaddress
import os
import random
import socket
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import fsspec
import numpy as np
import pytest
from PIL import Image

from app.config import Settings
from app.errors import ImageError, TransientImageError
from app.media import http_fetch
from app.media.decode import load
from app.media.fetch import fetch
from app.media.header import read_header
from app.media.limits import Limits, allowed_sources, limits_of
from tests.support import images

LIMITS = Limits(max_bytes=2**20, max_pixels=10**7, timeout=5)


def pixels(image):
    return np.asarray(image, np.int16)


def refused(call, kind=ImageError):
    """Run `call`, which must raise exactly `kind`, and return the error."""
    with pytest.raises(ImageError) as caught:
        call()
    assert type(caught.value) is kind, caught.value
    return caught.value


# Decoding


@pytest.mark.parametrize("kind", images.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_image_decodes_to_its_pixels(kind):
    data, expected = kind()
    loaded = load(data, LIMITS)
    assert loaded.image.mode == "RGB"
    assert (loaded.width, loaded.height) == loaded.image.size == images.SIZE
    assert np.abs(pixels(loaded.image) - pixels(expected)).max() <= 1
    header = read_header(data, max_pixels=LIMITS.max_pixels)
    assert (header.media_type, header.width, header.height) == (loaded.media_type, loaded.width, loaded.height)


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("GIF", "image/gif"),
        ("WEBP", "image/webp"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("AVIF", "image/avif"),
        ("JPEG2000", "image/jp2"),
        ("PPM", "image/x-portable-anymap"),
    ],
)
def test_the_media_type_comes_from_the_content(form, media_type):
    assert load(images.encoded(images.picture(), form), LIMITS).media_type == media_type


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
    ids=["jpeg", "png", "webp", "tiff", "tiff-lzw"],
)
def test_exif_orientation_is_honoured(orientation, form, options):
    loaded = load(images.oriented(orientation, form, **options), LIMITS)
    assert (loaded.width, loaded.height) == loaded.image.size == images.SIZE
    difference = np.abs(pixels(loaded.image) - pixels(images.picture()))
    assert difference.mean() < 1.5, "the picture is turned or flipped"


def test_an_image_with_broken_exif_is_upright():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in production; Pillow warns of it
        loaded = load(images.broken_exif(), LIMITS)
    assert loaded.image.size == images.SIZE


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_at_reduced_scale_on_request(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = (1600, 1200) if orientation == 1 else (1200, 1600)
    data = images.encoded(images.picture(stored), "JPEG", exif=exif)
    loaded = load(data, LIMITS, target=(400, 200))
    assert (loaded.width, loaded.height) == (1600, 1200)
    assert loaded.image.size == (400, 300)


def test_a_reduced_scale_never_goes_below_the_target_and_leaves_other_formats_whole():
    jpeg = images.encoded(images.picture((1000, 700)), "JPEG")
    assert load(jpeg, LIMITS, target=(501, 100)).image.size == (1000, 700)
    png = images.encoded(images.picture((1000, 700)), "PNG")
    assert load(png, LIMITS, target=(10, 10)).image.size == (1000, 700)


# Files that the decoder refuses


def test_zero_bytes_are_refused():
    error = refused(lambda: load(b"", LIMITS))
    assert (error.step, error.reason) == ("decode", "the file is empty (0 bytes)")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM", "JPEG2000"])
def test_a_truncated_file_is_refused(form):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8))
    data = images.encoded(noise, form)
    half = data[: len(data) // 2]
    error = refused(lambda: load(half, LIMITS))
    assert error.step == "decode"
    assert f"{len(half):,} bytes" in error.reason
    assert "cut off" in error.reason or "damaged" in error.reason


def test_a_truncated_jpeg_is_reported_as_cut_off():
    data = images.encoded(images.picture(), "JPEG")
    assert "the JPEG file is cut off after" in refused(lambda: load(data[:-200], LIMITS)).reason


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello, this is a letter", "not an image: it begins with b'hello, this '"),
        (b"%PDF-1.7\n", "a PDF"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"<!DOCTYPE html><title>404</title>", "an HTML page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript file"),
        (b"\x1f\x8b\x08\0", "gzip-compressed"),
    ],
)
def test_files_that_are_not_images_are_named(data, words):
    error = refused(lambda: load(data, LIMITS))
    assert error.step == "decode"
    assert words in error.reason
    assert "supported are JPEG, PNG" in error.reason


def test_a_decompression_bomb_is_refused_from_its_header():
    error = refused(lambda: load(images.png_bomb(), LIMITS))
    assert error.step == "decode"
    assert "60,000 × 60,000 = 3,600,000,000 pixels; the limit is 10,000,000" in error.reason
    assert "LOOKALIKE_MAX_IMAGE_PIXELS" in error.reason


@pytest.mark.parametrize("form", ["JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_the_pixel_limit_holds_for_every_format(form):
    data = images.encoded(images.picture(), form)
    error = refused(lambda: load(data, replace(LIMITS, max_pixels=59_999)))
    assert "300 × 200 = 60,000 pixels; the limit is 59,999" in error.reason
    assert load(data, replace(LIMITS, max_pixels=60_000)).width == 300


def test_too_many_bytes_are_refused_by_the_decoder_too():
    data = images.encoded(images.picture(), "BMP")
    error = refused(lambda: load(data, replace(LIMITS, max_bytes=1000)))
    assert f"{len(data):,} bytes; the limit is 1,000" in error.reason


def test_samples_of_unknown_range_are_refused_with_their_range():
    error = refused(lambda: load(images.float_tiff_of_unknown_range(), LIMITS))
    assert "-5.0 to 1000000.0" in error.reason


def test_damaged_files_raise_nothing_but_image_errors():
    rng = random.Random(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in images.KINDS:
            data = bytearray(kind()[0])
            for _ in range(12):
                hurt = bytearray(data)
                for _ in range(rng.choice([1, 4, 40])):
                    hurt[rng.randrange(len(hurt) if rng.random() < 0.5 else 200)] = rng.randrange(256)
                with contextlib.suppress(ImageError):
                    assert load(bytes(hurt), LIMITS).image.mode == "RGB"


# Local files


def test_a_path_and_a_file_url_give_the_bytes(tmp_path):
    path = tmp_path / "s3:" / "a b#ü%.bin"
    path.parent.mkdir()
    path.write_bytes(b"content")
    assert fetch(str(path), limits=LIMITS) == b"content"
    assert fetch(f"{tmp_path}/s3://{path.name}", limits=LIMITS) == b"content"
    assert fetch("file://" + quote(str(path)), limits=LIMITS) == b"content"
    assert fetch("file://localhost" + quote(str(path)), limits=LIMITS) == b"content"


def test_a_missing_file_is_refused(tmp_path):
    error = refused(lambda: fetch(f"{tmp_path}/none.jpg", limits=LIMITS))
    assert (error.step, error.reason) == ("fetch", f"there is no file {tmp_path}/none.jpg on {socket.gethostname()}")


def test_a_directory_is_refused(tmp_path):
    assert "is a directory" in refused(lambda: fetch(str(tmp_path), limits=LIMITS)).reason


def test_a_named_pipe_is_refused_without_a_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "device, pipe or socket" in refused(lambda: fetch(f"{tmp_path}/pipe", limits=LIMITS)).reason
    assert "device, pipe or socket" in refused(lambda: fetch("/dev/zero", limits=LIMITS)).reason


def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "secret.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may read everything
    try:
        error = refused(lambda: fetch(str(path), limits=LIMITS))
    finally:
        if root:
            os.seteuid(0)
    assert "permission denied" in error.reason


def test_too_many_bytes_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "big.bin"
    with path.open("wb") as file:
        file.truncate(2**40)
    error = refused(lambda: fetch(str(path), limits=LIMITS))
    assert "1,099,511,627,776 bytes; the limit is 1,048,576 (LOOKALIKE_MAX_IMAGE_BYTES)" in error.reason


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("pictures/a.jpg", "neither an absolute path nor a URL"),
        ("", "neither an absolute path nor a URL"),
        ("file://server/share/a.jpg", "names the host 'server'"),
        ("file:///a.jpg?x=1", "%3F"),
        ("/a\0b.jpg", "not a usable path"),
        ("/" + "x" * 5000, "cannot be read: File name too long"),
    ],
)
def test_a_malformed_path_is_refused(uri, words):
    error = refused(lambda: fetch(uri, limits=LIMITS))
    assert error.step == "fetch"
    assert words in error.reason


def test_roots_hold_against_dots_and_symbolic_links(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    (inside / "link").symlink_to(tmp_path / "b")
    limits = replace(LIMITS, roots=(inside,))
    assert fetch(f"{inside}/a", limits=limits) == b"a"
    for path in (f"{inside}/../b", f"{inside}/link", f"{tmp_path}/b"):
        assert (
            f"lies outside the folders that images may be read from: {inside}"
            in refused(lambda path=path: fetch(path, limits=limits)).reason
        )


# fsspec


def test_an_fsspec_url_is_read():
    with fsspec.open("memory://lookalike/a.bin", "wb") as file:
        file.write(b"from memory")
    assert fetch("memory://lookalike/a.bin", limits=LIMITS) == b"from memory"
    error = refused(lambda: fetch("memory://lookalike/a.bin", limits=replace(LIMITS, max_bytes=5)))
    assert "11 bytes; the limit is 5" in error.reason
    assert "no file memory://lookalike/b" in refused(lambda: fetch("memory://lookalike/b", limits=LIMITS)).reason
    assert "is a folder" in refused(lambda: fetch("memory://lookalike", limits=LIMITS)).reason


def test_a_store_whose_package_is_missing_says_which():
    assert (
        "s3:// needs a package that is not installed: Install s3fs"
        in refused(lambda: fetch("s3://bucket/a.jpg", limits=LIMITS)).reason
    )
    assert "Protocol not known: nonsense" in refused(lambda: fetch("nonsense://a", limits=LIMITS)).reason


@pytest.mark.parametrize("uri", ["simplecache::http://127.0.0.1/a", "ftp://127.0.0.1/a", "local:///etc/passwd"])
def test_urls_that_would_bypass_the_checks_are_refused(uri):
    refused(lambda: fetch(uri, limits=LIMITS))


# http, against a server on the loopback address


class Shop(http.server.BaseHTTPRequestHandler):
    """Answers each path in a fixed way, good or bad."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        answer = getattr(self, "do_" + self.path.partition("?")[0].strip("/"), None)
        if answer is None:
            self.send_error(404)
        else:
            answer()

    def answer(self, body, *, length=True, status=200, **headers):
        self.send_response(status)
        if length:
            self.send_header("Content-Length", str(len(body) if length is True else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)
        self.close_connection = True

    def do_image(self):
        self.answer(b"image " + self.path.encode())

    def do_busy(self):
        self.send_error(503)

    def do_limited(self):
        self.send_error(429)

    def do_announced(self):
        self.answer(b"", length=10**9)

    def do_endless(self):
        self.answer(bytes(3 * 2**20), length=False)

    def do_short(self):
        self.answer(b"half", length=8)

    def do_chunked(self):
        self.answer(b"4\r\nchun\r\n3\r\nked\r\n0\r\n\r\n", length=False, **{"Transfer-Encoding": "chunked"})

    def do_gzip(self):
        self.answer(b"x", **{"Content-Encoding": "gzip"})

    def do_drip(self):
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)

    def do_slow(self):
        time.sleep(1)
        self.close_connection = True

    def do_nonsense(self):
        self.wfile.write(b"220 smtp ready\r\n\r\n")
        self.close_connection = True

    def redirect(self, location):
        self.answer(b"", status=302, Location=location)

    def do_moved(self):
        self.redirect("/image?moved")

    def do_loop(self):
        self.redirect("/loop")

    def do_inward(self):
        self.redirect(f"http://127.0.0.2:{self.server.server_port}/image")

    def do_tofile(self):
        self.redirect("file:///etc/passwd")

    def do_nowhere(self):
        self.answer(b"", status=302)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def shop():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


OURS = replace(LIMITS, allowed_hosts=frozenset({"127.0.0.1", "localhost"}))


def test_http_gives_the_body(shop):
    assert fetch(f"{shop}/image", limits=OURS) == b"image /image"
    assert fetch(f"{shop}/image?q=a b&ü=1", limits=OURS) == b"image /image?q=a%20b&%C3%BC=1"
    assert fetch(f"{shop}/chunked", limits=OURS) == b"chunked"
    assert fetch(f"{shop}/moved", limits=OURS) == b"image /image?moved"
    assert fetch(shop.replace("127.0.0.1", "localhost") + "/image", limits=OURS) == b"image /image"


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("none", ImageError, "answered 404 Not Found"),
        ("busy", TransientImageError, "answered 503 Service Unavailable"),
        ("limited", TransientImageError, "answered 429 Too Many Requests"),
        ("announced", ImageError, "1,000,000,000 bytes; the limit is 1,048,576"),
        ("endless", ImageError, "more than 1,048,576 bytes"),
        ("short", TransientImageError, "broke off after 4 of 8 bytes"),
        ("gzip", ImageError, "compressed as 'gzip'"),
        ("nonsense", TransientImageError, "broke off its answer"),
        ("loop", ImageError, "more than 5 redirects"),
        ("inward", ImageError, "127.0.0.2"),
        ("tofile", ImageError, "redirects from http to file, which is not followed"),
        ("nowhere", ImageError, "redirects without saying where to"),
    ],
)
def test_http_errors_are_permanent_or_transient(shop, path, kind, words):
    error = refused(lambda: fetch(f"{shop}/{path}", limits=OURS), kind)
    assert error.step == "fetch"
    assert words in error.reason


@pytest.mark.parametrize("path", ["drip", "slow"])
def test_the_timeout_covers_the_whole_fetch(shop, path):
    start = time.monotonic()
    error = refused(lambda: fetch(f"{shop}/{path}", limits=replace(OURS, timeout=0.3)), TransientImageError)
    assert "did not deliver within 0.3 s (LOOKALIKE_FETCH_TIMEOUT)" in error.reason
    assert time.monotonic() - start < 0.9


def test_a_refused_connection_is_transient():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = refused(lambda: fetch(f"http://127.0.0.1:{port}/a", limits=OURS), TransientImageError)
    assert "refused the connection" in error.reason


def test_private_addresses_need_their_host_to_be_named(shop):
    for host in ("127.0.0.1", "localhost"):
        error = refused(lambda host=host: fetch(shop.replace("127.0.0.1", host) + "/image", limits=LIMITS))
        assert "private address" in error.reason
        assert "allowed hosts" in error.reason
    error = refused(lambda: fetch(f"{shop}/image", limits=replace(LIMITS, allowed_hosts=frozenset({"shop.example"}))))
    assert "127.0.0.1 is not among the allowed hosts: shop.example" in error.reason


def test_a_redirect_to_a_private_address_is_refused_even_from_an_allowed_host(shop):
    limits = replace(LIMITS, allowed_hosts=frozenset({"127.0.0.1", "*"}))
    error = refused(lambda: fetch(f"{shop}/inward", limits=limits))
    assert "private address 127.0.0.2" in error.reason


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("::ffff:93.184.216.34", True),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_and_private_addresses(address, public):
    ip = ipaddress.ip_address(address)
    target = http_fetch._target(f"http://[{ip}]/" if ip.version == 6 else f"http://{ip}/")
    resolved = (socket.AF_INET, (address, 80))
    if public:
        http_fetch._check_public(target, resolved)
    else:
        refused(lambda: http_fetch._check_public(target, resolved))


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http:///a.jpg", "names no host"),
        ("http://[::1/a.jpg", "is not a URL"),
        ("http://host:99999/a", "is not a URL"),
        ("http://user:pass@example.com/a", "user name or password"),
        ("https://no-such-host.invalid/a", "no-such-host.invalid"),
    ],
)
def test_a_malformed_http_url_is_refused(uri, words):
    with pytest.raises(ImageError) as caught:
        fetch(uri, limits=LIMITS)
    assert words in caught.value.reason
    assert "pass" not in caught.value.reason.replace("password", "")


def test_an_image_fetched_over_http_decodes(shop):
    body = fetch(f"{shop}/image", limits=OURS)
    assert "not an image" in refused(lambda: load(body, OURS)).reason
    assert (
        load(images.encoded(images.picture(), "PNG"), OURS).image.tobytes()
        == Image.open(io.BytesIO(images.encoded(images.picture(), "PNG"))).tobytes()
    )


def test_a_file_is_fetched_and_decoded(tmp_path):
    path = Path(tmp_path / "a.png")
    images.picture().save(path)
    assert load(fetch(str(path), limits=LIMITS), LIMITS).media_type == "image/png"


def test_settings_confine_local_files_and_hosts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    images.picture().save(tmp_path / "in" / "a.png")
    images.picture().save(tmp_path / "b.png")
    limits = limits_of(
        Settings(home=tmp_path / "home", image_roots=str(tmp_path / "in"), image_hosts="pictures.example, cdn.example")
    )
    assert fetch(str(tmp_path / "in" / "a.png"), limits=limits)
    for outside in (tmp_path / "b.png", tmp_path / "in" / ".." / "b.png", Path("/etc/hostname")):
        with pytest.raises(ImageError, match="outside the folders"):
            fetch(str(outside), limits=limits)
    assert limits.allowed_hosts == {"pictures.example", "cdn.example"}
    with pytest.raises(ImageError, match=r"other\.example"):
        fetch("https://other.example/a.png", limits=limits)


def test_with_a_database_url_only_uploads_are_read_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOKALIKE_IMAGE_ROOTS")
    monkeypatch.delenv("LOOKALIKE_IMAGE_HOSTS")
    for path in (tmp_path / "a.png", tmp_path / "home" / "uploads" / "b.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        images.picture().save(path)
    shared = Settings(home=tmp_path / "home", database_url="postgresql://db/x")
    limits = limits_of(shared)
    assert fetch(str(tmp_path / "home" / "uploads" / "b.png"), limits=limits)
    with pytest.raises(ImageError, match=r"outside the folders .*\(LOOKALIKE_IMAGE_ROOTS\)"):
        fetch(str(tmp_path / "a.png"), limits=limits)
    with pytest.raises(ImageError, match=r"allowed hosts: none \(LOOKALIKE_IMAGE_HOSTS\)"):
        fetch("https://pictures.example/a.png", limits=limits)
    # The embedded server is its user's alone, and a child process that gets its URL reads the same.
    own = Settings(home=tmp_path / "home")
    assert fetch(str(tmp_path / "a.png"), limits=limits_of(own))
    for name, value in allowed_sources(own).items():
        monkeypatch.setenv(name, value)
    child = limits_of(Settings(home=tmp_path / "home", database_url="postgresql://db/x"))
    assert fetch(str(tmp_path / "a.png"), limits=child)
    assert child.allowed_hosts == {"*"}


def test_uploads_are_readable_whatever_the_roots(tmp_path: Path) -> None:
    uploaded = tmp_path / "home" / "uploads" / "a.png"
    uploaded.parent.mkdir(parents=True)
    images.picture().save(uploaded)
    limits = limits_of(Settings(home=tmp_path / "home", image_roots=""))
    assert fetch(str(uploaded), limits=limits)
