"""Read the environment of a measurement: hardware, versions, settings."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
from psycopg.rows import dict_row

from app.db import Connection, sql, translated
from app.db.embedded.sizing import this_machine
from app.index.resources import server_is_here
from app.version import version


def read(conn: Connection) -> dict[str, Any]:
    """Return the server's versions and settings, this machine's hardware, and whether the server runs on it."""
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        server = cursor.execute(sql.query("measurement_environment")).fetchone() or {}
    machine = this_machine(Path.cwd())
    return {
        **server,
        "cpu": _cpu(),
        "cores": machine.cpus,
        "memory": machine.memory,
        "load": round(os.getloadavg()[0], 2),
        "server_is_here": server_is_here(conn),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "lookalike": version(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
