"""Settings of the embedded server, sized to its machine."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

MB = 2**20
GB = 2**30


@dataclass(frozen=True)
class Machine:
    """Resources that the server may use: memory, free disk and System V shared memory in bytes; number of cores."""

    memory: int
    cpus: int
    disk_free: int
    sysv_limit: int


def this_machine(data_dir: Path, *, root: Path = Path("/")) -> Machine:
    """Return the resources of the machine, within the limits of this process's container; `root` holds proc and sys."""
    memory = min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_cgroup_limits(root)])
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    kernel = root / "proc/sys/kernel"
    pages = _number(kernel / "shmall") * os.sysconf("SC_PAGE_SIZE")
    return Machine(memory, cpus, shutil.disk_usage(data_dir).free, min(_number(kernel / "shmmax"), pages))


def settings_for(machine: Machine) -> dict[str, str]:
    """Return PostgreSQL settings that leave about half of the memory to the worker and the file cache."""
    buffers = _within(machine.memory // 4, 32 * MB, 4 * GB)
    maintenance = _within(machine.memory // 8, 32 * MB, 4 * GB)
    max_wal = _within(min(machine.memory // 4, machine.disk_free // 10), 256 * MB, 4 * GB)
    return {
        "shared_buffers": _mb(buffers),
        "maintenance_work_mem": _mb(maintenance),
        # Each of three autovacuum workers takes this much, so it is less than an index build's share.
        "autovacuum_work_mem": _mb(_within(maintenance // 4, 16 * MB, 256 * MB)),
        "effective_cache_size": _mb(max(machine.memory // 2, buffers)),
        "work_mem": _mb(_within(machine.memory // 1024, 4 * MB, 16 * MB)),
        "max_wal_size": _mb(max_wal),
        "min_wal_size": _mb(max_wal // 4),
        "max_connections": "100",
        "max_worker_processes": str(max(8, machine.cpus + 4)),
        "max_parallel_workers": str(max(2, machine.cpus)),
        "max_parallel_maintenance_workers": str(_within(machine.cpus, 2, 8)),
        "dynamic_shared_memory_type": _shared_memory_type(machine, maintenance),
        "wal_level": "replica",
        "random_page_cost": "1.1",  # embeddings are on an SSD or in memory
        # Vacuum early, because dead tuples of changed images and embeddings lower HNSW recall.
        "autovacuum_naptime": "15s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_vacuum_insert_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.02",
        "autovacuum_vacuum_cost_limit": "1000",
    }


def _shared_memory_type(machine: Machine, maintenance: int) -> str:
    """Return the kind of shared memory for parallel queries.

    pgvector's parallel HNSW build allocates all of maintenance_work_mem there. `posix` is /dev/shm, which has 64 MB in
    a container: the build fails with "could not resize shared memory segment". `mmap` is written back to disk. The
    size of /dev/shm does not limit `sysv`.
    """
    return "sysv" if sys.platform == "linux" and machine.sysv_limit >= 2 * maintenance else "posix"


def _cgroup_limits(root: Path) -> list[int]:
    """Return the memory limits of this process's cgroup and its ancestors (version 2), and of version 1."""
    limits = [_number(root / "sys/fs/cgroup/memory/memory.limit_in_bytes")]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    own = next((line[len("0::") :] for line in lines if line.startswith("0::")), "/")
    folder = root / "sys/fs/cgroup" / own.strip("/")
    while folder.is_relative_to(root / "sys/fs/cgroup"):
        limits.append(_number(folder / "memory.max"))
        folder = folder.parent
    return [limit for limit in limits if limit > 0]


def _number(path: Path) -> int:
    """Return the number in a kernel file, or 0 if the file is absent or holds a word such as "max"."""
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


def _mb(size: int) -> str:
    return f"{size // MB}MB"
