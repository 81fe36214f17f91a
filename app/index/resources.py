"""What an HNSW build wants of memory and disk, and what there is."""

import math
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg.rows import class_row

from app.db import Connection, sql, translated
from app.db.embedded.sizing import this_machine
from app.errors import ConfigurationError, InvalidInputError, NotFoundError
from app.store.spaces import Space

_PAGE = 8192
_PAGE_ROOM = 8192 - 24 - 8  # without header and pgvector's own end
_UNITS = {"kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}
_LEAST_MEMORY = 2**20
_SAME_START = 5.0  # seconds between the two times that a server gives for its start


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Settings of the session that builds: maintenance_work_mem in bytes, parallel workers; None: the server's own."""

    memory: int | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """What a build wants and has, in bytes; None where it is not known from here.

    `disk` is the new index with the WAL of its build; the old index stays until the end. `machine_memory` is that of
    the server's machine.
    """

    rows: int
    graph: int
    memory: int
    workers: int
    index: int
    disk: int
    disk_free: int | None
    machine_memory: int | None


@dataclass(frozen=True, slots=True)
class _Server:
    rows: int
    memory_set: int
    workers: int
    workers_most: int
    wal_most: int
    folder: str | None
    data_directory: str | None
    server_started: float


_ELEMENT = 128 + 8  # the element, and the list of its levels
_SERIAL = 40  # chunk headers, by measurement
_RESERVED = 4 * 2**20


def row_bytes(dimensions: int, m: int) -> int:
    """Return how much of maintenance_work_mem a row takes in the graph of a build, on the average.

    pgvector's structures: the element, its halfvec, and on each of its levels (1 / (m - 1) above the lowest, on the
    average) an array of neighbours, 2 m on the lowest and m on each above; 16 bytes a neighbour. Measured by
    `bench.search.index_memory`; docs/decisions/indexes.md has the numbers.
    """
    above = 1 / (m - 1)
    return round(_ELEMENT + _aligned(8 + 2 * dimensions) + 8 + 32 * m + above * (16 + 16 * m))


def graph_bytes(rows: int, dimensions: int, m: int) -> int:
    """Return how large maintenance_work_mem must be for the whole graph, built serially or in parallel.

    A serial build needs 40 bytes more a row, a parallel one keeps 4 MB for itself.
    """
    return rows * (row_bytes(dimensions, m) + _SERIAL) + _RESERVED


def index_bytes(rows: int, dimensions: int, m: int) -> int:
    """Return the size of a fresh index: pages that hold as many whole elements, with their neighbours, as fit."""
    element = _aligned(72 + 8 + 2 * dimensions) + 4
    neighbors = _aligned(4 + round(6 * m * (2 + 1 / (m - 1)))) + 4
    if element + neighbors > _PAGE_ROOM:
        return (2 + rows + math.ceil(rows / (_PAGE_ROOM // neighbors))) * _PAGE
    return (2 + math.ceil(rows / (_PAGE_ROOM // (element + neighbors)))) * _PAGE


def _sample_bytes(dimensions: int, lists: int) -> int:
    """Return what pgvector's k-means holds: 50 samples a list, and four numbers a sample and list."""
    return 50 * lists * (8 + 4 * dimensions + 4 * lists) + _RESERVED


def _aligned(size: int) -> int:
    return (size + 7) // 8 * 8


def ivfflat_bytes(rows: int, dimensions: int, lists: int) -> int:
    """Return the size of a fresh IVFFlat index: each list has pages of its own, the last of them half full."""
    held = _PAGE_ROOM // (_aligned(8 + 8 + 2 * dimensions) + 4)
    return (1 + math.ceil(rows / held) + lists // 2 + math.ceil(lists / held)) * _PAGE


def estimate_build(
    conn: Connection,
    space: Space,
    *,
    m: int | None,
    lists: int = 1,
    dimensions: int | None = None,
    resources: Resources | None = None,
) -> Needs:
    """Return what building this space's index wants and has; InvalidInputError for resources out of bounds.

    An IVFFlat index where `m` is None. `dimensions`: of the indexed halfvec, where that is not the embedding; sixteen
    bits count as one.
    """
    wide = dimensions or space.dimensions
    with translated(), conn.cursor(row_factory=class_row(_Server)) as cursor:
        server = cursor.execute(sql.query("index_needs"), {"space_id": space.id}).fetchone()
    if server is None:
        raise NotFoundError(f"the embedding space {space.name} was dropped meanwhile")
    here = _is_here(conn, server)
    index = ivfflat_bytes(server.rows, wide, lists) if m is None else index_bytes(server.rows, wide, m)
    needs = Needs(
        rows=server.rows,
        graph=_sample_bytes(wide, lists) if m is None else graph_bytes(server.rows, wide, m),
        memory=server.memory_set,
        workers=server.workers,
        index=index,
        disk=index + min(index, server.wal_most),
        disk_free=_free(server.folder) if here else None,
        machine_memory=_memory(server.data_directory) if here else None,
    )
    return _with(needs, resources or Resources(), server)


def _with(needs: Needs, resources: Resources, server: _Server) -> Needs:
    if resources.memory is not None:
        most = needs.machine_memory
        if resources.memory < _LEAST_MEMORY:
            raise InvalidInputError(f"{resources.memory} bytes of memory are too few for a build; at least 1 MB")
        if most is not None and resources.memory > most:
            raise InvalidInputError(
                f"{shown(resources.memory)} for the build are more than the machine has: {shown(most)}"
            )
        needs = replace(needs, memory=resources.memory)
    if resources.workers is not None:
        if not 0 <= resources.workers <= server.workers_most:
            raise InvalidInputError(
                f"{resources.workers} parallel workers: choose 0 to {server.workers_most}, the server's "
                "max_parallel_workers"
            )
        needs = replace(needs, workers=resources.workers)
    return needs


def check_disk(needs: Needs) -> None:
    """Raise ConfigurationError where the disk, as far as it is known, has no room for the new index."""
    if needs.disk_free is not None and needs.disk > needs.disk_free:
        raise ConfigurationError(
            f"the new index of {needs.rows:,} rows and its WAL take about {shown(needs.disk)}, and "
            f"{shown(needs.disk_free)} are free on the server's disk; make room, or go on all the same with --force"
        )


def shortage(needs: Needs) -> str | None:
    """Return what to say where the graph does not fit the memory that the build may use."""
    if needs.graph <= needs.memory:
        return None
    fits = int(needs.rows * needs.memory / needs.graph)
    text = (
        f"the graph of {needs.rows:,} rows wants {shown(needs.graph)} of memory, maintenance_work_mem is "
        f"{shown(needs.memory)}: after some {fits:,} rows the build goes on many times slower"
    )
    if needs.machine_memory is not None and needs.graph > needs.machine_memory // 2:
        return text + f" (the machine has {shown(needs.machine_memory)})"
    return text + f"; --memory {math.ceil(needs.graph / 2**20)}MB gives it what it wants"


def server_is_here(conn: Connection) -> bool:
    """Tell whether the server runs on this machine, as far as its start and its folder show."""
    row = conn.execute(
        "SELECT extract(epoch FROM pg_postmaster_start_time())::float8,"
        " (SELECT v.setting FROM pg_settings v WHERE v.name = 'data_directory')"
    ).fetchone()
    return row is not None and _started_here(conn, None if row[1] is None else str(row[1]), float(str(row[0])))


def free_disk(conn: Connection) -> int | None:
    """Return the free bytes of the disk of the server's data; None where they cannot be seen from here."""
    row = conn.execute("SELECT v.setting FROM pg_settings v WHERE v.name = 'data_directory'").fetchone()
    return _free(str(row[0])) if row and row[0] and server_is_here(conn) else None


def parse_memory(text: str) -> int:
    """Return bytes of a size as PostgreSQL writes it (`4GB`, `512 MB`); InvalidInputError where it is none."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]b)\s*", text, re.IGNORECASE)
    if not found:
        raise InvalidInputError(f'"{text}" is no size of memory; write it as 512MB or 4GB')
    return int(float(found[1]) * _UNITS[found[2].lower()])


def shown(size: int) -> str:
    """Return bytes in the units in which PostgreSQL takes them."""
    for unit, factor in (("GB", 2**30), ("MB", 2**20)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 2**10:.0f} kB"


def _is_here(conn: Connection, server: _Server) -> bool:
    """Tell whether the server runs where this process does, so that its folders can be looked at."""
    return _started_here(conn, server.data_directory, server.server_started)


def _started_here(conn: Connection, data_directory: str | None, server_started: float) -> bool:
    if data_directory is None:
        return False
    try:
        started = int((Path(data_directory) / "postmaster.pid").read_text().splitlines()[2])
    except PermissionError:
        return conn.info.host.startswith("/")  # a socket: the same kernel
    except (OSError, ValueError, IndexError):
        return False
    return abs(started - server_started) <= _SAME_START


def _free(folder: str | None) -> int | None:
    try:
        return shutil.disk_usage(folder).free if folder else None
    except OSError:
        return None


def _memory(folder: str | None) -> int | None:
    try:
        return this_machine(Path(folder)).memory if folder else None
    except OSError:
        return None
