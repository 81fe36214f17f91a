"""Sample frames from a video file, a stream or a camera, at a fixed rate.

PyAV rather than OpenCV, because it returns each frame's time, rotation and damage. It also lets this module supply all
bytes that FFmpeg reads, so that URLs in a video or playlist are fetched under the same limits as images.
"""

import io
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.errors import ConfigurationError, ImageError, InvalidInputError
from app.media.http_fetch import HttpStream
from app.media.limits import Limits, raise_permanent, raise_transient

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"})
THUMBNAIL = 32
_TILE = 8
_DEVICE = "/dev/video"
_MULTIPART = "multipart/x-mixed-replace"
_BACKWARDS_SECONDS = 1.0
_LATE_INTERVALS = 2
# FFmpeg opens nothing itself. It keeps no connections, because it can only keep its own.
_OWN_IO = {"protocol_whitelist": "none", "http_persistent": "0", "http_multiple": "0"}
_RTSP = {"protocol_whitelist": "rtsp,rtp,tcp,tls", "rtsp_transport": "tcp"}


@dataclass(frozen=True, slots=True)
class Source:
    """A video. `address` is what to open, `name` omits password and query, and `live` sources have no end."""

    address: str
    name: str
    kind: str
    live: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame: seconds since the first frame, its time of recording if known, and its picture before rotation."""

    seconds: float
    taken_at: datetime | None
    picture: "av.VideoFrame"


@dataclass(slots=True)
class Counts:
    """Counts of decoded frames, and of frames or packets skipped because of damage; whether the source is live."""

    decoded: int = 0
    corrupt: int = 0
    live: bool = False


class RateSampler:
    """Selects the frames of a video at a fixed rate."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._due = self._last = 0.0

    def takes(self, seconds: float, *, jitter: bool = False) -> bool:
        """Return whether the frame at `seconds` is due; times increase from call to call.

        `jitter`: times are arrival times. A frame may then be early by up to half the gap between frames, or late by
        one interval; otherwise a camera at this rate would lose frames.
        """
        step = max(0.0, seconds - self._last)
        if seconds < self._last - _BACKWARDS_SECONDS:  # the stream's clock was reset
            self._due = seconds
        self._last = seconds
        slack = min(step, 1 / self._fps) / 2 if jitter else 1e-6
        if seconds + slack < self._due:
            return False
        # Advance in whole intervals, so that the rate does not drift and a gap causes no burst.
        behind = int((seconds - self._due) * self._fps + 1e-6)
        self._due += (1 if jitter and behind < _LATE_INTERVALS else behind + 1) / self._fps
        return True


def is_video(given: str) -> bool:
    """Return whether a name is a stream's address, a video device or a file with a video suffix."""
    return given.startswith(("rtsp://", "rtsps://", _DEVICE)) or Path(given).suffix.lower() in SUFFIXES


def source_of(given: str, limits: Limits) -> Source:
    """Return the source for a path or an address.

    LOOKALIKE_IMAGE_HOSTS must list an rtsp host by name, because FFmpeg itself connects to it and follows redirects.

    Raises:
        InvalidInputError: it cannot be a video, or the host is not allowed.
    """
    scheme = given.partition("://")[0].lower() if "://" in given else ""
    if not scheme:
        path = os.path.abspath(given)  # noqa: PTH100 — as the user names it, not what links make of it
        device = path.startswith(_DEVICE)
        if not Path(path).exists():
            raise InvalidInputError(f"there is no {'device' if device else 'video'} {given}")
        return Source(path, path, "device" if device else "file", live=device)
    try:
        parts = urlsplit(given)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInputError(f"{given!r} is not a URL: {error}") from error
    if scheme not in ("http", "https", "rtsp", "rtsps") or not host:
        raise InvalidInputError(f"{scheme}:// is not a supported stream; use a file, a device, http(s):// or rtsp://")
    shown = f"[{host}]" if ":" in host else host
    name = f"{scheme}://{shown}{f':{port}' if port else ''}{parts.path}"
    if scheme.startswith("http"):
        return Source(given, name, "http", live=False)
    if host not in limits.allowed_hosts:
        raise InvalidInputError(
            f"the host {host} is not allowed; an rtsp camera's must be listed by name: LOOKALIKE_IMAGE_HOSTS={host}"
        )
    return Source(given, name, "rtsp", live=True)


