"""Read-your-writes across replicas.

The response to a write contains the WAL position after it, in the header Lookalike-Lsn. A search that sends it back, in
this header or as min_lsn, sees that write.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from flask import Flask, Response, g, request

from app.db import Connection, replicas
from app.web.errors import InvalidRequestError
from app.web.schemas import LSN_PATTERN, FieldError
from app.web.services import services

LSN = "Lookalike-Lsn"
SERVED_BY = "Lookalike-Served-By"

T = TypeVar("T")

# The openapi_extensions of routes that a standby may answer.
PARAMETERS = [
    {
        "name": LSN,
        "in": "header",
        "required": False,
        "description": "Lookalike-Lsn from the response to a write. The search sees that write, also on a standby.",
        "schema": {"type": "string", "pattern": LSN_PATTERN},
    }
]


def run(
    act: Callable[[Connection], T],
    *,
    timeout: float | None = None,
    min_lsn: str | None = None,
    primary: Connection | None = None,
) -> T:
    """Return the result of `act`, which only reads, from a standby if one is fit, else from the primary.

    `primary` is the caller's own connection to the primary, if it has one. Errors are those of `act` on the primary.
    """
    given = min_lsn or request.headers.get(LSN)
    if given is not None and not re.fullmatch(LSN_PATTERN, given):
        message = f"must be the {LSN} of a write's response, such as 0/16B3748, got {given[:40]!r}"
        raise InvalidRequestError(f"{LSN}: {message}", [FieldError(field=LSN, message=message)])
    found, g.served_by = services().router.run(act, timeout=timeout, min_lsn=given, primary=primary)
    return found


def note_position(conn: Connection) -> None:
    """Store the WAL position after a commit, for the response's header."""
    g.lsn = replicas.wal_position(conn)


def register(app: Flask) -> None:
    """Add headers: which database answered, and the WAL position after a write."""
    app.after_request(_add_headers)


def _add_headers(response: Response) -> Response:
    if "served_by" in g and services().router.replicated:
        response.headers[SERVED_BY] = g.served_by
    if "lsn" in g:
        response.headers[LSN] = g.lsn
    return response
