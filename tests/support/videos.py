"""Create small videos with PyAV, and serve them over http and rtsp."""

import contextlib
import http.server
import io
import math
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw

SIZE = (160, 120)
_IDENTITY = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_QUARTER = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)


def scene(number: int) -> Image.Image:
    """Return a picture that differs from those of other numbers."""
    image = Image.new("RGB", SIZE, "white")
    x, y = 20 + number * 37 % 110, 20 + number * 23 % 70
    ImageDraw.Draw(image).rectangle((x, y, x + 25, y + 25), fill=(40 * number % 256, 90, 200))
    return image


def make(
    path: Path | str,
    pictures: Callable[[int], Image.Image] = scene,
    *,
    frames: int = 20,
    rate: int = 10,
    form: str | None = None,
    codec: str = "libx264",
    times: Callable[[int], float] | None = None,
    **metadata: str,
) -> Path:
    """Write a video of these pictures; `times` returns the second at which each is shown."""
    with av.open(str(path), "w", format=form, options={"hls_time": "1"} if form == "hls" else {}) as container:
        container.metadata.update(metadata)
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = 5
        for number in range(frames):
            frame = av.VideoFrame.from_image(pictures(number))
            if times:
                frame.pts = round(times(number) * 1000)
                frame.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def turned(path: Path) -> Path:
    """Set a rotation by 90 degrees in an mp4's header."""
    data = path.read_bytes()
    assert _IDENTITY in data
    at = data.index(_IDENTITY, data.index(b"tkhd"))
    path.write_bytes(data[:at] + _QUARTER + data[at + len(_QUARTER) :])
    return path


class Site(http.server.BaseHTTPRequestHandler):
    """Serves the files of a folder. /camera is an endless multipart stream; /inward redirects to another address."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        site: Any = self.server
        if self.path == "/camera":
            self._camera(site)
        elif self.path == "/inward.mp4":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.2:{site.server_port}/a.mp4")
            self.end_headers()
        elif (file := site.folder / self.path.strip("/")).is_file():
            body = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)
        else:
            self.send_error(404)

    def _camera(self, site: Any) -> None:
        if next(site.connections) % 2:  # as when a camera restarts
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for _ in range(site.pictures_each):
                number = next(site.numbers)
                file = io.BytesIO()
                scene(number).save(file, "JPEG")
                data = file.getvalue()
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
                time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path, *, pictures_each: int = 10**9) -> Iterator[str]:
    """Serve a folder over http on the loopback; the camera's connection breaks after `pictures_each` pictures."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.folder, server.pictures_each, server.numbers = folder, pictures_each, iter(range(10**9))
    server.connections = iter(range(10**9))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def camera(transport_stream: bytes, seconds: float) -> Iterator[str]:
    """Serve an MPEG transport stream by rtsp over TCP, in `seconds` and from the start for each connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    sockets: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            sockets.append(one)
            threads.append(threading.Thread(target=_talk, args=(one, transport_stream, seconds), daemon=True))
            threads[-1].start()

    threads = [threading.Thread(target=serve, daemon=True)]
    threads[0].start()
    try:
        yield f"rtsp://user:secret@127.0.0.1:{listener.getsockname()[1]}/front"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
        for one in sockets:
            one.close()


def _talk(connection: socket.socket, stream: bytes, seconds: float) -> None:
    sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:one\r\n"
    with contextlib.suppress(OSError):
        while request := connection.recv(65536).decode(errors="replace"):
            found = re.search(r"CSeq: *(\d+)", request)
            if found is None:
                continue
            body, more = "", ""
            if request.startswith("DESCRIBE"):
                body, more = sdp, f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n"
            elif request.startswith("SETUP"):
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 7\r\n"
            elif request.startswith("OPTIONS"):
                more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            connection.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {found[1]}\r\n{more}\r\n{body}".encode())
            if request.startswith("PLAY"):
                size = 7 * 188
                count = math.ceil(len(stream) / size)
                for number in range(count):
                    part = stream[number * size : (number + 1) * size]
                    packet = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 900, 1) + part
                    connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                    time.sleep(seconds / count)
                return
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def noise(image: Image.Image, sigma: float, seed: int) -> Image.Image:
    """Return the image with a camera's noise; `sigma` is in gray levels."""
    values = np.asarray(image, np.float32) + np.random.default_rng(seed).normal(0, sigma, (*SIZE[::-1], 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))
