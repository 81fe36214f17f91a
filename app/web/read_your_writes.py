"""How a view reads from where searches are answered, and tells whence.

A write's answer names the end of the WAL behind it in the header Lookalike-Lsn; a search that brings it back, there or
as min_lsn, sees that write.
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

# For the OpenAPI document: openapi_extensions of what may be read from a standby.
PARAMETERS = [
    {
        "name": LSN,
        "in": "header",
        "required": False,
        "description": "As a write's answer has it: the answer shows that write, also where a standby gives it.",
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
    """Return what `act` reads, of a standby where one is fit; errors are those of `act` on the primary.

    `primary` is a connection to it that the caller has already.
    """
    given = min_lsn or request.headers.get(LSN)
    if given is not None and not re.fullmatch(LSN_PATTERN, given):
        message = f"is no position of the WAL, as a write's answer has it in {LSN} (0/16B3748): {given[:40]!r}"
        raise InvalidRequestError(f"{LSN}: {message}", [FieldError(field=LSN, message=message)])
    found, g.served_by = services().reads.run(act, timeout=timeout, min_lsn=given, primary=primary)
    return found


def note_position(conn: Connection) -> None:
    """Keep where the WAL ends after a commit, for the answer's header."""
    g.lsn = replicas.wal_position(conn)


def register(app: Flask) -> None:
    """Put into each answer who gave it, and into a write's where the WAL ends behind it."""
    app.after_request(_tell)


def _tell(response: Response) -> Response:
    if "served_by" in g and services().reads.replicated:
        response.headers[SERVED_BY] = g.served_by
    if "lsn" in g:
        response.headers[LSN] = g.lsn
    return response
