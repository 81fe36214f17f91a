"""How writes are made: in one transaction, once for an Idempotency-Key, on the version that If-Match names."""

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
# Of a stored answer; the rest is made anew.
_KEPT_HEADERS = ("Content-Type", "Location", "ETag")
_OK = range(200, 300)

View = TypeVar("View", bound=Callable[..., Response])

# For the OpenAPI document: openapi_extensions of a write.
PARAMETERS = [
    {
        "name": IDEMPOTENCY_KEY,
        "in": "header",
        "required": False,
        "description": "Any text of the caller's. The same request sent again with it within 24 hours is not done"
        " again, but has the same answer; another request with it is refused.",
        "schema": {"type": "string", "minLength": 1, "maxLength": _MAX_KEY, "pattern": "^[!-~]+$"},
    }
]

IF_MATCH = [
    {
        "name": "If-Match",
        "in": "header",
        "required": False,
        "description": "The ETag of the image as it was read: 412 where it has changed since.",
        "schema": {"type": "string"},
    }
]


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was given."""

    status: int
    headers: dict[str, str]
    body: bytes


def once(view: View) -> View:
    """Have a view write in one transaction, and answer a repeated Idempotency-Key as it did before.

    Only a success is kept: an error had no effect, and a retry may succeed. The view takes its connection from
    `writing`.
    """

    @wraps(view)
    def wrapped(**arguments: Any) -> Response:  # noqa: ANN401 — whatever the view takes
        key = request.headers.get(IDEMPOTENCY_KEY)
        if key is None:
            return view(**arguments)
        if not (0 < len(key) <= _MAX_KEY and key.isascii() and key.isprintable() and " " not in key):
            message = f"is not 1 to {_MAX_KEY} printable ASCII characters without spaces: {key[:80]!r}"
            raise InvalidRequestError(
                f"{IDEMPOTENCY_KEY}: {message}", [FieldError(field=IDEMPOTENCY_KEY, message=message)]
            )
        caller = "" if g.api_key is None else str(g.api_key.id)
        digest = _digest()
        with services().database.connection() as conn:
            with conn.transaction():
                known = _acquire(conn, caller, key, digest)
                response = _replayed(known) if known is not None else _done(conn, view, arguments)
                if known is None and response.status_code in _OK:
                    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
                    answer = StoredAnswer(response.status_code, headers, response.get_data())
                    _save(conn, caller, key, digest, answer)
            read_your_writes.note_position(conn)
        return response

    return wrapped  # type: ignore[return-value]  # the signature is the view's


@contextmanager
def writing() -> Iterator[Connection]:
    """Lend the connection of this request's write, in a transaction; what the block raises undoes what it wrote."""
    held: Connection | None = g.get("write_connection")
    if held is not None:
        with held.transaction():
            yield held
    else:
        with services().database.connection() as conn:
            with conn.transaction():
                yield conn
            read_your_writes.note_position(conn)


def _done(conn: Connection, view: Callable[..., Response], arguments: dict[str, Any]) -> Response:
    g.write_connection = conn
    try:
        return view(**arguments)
    finally:
        del g.write_connection


def _digest() -> bytes:
    """Return a hash of what this request asks for: method, path, query and body, whatever a form's boundary."""
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


def _replayed(known: StoredAnswer) -> Response:
    response = Response(known.body, status=known.status, headers=known.headers)
    response.headers["Idempotent-Replayed"] = "true"
    return response


def _acquire(conn: Connection, caller: str, key: str, request: bytes) -> StoredAnswer | None:
    """Return the answer that this request had, or hold the right to handle it until the transaction ends.

    A second request with the same key waits here for the first. `request` is a hash of what is asked for;
    InvalidInputError where the key came with another request before.
    """
    with translated():
        conn.execute(sql.query("hold_answer"), {"caller": caller, "key": key})
        with conn.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(sql.query("find_answer"), {"caller": caller, "key": key}).fetchone()
    if row is None:
        return None
    if bytes(row["request_sha256"]) != request:
        raise InvalidInputError(
            f"the Idempotency-Key {key!r} came with another request in the last 24 hours; a new request needs a new key"
        )
    return StoredAnswer(row["status"], row["headers"], bytes(row["body"]))


def _save(conn: Connection, caller: str, key: str, request: bytes, answer: StoredAnswer) -> None:
    """Keep the answer to a request acquired by `_acquire`."""
    values = {
        "caller": caller,
        "key": key,
        "request": request,
        "status": answer.status,
        "headers": Jsonb(answer.headers),
        "body": answer.body,
    }
    with translated():
        conn.execute(sql.query("store_answer"), values)
