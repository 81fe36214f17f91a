"""Answers to requests that came with an idempotency key, kept for 24 hours.

The caller owns the transaction: the effect of a request and its stored answer are committed together or not at all.
"""

from dataclasses import dataclass

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was given."""

    status: int
    headers: dict[str, str]
    body: bytes


def hold(conn: Connection, caller: str, key: str, request: bytes) -> StoredAnswer | None:
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


def store(conn: Connection, caller: str, key: str, request: bytes, answer: StoredAnswer) -> None:
    """Keep the answer to a request held by `hold`."""
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
