"""Frames of videos on a real database: rate, time, rotation, damage, similarity, broken streams, lag, rules."""

import io
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest
from PIL import Image

from app import db
from app.config import Settings
from app.errors import ConfigurationError, ImageError, InvalidInputError, NoWorkerError, TransientImageError
from app.ingest.frames import LIVE_LAG, FrameIngest
from app.media import uploads, video
from app.media.limits import Limits
from tests.support import running, videos
from tests.support.ingest import embed, make_space

pytestmark = pytest.mark.long

LIMITS = Limits(max_bytes=2**26, max_pixels=10**7, timeout=5, allowed_hosts=frozenset({"127.0.0.1"}))


def seconds(given: object, fps: float, limits: Limits = LIMITS, counts: video.Counts | None = None) -> list[float]:
    found = video.frames(
        video.source_of(str(given), limits),
        fps=fps,
        limits=limits,
        counts=counts or video.Counts(),
        stop=lambda: False,
    )
    return [round(frame.seconds, 3) for frame in found]


# Reading


@pytest.mark.parametrize(
    ("fps", "wanted"),
    [(1, [0.0, 1.0]), (4, [0.0, 0.3, 0.5, 0.8, 1.0, 1.3, 1.5, 1.8]), (0.1, [0.0]), (1000, [n / 10 for n in range(20)])],
)
def test_frames_are_sampled_on_a_grid_of_the_rate(tmp_path: Path, fps: float, wanted: list[float]) -> None:
    assert seconds(videos.make(tmp_path / "a.mp4"), fps) == wanted


def test_a_variable_frame_rate_is_sampled_by_frame_times(tmp_path: Path) -> None:
    shown = [0, 0.1, 0.2, 0.3, 1.7, 1.8, 5.0, 5.05, 5.1, 6.2]
    path = videos.make(tmp_path / "a.mkv", frames=len(shown), times=lambda number: shown[number])
    assert seconds(path, 1) == [0.0, 1.7, 5.0, 6.2]


def test_taken_at_comes_from_the_files_metadata(tmp_path: Path) -> None:
    path = videos.make(tmp_path / "a.mp4", creation_time="2026-03-01T12:00:00Z")
    source = video.source_of(str(path), LIMITS)
    found = list(video.frames(source, fps=1, limits=LIMITS, counts=video.Counts(), stop=lambda: False))
    assert [frame.taken_at and frame.taken_at.isoformat() for frame in found] == [
        "2026-03-01T12:00:00+00:00",
        "2026-03-01T12:00:01+00:00",
    ]


def test_a_rotated_video_gives_upright_frames(tmp_path: Path) -> None:
    def pointing(_: int) -> Image.Image:
        image = Image.new("RGB", videos.SIZE, "white")
        image.paste("black", (0, 0, 40, 40))  # the corner at the top left
        return image

    path = videos.turned(videos.make(tmp_path / "a.mp4", pointing, frames=2))
    source = video.source_of(str(path), LIMITS)
    frame = next(video.frames(source, fps=1, limits=LIMITS, counts=video.Counts(), stop=lambda: False))
    data, width, height = video.jpeg(frame)
    assert (width, height) == (120, 160)
    grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    # The matrix rotates clockwise: the top left moves to the top right.
    assert grey[:30, -30:].mean() < 60
    assert grey[:30, :30].mean() > 200


def test_damaged_frames_are_counted_and_skipped(tmp_path: Path) -> None:
    path = videos.make(tmp_path / "a.ts", frames=60)
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 3000, 300):
        data[at : at + 60] = bytes(60)
    path.write_bytes(data)
    counts = video.Counts()
    assert 30 < len(seconds(path, 1000, counts=counts)) < 60
    assert counts.corrupt > 0


