"""Limits for fetching and decoding one image, and the errors for exceeding them."""

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
    """Limits for one image, and its allowed sources.

    `timeout` covers a whole fetch, in seconds. `allowed_hosts` are http(s) hosts: "*" allows every host with a public
    address; a host listed by name may have a private or loopback address. `roots` are the folders that local files
    must lie in after symbolic links are resolved; None allows every folder.
    """

    max_bytes: int
    max_pixels: int
    timeout: float
    allowed_hosts: frozenset[str] = frozenset({"*"})
    roots: tuple[Path, ...] | None = None


def limits_of(settings: Settings) -> Limits:
    """Return the limits from the settings; the uploads folder is always an allowed root."""
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
    """Return the allowed sources as environment variables for a child process, defaults resolved.

    Others may write any uri to a shared database, so nothing is allowed there by default. The embedded server belongs
    to this user alone, but a child process gets it as a URL and would take it for a shared one.
    """
    shared = settings.database_url is not None
    roots, hosts = settings.image_roots, settings.image_hosts
    return {
        "LOOKALIKE_IMAGE_ROOTS": roots if roots is not None else "" if shared else "/",
        "LOOKALIKE_IMAGE_HOSTS": hosts if hosts is not None else "" if shared else "*",
    }


def raise_permanent(reason: str, cause: BaseException | None = None) -> NoReturn:
    """Raise ImageError, step "fetch": a retry would fail too."""
    raise ImageError("fetch", reason) from cause


def raise_transient(reason: str, cause: BaseException | None = None) -> NoReturn:
    """Raise TransientImageError, step "fetch": a retry may succeed."""
    raise TransientImageError("fetch", reason) from cause


def check_size(size: int, limits: Limits, *, more: bool = False) -> None:
    """Raise ImageError if a file of `size` bytes exceeds the limit. `more`: it is longer, by an unknown amount."""
    if size > limits.max_bytes:
        size_text = f"more than {limits.max_bytes:,}" if more else f"{size:,}"
        raise_permanent(
            f"the file has {size_text} bytes; the limit is {limits.max_bytes:,} (LOOKALIKE_MAX_IMAGE_BYTES)"
        )


def run_with_timeout(seconds: float, work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own and return its result; abandon the thread at the timeout.

    Raises:
        TimeoutError: `work` took longer than `seconds`.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:  # noqa: BLE001 — raised again in the caller's thread
            results.put((None, error))

    threading.Thread(target=run, daemon=True, name="fetch").start()
    try:
        value, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # None only beside an error
