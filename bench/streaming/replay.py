"""Measures how soon a camera's frame is searchable, while a worker embeds and searches run.

`python -m bench.streaming.replay` runs on a scratch embedded server. The camera sends a synthetic video as multipart
http: drawings of the demo gallery, each shown for a second and moving for half of it. It writes raw results to
`bench/results/stream.json`.
"""

import argparse
import http.server
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from app import db
from app.config import Settings
from app.demo import tour
from app.ingest.frames import FrameIngest
from app.media import uploads, video
from app.media.limits import Limits
from bench.options import RESULTS, parse_options
from bench.scratch import scratch
from bench.search.data import conditions

_ARRIVED = """
SELECT i.id, extract(epoch FROM (i.attributes ->> 'received_at')::timestamptz)::float8,
       extract(epoch FROM i.created_at)::float8
FROM lookalike.images i JOIN lookalike.active_embeddings e ON e.image_id = i.id WHERE NOT i.id = ANY (%s)
"""


def frame(number: int, fps: int, size: tuple[int, int]) -> bytes:
    """Return frame `number` as a JPEG: each second another drawing, which moves in the first half."""
    second, step = divmod(number, fps)
    drawings = sorted(tour.GALLERY.glob("*.jpg"))
    drawing = Image.open(drawings[second * 7 % len(drawings)]).convert("RGB")
    image = Image.new("RGB", size, "white")
    image.paste(drawing, (40 + 25 * min(step, fps // 2), 80))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


@contextmanager
def camera(frames: list[bytes], fps: int) -> Iterator[tuple[str, threading.Event]]:
    """Serve the frames in real time, once; yield the address and an event that is set at the end."""
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if over.is_set():
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            began = time.monotonic()
            for number, data in enumerate(frames):
                time.sleep(max(0.0, began + number / fps - time.monotonic()))
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
            over.set()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/camera", over
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def worker(url: str) -> Iterator[None]:
    """Run a worker; yield when it is alive."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workers"],
        env={**os.environ, "LOOKALIKE_DATABASE_URL": url, "LOOKALIKE_IMAGE_ROOTS": "/"},
    )
    try:
        with db.connect(url, autocommit=True) as conn:
            while conn.execute("SELECT count(*) FROM lookalike.worker_status WHERE alive").fetchone() == (0,):
                if process.poll() is not None:
                    raise SystemExit(f"the worker ended with status {process.returncode}")
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(60)


def observe(url: str, over: threading.Event, arrived: list[tuple[float, float]]) -> None:
    """Append for each frame the seconds from its receipt and from its commit until it is searchable, until `over`."""
    seen: list[int] = []
    with db.connect(url, autocommit=True) as conn:
        while not over.wait(0.02):
            rows: list[Any] = conn.execute(_ARRIVED, (seen,)).fetchall()
            now = time.time()
            seen += [row[0] for row in rows]
            arrived += [(now - row[1], now - row[2]) for row in rows]


def search(url: str, over: threading.Event, seconds: list[float]) -> None:
    """Search by a random stored image five times a second until `over`."""
    with db.connect(url, autocommit=True) as conn:
        while not over.wait(0.2):
            row = conn.execute("SELECT image_id FROM lookalike.active_embeddings ORDER BY random() LIMIT 1").fetchone()
            if row:
                began = time.perf_counter()
                conn.execute("SELECT * FROM lookalike.similar(%s, 10)", row).fetchall()
                seconds.append(time.perf_counter() - began)


def spread(values: list[float]) -> dict[str, float]:
    """Return p50 and p95 in milliseconds."""
    cuts = statistics.quantiles(values, n=20) if len(values) > 1 else values * 19
    return {"p50_ms": round(cuts[9] * 1000, 1), "p95_ms": round(cuts[18] * 1000, 1)} if values else {}


def main() -> None:
    """Run the bench, write the raw numbers, print a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--skip-similar", type=float, default=0.02)
    parser.add_argument("--max-lag", type=float, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS / "stream.json", help="file to write")
    options = parse_options(parser, quick={"seconds": 3, "output": None})
    frames = [frame(number, options.fps, (640, 480)) for number in range(options.seconds * options.fps)]
    limits = Limits(max_bytes=2**26, max_pixels=10**8, timeout=20, allowed_hosts=frozenset({"127.0.0.1"}))
    arrived: list[tuple[float, float]] = []
    searches: list[float] = []
    with scratch(None) as url, tempfile.TemporaryDirectory() as home, worker(url):
        with camera(frames, options.fps) as (address, sent):
            task = FrameIngest(
                video.source_of(address, limits),
                fps=options.fps,
                limits=limits,
                storage=uploads.open_storage(Settings(home=Path(home))),
                skip_similar=options.skip_similar,
                max_lag=options.max_lag,
            )
            over = threading.Event()
            threads = [
                threading.Thread(target=observe, args=(url, over, arrived)),
                threading.Thread(target=search, args=(url, over, searches)),
                threading.Thread(target=task.run, args=(lambda: db.connect(url, autocommit=True), lambda: None)),
            ]
            for thread in threads:
                thread.start()
            sent.wait()
            time.sleep(3)
            task.stop()
            over.set()
            for thread in threads:
                thread.join()
        with db.connect(url, autocommit=True) as conn:
            about = conditions(conn, seed=0)
    counts = task.counts
    result = {
        "frames_sent": len(frames),
        "decoded": counts.read.decoded,
        "stored": counts.new,
        "similar": counts.similar,
        "dropped": counts.dropped,
        "searchable": len(arrived),
        "frame_to_searchable": spread([one for one, _ in arrived]),
        "commit_to_searchable": spread([one for _, one in arrived]),
        "search": spread(searches),
    }
    print(json.dumps(result, indent=1))
    if not options.output:
        return
    options.output.parent.mkdir(exist_ok=True)
    raw = {
        "frame_to_searchable_s": [round(one, 4) for one, _ in arrived],
        "commit_to_searchable_s": [round(one, 4) for _, one in arrived],
        "search_s": [round(one, 4) for one in searches],
    }
    given = {name: value for name, value in vars(options).items() if name != "output"}
    options.output.write_text(json.dumps({"conditions": about, "options": given, **result, "raw": raw}) + "\n")


if __name__ == "__main__":
    main()
