"""What fetching and decoding one image may cost, and how a breach is reported."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from app.config import Settings
from app.errors import ImageError, TransientImageError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What fetching and decoding one image may cost, and where it may come from.

    `timeout` is the total of one fetch in seconds. `allowed_hosts` are the http(s) hosts: "*" allows every host with
    a public address; a host named here may have a private or loopback address too. `roots` are the folders that local
    files must lie in after symbolic links are followed; None allows every folder.
    """

    max_bytes: int
    max_pixels: int
    timeout: float
    allowed_hosts: frozenset[str] = frozenset({"*"})
    roots: tuple[Path, ...] | None = None


def limits_of(settings: Settings) -> Limits:
    """Return what the settings allow one image to cost."""
    allowed = allowed_sources(settings)
    uploads = settings.storage_url or str(settings.home.absolute() / "uploads")
    named = (*allowed["LOOKALIKE_IMAGE_ROOTS"].split(":"), uploads.removeprefix("file://"))
    return Limits(
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        timeout=settings.fetch_timeout,
        allowed_hosts=frozenset(host.strip() for host in allowed["LOOKALIKE_IMAGE_HOSTS"].split(",") if host.strip()),
        roots=tuple(Path(root) for root in named if Path(root).is_absolute()),
    )


def allowed_sources(settings: Settings) -> dict[str, str]:
    """Return where images may come from, as the environment variables that tell a child process the same.

    A server that others use as well lets them name any uri: what a worker reads for them must be said. The embedded
    server is of this user alone, also if a child process gets it by its URL.
    """
    shared = settings.database_url is not None
    roots, hosts = settings.image_roots, settings.image_hosts
    return {
        "LOOKALIKE_IMAGE_ROOTS": roots if roots is not None else "" if shared else "/",
        "LOOKALIKE_IMAGE_HOSTS": hosts if hosts is not None else "" if shared else "*",
    }


def raise_permanent(reason: str, cause: BaseException | None = None) -> NoReturn:
    """Raise ImageError, step "fetch": another try would fail alike."""
    raise ImageError("fetch", reason) from cause


def raise_transient(reason: str, cause: BaseException | None = None) -> NoReturn:
    """Raise TransientImageError, step "fetch": another try may succeed."""
    raise TransientImageError("fetch", reason) from cause


def check_size(size: int, limits: Limits, *, more: bool = False) -> None:
    """Refuse a file of `size` bytes above the limit; `more`: reading stopped there, so its real size is unknown."""
    if size > limits.max_bytes:
        size_text = f"more than {limits.max_bytes:,}" if more else f"{size:,}"
        raise_permanent(
            f"the file has {size_text} bytes; the limit is {limits.max_bytes:,} (LOOKALIKE_MAX_IMAGE_BYTES)"
        )


def run_with_timeout(seconds: float, work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own and wait `seconds` at most; work that hangs longer is left behind."""
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((work(), None))
        except BaseException as error:  # noqa: BLE001 — raised again in the caller's thread
            answers.put((None, error))

    threading.Thread(target=run, daemon=True, name="fetch").start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # None only beside an error