def test_a_file_that_is_not_a_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"hello" * 1000)
    with pytest.raises(ImageError, match=r"a\.mp4 cannot be read: Invalid data found"):
        seconds(tmp_path / "a.mp4", 1)
    with pytest.raises(InvalidInputError, match="there is no video"):
        seconds(tmp_path / "none.mp4", 1)
    with pytest.raises(ImageError, match="Is a directory"):
        seconds(tmp_path, 1)
    with pytest.raises(ImageError, match=r"160 × 120 pixels; the limit is 1,000"):
        seconds(videos.make(tmp_path / "b.mp4"), 1, replace(LIMITS, max_pixels=1000))
    with pytest.raises(InvalidInputError, match="there is no device /dev/video99"):
        seconds("/dev/video99", 1)


def test_without_pyav_the_error_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = videos.make(tmp_path / "a.mp4", frames=2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'lookalike\[video\]'"):
        seconds(path, 1)


# Rules


def test_http_is_read_under_the_rules_of_images(tmp_path: Path) -> None:
    videos.make(tmp_path / "a.ts")
    with videos.served(tmp_path) as site:
        assert seconds(f"{site}/a.ts", 1) == [0.0, 1.0]
        with pytest.raises(ImageError, match="private address"):
            seconds(f"{site}/a.ts", 1, replace(LIMITS, allowed_hosts=frozenset({"*"})))
        with pytest.raises(ImageError, match="not among the allowed hosts"):
            seconds(f"{site}/inward.mp4", 1)
        with pytest.raises(ImageError, match="answered 404"):
            seconds(f"{site}/none.mp4", 1)
    with pytest.raises(TransientImageError, match="refused the connection"):
        seconds(f"{site}/a.ts", 1)


def test_a_playlist_over_http_is_followed_under_the_same_rules(tmp_path: Path) -> None:
    videos.make(tmp_path / "a.m3u8", form="hls")
    playlist = (tmp_path / "a.m3u8").read_text()
    with videos.served(tmp_path) as site:
        assert seconds(f"{site}/a.m3u8", 1) == [0.0, 1.0]
        for inward in (f"http://127.0.0.2:{site.rpartition(':')[2]}/a0.ts", f"file://{tmp_path}/a0.ts"):
            (tmp_path / "b.m3u8").write_text(playlist.replace("a0.ts", inward).replace("a1.ts", inward))
            with pytest.raises((ImageError, TransientImageError)):
                seconds(f"{site}/b.m3u8", 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", "ffconcat version 1.0\nfile {}\n"),
        ("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 33\n"),
    ],
)
def test_a_local_playlist_opens_no_other_file(tmp_path: Path, name: str, text: str) -> None:
    target = videos.make(tmp_path / "secret.ts")
    (tmp_path / name).write_text(text.format(target))
    with pytest.raises(ImageError):
        seconds(tmp_path / name, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("rtsp://10.0.0.7/front", "LOOKALIKE_IMAGE_HOSTS=10.0.0.7"),
        ("ftp://127.0.0.1/a.mp4", "is not a supported stream"),
        ("concat:/etc/passwd|/etc/hosts", "there is no video"),
        ("file:///etc/passwd", "is not a supported stream"),
        ("http://[::1/a.mp4", "is not a URL"),
    ],
)
def test_addresses_that_are_not_opened(given: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message.replace(".", r"\.")):
        video.source_of(given, replace(LIMITS, allowed_hosts=frozenset({"*"})))


def test_a_camera_loses_no_frame_at_its_own_rate_despite_jitter() -> None:
    rng = random.Random(1)
    for late in (0.0, 0.03, 0.09):  # only the first is late, so the next seem early
        arrivals = [0.0] + [number / 10 - late + rng.uniform(-0.01, 0.01) for number in range(1, 100)]
        full, half, strict = video.RateSampler(10), video.RateSampler(5), video.RateSampler(10)
        assert sum(full.takes(seconds, jitter=True) for seconds in arrivals) >= 99
        assert 49 <= sum(half.takes(seconds, jitter=True) for seconds in arrivals) <= 51
        if not late:
            assert sum(strict.takes(seconds) for seconds in arrivals) < 90  # jitter handling is needed


def test_after_a_gap_there_is_no_burst() -> None:
    full = video.RateSampler(2)
    assert [full.takes(seconds, jitter=True) for seconds in (0, 0.5, 9, 9.01, 9.02, 9.5)] == [1, 1, 1, 0, 0, 1]


