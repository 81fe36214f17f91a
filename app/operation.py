"""The state that an operator watches, in one reading: status, index builds, latest failures."""

from dataclasses import dataclass
from datetime import UTC, datetime

from app import status
from app.db import Connection
from app.index.build import Build, running_builds
from app.records import Failure, Status
from app.store import jobs

_FAILURES = 24


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
    return Operation(datetime.now(UTC), found, running_builds(conn), jobs.failures(conn, limit=_FAILURES))
