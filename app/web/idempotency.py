"""Writes over HTTP: one transaction each, and done only once per Idempotency-Key."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from flask import Response, g, request
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.errors import InvalidInputError
from app.web import read_your_writes, request_body
from app.web.errors import InvalidRequestError
from app.web.schemas import FieldError
from app.web.services import services

IDEMPOTENCY_KEY = "Idempotency-Key"
_MAX_KEY = 255
# Stored with the response; the other headers are created for each reply.
_STORED_HEADERS = ("Content-Type", "Location", "ETag")
_OK = range(200, 300)

View = TypeVar("View", bound=Callable[..., Response])

# The openapi_extensions of a write.
PARAMETERS = [
    {
        "name": IDEMPOTENCY_KEY,
        "in": "header",
        "required": False,
        "description": "Any text that the client chooses. If the client repeats the request with the same key within"
        " 24 hours, it gets the stored response. A different request with this key is refused.",
        "schema": {"type": "string", "minLength": 1, "maxLength": _MAX_KEY, "pattern": "^[!-~]+$"},
    }
]

IF_MATCH = [
    {
        "name": "If-Match",
        "in": "header",
        "required": False,
        "description": "The image's ETag from an earlier read; 412 if the image has changed since.",
        "schema": {"type": "string"},
    }
]


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A stored response."""

    status: int
    headers: dict[str, str]
    body: bytes


def idempotent(view: View) -> View:
    """Make a view idempotent: one transaction, and for a repeated Idempotency-Key the stored response.

    Only successful responses are stored, because an error has no effect and a retry may succeed. The view takes its
    connection from `write_transaction`.
    """

    @wraps(view)
    def wrapped(**arguments: Any) -> Response:  # noqa: ANN401 — whatever the view takes
        key = request.headers.get(IDEMPOTENCY_KEY)
        if key is None:
            return view(**arguments)
        if not (0 < len(key) <= _MAX_KEY and key.isascii() and key.isprintable() and " " not in key):
            message = f"must be 1 to {_MAX_KEY} printable ASCII characters without spaces, got {key[:80]!r}"
            raise InvalidRequestError(
                f"{IDEMPOTENCY_KEY}: {message}", [FieldError(field=IDEMPOTENCY_KEY, message=message)]
            )
        caller = "" if g.api_key is None else str(g.api_key.id)
        digest = _digest()
        with services().database.connection() as conn:
            with conn.transaction():
                stored = _acquire(conn, caller, key, digest)
                response = _replay(stored) if stored is not None else _run_view(conn, view, arguments)
                if stored is None and response.status_code in _OK:
                    headers = {name: response.headers[name] for name in _STORED_HEADERS if name in response.headers}
                    stored = StoredResponse(response.status_code, headers, response.get_data())
                    _save(conn, caller, key, digest, stored)
            read_your_writes.note_position(conn)
        return response

    return wrapped  # type: ignore[return-value]  # the signature is the view's


@contextmanager
def write_transaction() -> Iterator[Connection]:
    """Yield this request's write connection in a transaction; an exception rolls back the block."""
    open_connection: Connection | None = g.get("write_connection")
    if open_connection is not None:
        with open_connection.transaction():
            yield open_connection
    else:
        with services().database.connection() as conn:
            with conn.transaction():
                yield conn
            read_your_writes.note_position(conn)


def _run_view(conn: Connection, view: Callable[..., Response], arguments: dict[str, Any]) -> Response:
    g.write_connection = conn
    try:
        return view(**arguments)
    finally:
        del g.write_connection


def _digest() -> bytes:
    """Return a hash of this request's method, path, query and body, independent of a form's boundary."""
    digest = hashlib.sha256(f"{request.method} {request.path}?{request.query_string!r} {request.mimetype}".encode())
    if request.mimetype == request_body.MULTIPART:
        parts = [(name, text.encode()) for name, texts in request.form.lists() for text in texts]
        for name, upload in request.files.items(multi=True):
            parts.append((name, hashlib.file_digest(upload.stream, "sha256").digest()))  # type: ignore[arg-type]
            upload.stream.seek(0)
    else:
        request.max_content_length = min(
            request_body.MAX_BATCH_BYTES, request.max_content_length or request_body.MAX_BATCH_BYTES
        )
        parts = [("", request.get_data(cache=True))]
    for name, data in sorted(parts):
        for one in (name.encode(), data):
            digest.update(len(one).to_bytes(8, "big") + one)
    return digest.digest()


def _replay(stored: StoredResponse) -> Response:
    response = Response(stored.body, status=stored.status, headers=stored.headers)
    response.headers["Idempotent-Replayed"] = "true"
    return response


def _acquire(conn: Connection, caller: str, key: str, request: bytes) -> StoredResponse | None:
    """Return the stored response to this request, or lock its key until the transaction ends and return None.

    A second request with the same key waits here for the first. `request` is the hash of the request.

    Raises:
        InvalidInputError: the key came with another request before.
    """
    with translated():
        conn.execute(sql.query("hold_answer"), {"caller": caller, "key": key})
        with conn.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(sql.query("find_answer"), {"caller": caller, "key": key}).fetchone()
    if row is None:
        return None
    if bytes(row["request_sha256"]) != request:
        raise InvalidInputError(
            f"Idempotency-Key {key!r} was used for another request within 24 hours; a new request needs a new key"
        )
    return StoredResponse(row["status"], row["headers"], bytes(row["body"]))


def _save(conn: Connection, caller: str, key: str, request: bytes, response: StoredResponse) -> None:
    """Store the response to a request whose key `_acquire` has locked."""
    values = {
        "caller": caller,
        "key": key,
        "request": request,
        "status": response.status,
        "headers": Jsonb(response.headers),
        "body": response.body,
    }
    with translated():
        conn.execute(sql.query("store_answer"), values)