# Similar frames


def test_noise_is_similar_and_movement_is_not(tmp_path: Path) -> None:
    base = videos.scene(3)
    moved = base.copy()
    moved.paste((120, 120, 120), (100, 80, 112, 100))  # 1.25 % of the picture, at half contrast

    def apart(one: Image.Image, other: Image.Image) -> float:
        path = videos.make(tmp_path / "a.mkv", lambda number: (one, other)[number], frames=2, codec="ffv1")
        source = video.source_of(str(path), LIMITS)
        found = video.frames(source, fps=1000, limits=LIMITS, counts=video.Counts(), stop=lambda: False)
        return video.difference(*(video.thumbnail(frame) for frame in found))

    assert apart(base, base) == 0
    assert apart(videos.noise(base, 8, 1), videos.noise(base, 8, 2)) < 0.015
    assert apart(base, moved) > 0.05
    assert apart(Image.new("RGB", videos.SIZE), Image.new("RGB", videos.SIZE, "white")) > 0.9


# Into the database


class Running:
    """A frame ingest that runs in a thread."""

    def __init__(self, one: FrameIngest, url: str, patience: float | None = None) -> None:
        self.one, self.url, self.failure = one, url, None
        self.connections = 0
        self._thread = threading.Thread(target=self._run, args=(patience,))

    def _run(self, patience: float | None) -> None:
        try:
            self.one.run(self._connect, lambda: None, patience=patience)
        except BaseException as error:  # noqa: BLE001
            self.failure = error

    @contextmanager
    def _connect(self) -> Iterator[db.Connection]:
        with db.translated(), db.connect(self.url, autocommit=True, application="frames") as conn:
            self.connections += 1
            yield conn

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.one.stop()
        self.join()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self.failure:
            raise self.failure

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not done():
            assert self._thread.is_alive(), self.failure
            assert time.monotonic() < deadline, self.one.counts
            time.sleep(0.02)


@pytest.fixture
def ingest(database_url: str, tmp_path: Path) -> Callable[..., Running]:
    def make(given: object, *, fps: float = 10, patience: float | None = None, **options: float) -> Running:
        source = video.source_of(str(given), LIMITS)
        storage = uploads.open_storage(Settings(home=tmp_path / "home"))
        return Running(
            FrameIngest(source, fps=fps, limits=LIMITS, storage=storage, **options),  # type: ignore[arg-type]
            database_url,
            patience,
        )

    return make


def test_frames_become_images_once(ingest: Callable[..., Running], tmp_path: Path, conn: db.Connection) -> None:
    path = videos.make(tmp_path / "a.mp4", creation_time="2026-03-01T12:00:00Z")
    for _ in range(2):
        task = ingest(path, fps=2)
        task._thread.start()
        task.join()
    assert (task.one.counts.new, task.one.counts.unchanged) == (0, 4)
    rows = conn.execute(
        "SELECT uri, encode(sha256, 'hex'), media_type, width, height, attributes FROM lookalike.images ORDER BY id"
    ).fetchall()
    assert [row[-1]["frame_seconds"] for row in rows] == [0.0, 0.5, 1.0, 1.5]  # type: ignore[index]
    uri, sha, *about, attributes = rows[1]
    assert Path(str(uri)).is_file()
    assert Path(str(uri)).stem == sha
    assert about == ["image/jpeg", 160, 120]
    assert attributes == {"source": str(path), "frame_seconds": 0.5, "taken_at": "2026-03-01T12:00:00.500000+00:00"}


