"""The state that an operator watches, in one reading: status, index builds, latest failures. Imports `db`, `jobs`,
`records`, `sql` and `status`."""

from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg.rows import class_row

from app import jobs, sql, status
from app.db import Connection, translated
from app.records import Failure, Status

_FAILURES = 24


@dataclass(frozen=True, slots=True)
class Build:
    """An index build that goes on; `done` is the share of the table in this phase, 0 to 1."""

    space: str
    phase: str
    done: float


@dataclass(frozen=True, slots=True)
class Operation:
    """The state at one moment; failures are the latest ones."""

    at: datetime
    status: Status
    builds: list[Build]
    failures: list[Failure]


def read(conn: Connection) -> Operation:
    """Return the state of everything, cheaply; SchemaError where database and code do not fit."""
    found = status.read(conn)
    with translated(), conn.cursor(row_factory=class_row(Build)) as cursor:
        builds = cursor.execute(sql.query("builds")).fetchall()
    return Operation(datetime.now(UTC), found, builds, jobs.failures(conn, limit=_FAILURES))
