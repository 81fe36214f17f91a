"""Measure the cost of images and searches: seconds of workers and of the server, bytes, and money at given prices."""

from dataclasses import asdict, dataclass

from psycopg.rows import class_row

from app.db import Connection, sql, translated
from app.errors import InvalidInputError, StorageError
from app.media.uploads import Storage
from app.store import spaces

_PROBES = 50
_MILLION = 1_000_000
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class WorkerCost:
    """A row of `lookalike.cost_of_workers`, summed over days. `…_each`: seconds per image; None without any."""

    space: str
    device: str
    images: int
    reused: int
    queries: int
    seconds: float
    seconds_each: float | None
    per_second: float | None
    claim_each: float | None
    fetch_each: float | None
    lookup_each: float | None
    decode_each: float | None
    encode_each: float | None
    write_each: float | None


@dataclass(frozen=True, slots=True)
class StoragePart:
    """A row of `lookalike.storage_parts`. `space` None: shared by all spaces; `bytes_per_image` None without images."""

    space: str | None
    active: bool | None
    part: str
    kind: str
    bytes: int
    bytes_per_image: float | None


@dataclass(frozen=True, slots=True)
class SearchCost:
    """Seconds of one server core for a search: mean of live searches whose recall was checked, or of a few probes."""

    searches: int
    seconds: float | None
    live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices in any currency: an hour of a worker's machine, a gigabyte (10⁹ bytes) for a month, an hour of the server.

    `server_hour` None: the same price as the worker's machine.
    """

    hour: float
    gb_month: float
    server_hour: float | None = None
    server_cores: int = 1

    def __post_init__(self) -> None:
        """Raise InvalidInputError if a price is negative or not finite."""
        for name, value in asdict(self).items():
            if value is not None and not 0 <= value < float("inf"):
                raise InvalidInputError(f"{name} {value} is not a valid price: pass a number from 0 up")
        if self.server_cores < 1:
            raise InvalidInputError(f"server_cores {self.server_cores} is not valid: pass 1 or more")


@dataclass(frozen=True, slots=True)
class WorkerPrice:
    """The price of embedding a million images on this device."""

    space: str
    device: str
    million_images: float


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of a million: images embedded, images stored for a month, searches by embedding, query images.

    Storage is that of the active space and of what all spaces share, and of uploaded files if they were measured. The
    price of a query image is added to that of its search.
    """

    embedding: list[WorkerPrice]
    million_images_month: float | None
    million_queries: float | None
    million_query_images: float | None


@dataclass(frozen=True, slots=True)
class Ledger:
    """Seconds and bytes, with prices if given. `files`: bytes of uploaded files; None: not measured."""

    days: int
    workers: list[WorkerCost]
    storage: list[StoragePart]
    files: int | None
    bytes_per_image: float | None
    search: SearchCost
    price: Price | None


def read(conn: Connection, *, days: int = 30, prices: Prices | None = None, storage: Storage | None = None) -> Ledger:
    """Return the costs of the last `days` days (0: today).

    With `storage`, it lists all uploaded files and adds their bytes. If no live search was measured, it runs a few
    searches by stored images.

    Raises:
        InvalidInputError: `days` is negative.
        StorageError: the uploaded files cannot be listed.
    """
    if days < 0:
        raise InvalidInputError(f"days {days} is not valid: pass 0, for today, or more")
    with translated():
        workers = worker_costs(conn, days=days)
        with conn.cursor(row_factory=class_row(StoragePart)) as parts:
            stored = parts.execute(sql.query("storage_parts")).fetchall()
    images = _images(stored)
    files = None if storage is None else _files(storage)
    each = [one.bytes_per_image for one in stored if one.space is None or one.active]
    per_image = sum(one for one in each if one is not None) if images else None
    if per_image is not None and files is not None and images:
        per_image += files / images
    search = _search(conn, days)
    return Ledger(
        days=days,
        workers=workers,
        storage=stored,
        files=files,
        bytes_per_image=per_image,
        search=search,
        price=None if prices is None else _price(conn, prices, workers, per_image, search),
    )


def worker_costs(conn: Connection, *, days: int = 30) -> list[WorkerCost]:
    """Return the seconds of workers in the last `days` days by space and device, the active space first."""
    with translated(), conn.cursor(row_factory=class_row(WorkerCost)) as cursor:
        return cursor.execute(sql.query("cost_of_workers"), {"days": days}).fetchall()


def _images(stored: list[StoragePart]) -> float | None:
    """Return the number of images that the bytes per image were computed for."""
    return next((one.bytes / one.bytes_per_image for one in stored if one.bytes_per_image), None)


def _files(storage: Storage) -> int:
    try:
        return int(storage.files.du(storage.root)) if storage.files.exists(storage.root) else 0
    except Exception as error:
        raise StorageError(f"the files in {storage.root} cannot be listed: {error}") from error


def _search(conn: Connection, days: int) -> SearchCost:
    if not any(space.active for space in spaces.ls(conn)):
        return SearchCost(0, None, live=False)
    with translated():
        live = _measured(conn, "search_seconds", {"days": max(days, 1)})
        if live.searches:
            return live
        conn.execute(
            sql.query("search_probe"), {"most": _PROBES // 10}
        )  # warm up, because the first searches read from disk
        made = _measured(conn, "search_probe", {"most": _PROBES})
    return SearchCost(made.searches, made.seconds, live=False)


def _measured(conn: Connection, query: str, values: dict[str, object]) -> SearchCost:
    row = conn.execute(sql.query(query), values).fetchone() or (0, None)
    return SearchCost(int(str(row[0])), None if row[1] is None else float(str(row[1])), live=True)


def _price(
    conn: Connection, prices: Prices, workers: list[WorkerCost], per_image: float | None, search: SearchCost
) -> Price:
    embedding = [
        WorkerPrice(one.space, one.device, one.seconds_each * _MILLION / _HOUR * prices.hour)
        for one in workers
        if one.seconds_each is not None
    ]
    active = {space.name for space in spaces.ls(conn) if space.active}
    pictures = [one.million_images for one in embedding if one.space in active]
    core_hour = (prices.hour if prices.server_hour is None else prices.server_hour) / prices.server_cores
    return Price(
        embedding=embedding,
        million_images_month=None if per_image is None else per_image * _MILLION / 1e9 * prices.gb_month,
        million_queries=None if search.seconds is None else search.seconds * _MILLION / _HOUR * core_hour,
        million_query_images=min(pictures) if pictures else None,
    )