def test_similar_frames_are_skipped(ingest: Callable[..., Running], tmp_path: Path) -> None:
    path = videos.make(
        tmp_path / "a.mp4", lambda number: videos.noise(videos.scene(number // 10), 4, number), frames=50
    )
    task = ingest(path, skip_similar=0.02)
    task._thread.start()
    task.join()
    assert (task.one.counts.new, task.one.counts.similar) == (5, 45)


def test_no_frame_of_a_file_is_lost_while_the_database_is_down(
    ingest: Callable[..., Running], tmp_path: Path, database_url: str
) -> None:
    task = ingest(videos.make(tmp_path / "a.mp4", frames=60))
    with psycopg.connect(database_url, autocommit=True) as admin:
        task._thread.start()
        task.until(lambda: task.one.counts.new > 2)
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'frames'")
        task.join()
        assert task.connections == 2
        assert admin.execute("SELECT count(*) FROM lookalike.images").fetchone() == (60,)


def test_a_file_waits_for_the_worker_and_a_live_source_drops(
    ingest: Callable[..., Running], tmp_path: Path, conn: db.Connection
) -> None:
    conn.autocommit = True
    space = make_space(conn)

    def work(*, all_of_it: bool = True) -> None:
        ids = [row[0] for row in conn.execute("SELECT image_id FROM lookalike.jobs").fetchall()]
        embed(conn, space, *(ids if all_of_it else ids[:1]))  # type: ignore[arg-type]

    many = 400  # more than a fast machine writes before the lag is noticed
    with ingest(videos.make(tmp_path / "a.mp4", frames=many), max_lag=0.3) as task:
        task.until(lambda: task.one.tracker.age() > 0.5)
        written = task.one.counts.new
        assert written < many
        while task.one.counts.new < many:
            work()
            time.sleep(0.02)
        assert task.one.counts.dropped == 0
    with videos.served(tmp_path) as site, ingest(f"{site}/camera", max_lag=0.3) as task:
        task.until(lambda: task.one.counts.dropped > 10)
        written = task.one.counts.new
        time.sleep(0.2)
        assert task.one.counts.new == written
        work()
        task.until(lambda: task.one.counts.new > written)
        row = conn.execute("SELECT attributes FROM lookalike.images ORDER BY id DESC LIMIT 1").fetchone() or ({},)
        assert row[0].keys() == {"source", "frame_seconds", "received_at"}  # type: ignore[attr-defined]


def test_a_broken_stream_is_opened_again(ingest: Callable[..., Running], tmp_path: Path) -> None:
    with videos.served(tmp_path, pictures_each=5) as site, ingest(f"{site}/camera") as task:
        assert task.one.max_lag == 0  # the address may be that of a file
        task.until(lambda: task.one.counts.reconnects >= 2 and task.one.counts.new > 8)
        assert task.one.max_lag == LIVE_LAG  # it is a live source


def test_a_camera_by_rtsp(ingest: Callable[..., Running], tmp_path: Path, conn: db.Connection) -> None:
    stream = videos.make(tmp_path / "a.ts", frames=40).read_bytes()
    with videos.camera(stream, 2.0) as url, ingest(url, fps=10) as task:
        task.until(lambda: task.one.counts.new > 8 and task.one.counts.reconnects > 0)
        sources = conn.execute("SELECT DISTINCT attributes ->> 'source' FROM lookalike.images").fetchall()
        assert sources == [(url.replace("user:secret@", ""),)]


def test_waiting_raises_without_a_worker(ingest: Callable[..., Running], tmp_path: Path) -> None:
    task = ingest(videos.make(tmp_path / "a.mp4", frames=2), patience=0.3)
    task._thread.start()
    with pytest.raises(NoWorkerError, match=r"2 frames wait, and none became searchable for 0\.3 s"):
        task.join()


def test_a_truncated_file_keeps_the_frames_before_its_end(ingest: Callable[..., Running], tmp_path: Path) -> None:
    path = videos.make(tmp_path / "a.mkv", frames=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    task = ingest(path)
    task._thread.start()
    task.join()
    assert 10 < task.one.counts.new < 60


def test_the_command_reports_counts_and_refusals(database_url: str, tmp_path: Path) -> None:
    videos.make(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"hello" * 1000)
    command = [sys.executable, "-m", "app.cli", "ingest", "a.mp4", "b.mp4", "--fps", "2", "--json"]
    done = subprocess.run(
        command,
        env=running.environment(database_url, LOOKALIKE_HOME=str(tmp_path / "home")),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3, done.stderr
    assert [(one["new"], bool(one["trouble"])) for one in json.loads(done.stdout)] == [(4, False), (0, True)]
    assert "refused: " in done.stderr