def frames(source: Source, *, fps: float, limits: Limits, counts: Counts, stop: Callable[[], bool]) -> Iterator[Frame]:
    """Open a video and yield the first frame in each 1/`fps` seconds of its own time, until it ends or `stop()`.

    Damaged frames are counted and skipped.

    Raises:
        TransientImageError: a retry may succeed.
        ImageError: it is not a video, or its frames are too large.
        ConfigurationError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ConfigurationError("reading videos needs PyAV: pip install 'lookalike[video]'") from error
    av.logging.set_level(av.logging.PANIC)  # exceptions report what matters
    try:
        with ExitStack() as opened:
            container = opened.enter_context(_open(av, source, limits, counts, opened))
            if not _films(container):
                raise_permanent(f"{source.name} has no video in it")
            yield from _sampled(container, fps, limits, counts, stop)
    except av.error.FFmpegError as error:
        reason = f"{source.name} cannot be read: {error.strerror or error}"
        if source.kind == "file" or isinstance(error, av.error.InvalidDataError):
            raise ImageError("decode", reason) from error
        raise_transient(reason, error)


def _open(av: Any, source: Source, limits: Limits, counts: Counts, files: ExitStack) -> "InputContainer":  # noqa: ANN401 — the module itself
    opened: InputContainer
    counts.live = counts.live or source.live
    if source.kind == "device":
        opened = av.open(source.address, format="video4linux2")
        return opened
    if source.kind == "rtsp":
        opened = av.open(source.address, options=_RTSP, timeout=limits.timeout)
        return opened
    if source.kind == "file":
        opened = av.open(files.enter_context(_local(source.address)), io_open=_refuse_url, options=_OWN_IO)
        return opened
    first = [files.enter_context(HttpStream(source.address, limits=limits))]
    multipart = first[0].content_type == _MULTIPART
    counts.live = counts.live or multipart

    def open_url(url: str, _flags: int, _options: dict[str, str]) -> HttpStream:
        if first:
            return first.pop()
        if urlsplit(url).scheme not in ("http", "https"):
            raise_permanent(f"{source.name} names {url.partition('?')[0]}, which is not fetched")
        return HttpStream(url, limits=limits)

    options = {**_OWN_IO, **({"use_wallclock_as_timestamps": "1"} if multipart else {})}
    opened = av.open(source.address, format="mpjpeg" if multipart else None, io_open=open_url, options=options)
    return opened


def _local(path: str) -> io.BufferedReader:
    try:
        file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: PTH123, SIM115
    except OSError as error:
        raise_permanent(f"{path} cannot be read: {error.strerror}", error)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise_permanent(f"{path} is a folder, a device or a pipe, not a video file")
    return file


def _refuse_url(url: str, _flags: int, _options: dict[str, str]) -> io.BytesIO:
    raise_permanent(
        f"it names another file, {url}, which is not followed: a playlist could read any file of this machine"
    )


def _sampled(
    container: "InputContainer", fps: float, limits: Limits, counts: Counts, stop: Callable[[], bool]
) -> Iterator[Frame]:
    began = _start_time(container)
    first: float | None = None
    sampler = RateSampler(fps)
    for time, picture in _decoded(container, limits, counts):
        if stop():
            return
        first = time if first is None else first
        seconds = time - first
        if sampler.takes(seconds, jitter=counts.live):
            yield Frame(seconds, began + timedelta(seconds=seconds) if began else None, picture)


def _decoded(container: "InputContainer", limits: Limits, counts: Counts) -> Iterator[tuple[float, "av.VideoFrame"]]:
    import av

    stream = _films(container)[0]
    stream.thread_type = "SLICE"  # frame threads would delay several frames
    step = float(1 / (stream.average_rate or 25))
    time = -step
    for packet in container.demux(stream):
        try:
            pictures = packet.decode()
        except av.error.InvalidDataError:
            counts.corrupt += 1
            continue
        for picture in pictures:
            if picture.width * picture.height > limits.max_pixels:
                raise_permanent(
                    f"its frames have {picture.width:,} × {picture.height:,} pixels; the limit is "
                    f"{limits.max_pixels:,} (LOOKALIKE_MAX_IMAGE_PIXELS)"
                )
            time = time + step if picture.time is None else float(picture.time)
            counts.decoded += 1
            if picture.is_corrupt or packet.is_corrupt:
                counts.corrupt += 1
            else:
                yield time, picture


def _films(container: "InputContainer") -> list["av.VideoStream"]:
    """Return the video streams, without cover pictures and thumbnails, which may come first."""
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return [one for one in container.streams.video if not one.disposition & pictures]


def _start_time(container: "InputContainer") -> datetime | None:
    """Return when the first frame was recorded, if the stream or the file's metadata have it."""
    if container.start_time_realtime:
        return datetime.fromtimestamp(container.start_time_realtime / 1e6, UTC)
    try:
        found = datetime.fromisoformat(container.metadata["creation_time"])
    except (KeyError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def thumbnail(frame: Frame) -> NDArray[np.int16]:
    """Return the frame's luma, averaged down to 32 × 32."""
    small = frame.picture.reformat(width=THUMBNAIL, height=THUMBNAIL, format="gray", interpolation="AREA")
    return small.to_ndarray().astype(np.int16)


def difference(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """Return the difference of two thumbnails: 0 if identical, 1 if a tile changed from black to white.

    It is the largest mean absolute difference of luma among 16 tiles, as a share of white. The mean averages noise
    away, and a small moving object still counts in its tile.
    """
    apart = np.abs(one - other).reshape(THUMBNAIL // _TILE, _TILE, THUMBNAIL // _TILE, _TILE)
    return float(apart.mean(axis=(1, 3)).max()) / 255


def jpeg(frame: Frame, *, quality: int = 90) -> tuple[bytes, int, int]:
    """Return the frame as a JPEG, rotated as the video specifies, with its width and height."""
    image: Image.Image = frame.picture.to_image()  # type: ignore[no-untyped-call]
    if frame.picture.rotation:
        image = image.rotate(frame.picture.rotation, expand=True)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue(), image.width, image.height
