"""The memory and disk that an index build needs, and what there is."""

import math
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg.rows import class_row

from app.db import Connection, sql, translated
from app.db.embedded.sizing import this_machine
from app.errors import ConfigurationError, InvalidInputError, NotFoundError
from app.index.target import Target

_UNITS = {"kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}
_LEAST_MEMORY = 2**20
_SAME_START = 5.0  # seconds: a server reports its start in two places, not at the same moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Settings of the building session: maintenance_work_mem in bytes, parallel workers. None: the server's own."""

    memory: int | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """What a build needs and what there is, in bytes; None if this machine cannot see it.

    `graph` is the memory of an undisturbed build, `memory` what it may use. `disk` is the new index with the WAL of its
    build, because the old index stays until the end. `machine_memory` belongs to the server's machine.
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


def estimate_build(conn: Connection, wanted: Target, *, resources: Resources | None = None) -> Needs:
    """Return what building this index needs and what there is. The choice must have an access method.

    Raises:
        InvalidInputError: the resources are out of range.
        NotFoundError: the space was dropped meanwhile.
    """
    with translated(), conn.cursor(row_factory=class_row(_Server)) as cursor:
        server = cursor.execute(sql.query("index_needs"), {"space_id": wanted.space.id}).fetchone()
    if server is None:
        raise NotFoundError(f"the embedding space {wanted.space.name} was dropped meanwhile")
    here = _started_here(conn, server.data_directory, server.server_started)
    choice = wanted.choice.for_rows(server.rows)
    method = choice.access
    if method is None:
        raise InvalidInputError(f"index choice {choice} builds nothing: choose another kind")
    index = method.index_bytes(server.rows, wanted.halfvec_dimensions, choice.values)
    needs = Needs(
        rows=server.rows,
        graph=method.build_bytes(server.rows, wanted.halfvec_dimensions, choice.values),
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
            raise InvalidInputError(f"{resources.memory} bytes of memory are too few for a build; give it 1 MB or more")
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
    """Check that the disk has room for the new index, if this machine can see the disk.

    Raises:
        ConfigurationError: it has not.
    """
    if needs.disk_free is not None and needs.disk > needs.disk_free:
        raise ConfigurationError(
            f"the new index of {needs.rows:,} rows and its WAL take about {shown(needs.disk)}, and "
            f"{shown(needs.disk_free)} are free on the server's disk; make room, or build anyway with --force"
        )


def shortage(needs: Needs) -> str | None:
    """Return a warning if the graph does not fit the memory that the build may use."""
    if needs.graph <= needs.memory:
        return None
    fits = int(needs.rows * needs.memory / needs.graph)
    text = (
        f"the graph of {needs.rows:,} rows needs {shown(needs.graph)} of memory, maintenance_work_mem is "
        f"{shown(needs.memory)}: after some {fits:,} rows the build becomes many times slower"
    )
    if needs.machine_memory is not None and needs.graph > needs.machine_memory // 2:
        return text + f" (the machine has {shown(needs.machine_memory)})"
    return text + f"; --memory {math.ceil(needs.graph / 2**20)}MB gives it enough"


def server_is_here(conn: Connection) -> bool:
    """Return whether the server runs on this machine, judging by its start and its data folder."""
    row = conn.execute(
        "SELECT extract(epoch FROM pg_postmaster_start_time())::float8,"
        " (SELECT v.setting FROM pg_settings v WHERE v.name = 'data_directory')"
    ).fetchone()
    return row is not None and _started_here(conn, None if row[1] is None else str(row[1]), float(str(row[0])))


def free_disk(conn: Connection) -> int | None:
    """Return the free bytes of the disk with the server's data; None if this machine cannot see it."""
    row = conn.execute("SELECT v.setting FROM pg_settings v WHERE v.name = 'data_directory'").fetchone()
    return _free(str(row[0])) if row and row[0] and server_is_here(conn) else None


def parse_memory(text: str) -> int:
    """Return the bytes of a size in PostgreSQL's notation, `4GB` or `512 MB`.

    Raises:
        InvalidInputError: the text is not a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]b)\s*", text, re.IGNORECASE)
    if not found:
        raise InvalidInputError(f'"{text}" is not a size of memory; write it as 512MB or 4GB')
    return int(float(found[1]) * _UNITS[found[2].lower()])


def shown(size: int) -> str:
    """Return a number of bytes in PostgreSQL's notation."""
    for unit, factor in (("GB", 2**30), ("MB", 2**20)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 2**10:.0f} kB"


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
