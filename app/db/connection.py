"""Open connections and translate database errors. Connecting runs no DDL."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, LiteralString, TypeVar

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors as pg
from psycopg import sql as pgsql
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool
from pydantic_core import from_json

from app.config import Settings
from app.db import embedded
from app.errors import (
    ConfigurationError,
    ConflictError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    InvalidInputError,
    LookalikeError,
    NotFoundError,
    NoWorkerError,
    QueryCanceledError,
    QueryTimeoutError,
    SchemaError,
    SpaceChangedError,
)

Connection = psycopg.Connection[tuple[object, ...]]
Row = TypeVar("Row")

MIN_SERVER = 160000
MIN_PGVECTOR = (0, 8, 4)

# Parts of the server's messages when it rejects a login. They are English: in another language a rejection counts as
# transient.
_LOGIN_REJECTIONS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "permission denied for database",
    '" does not exist',
)

_CONSTRAINTS: dict[str, tuple[type[LookalikeError], str]] = {
    "images_uri_key": (ConflictError, "an image with this uri already exists"),
    "images_uri_check": (InvalidInputError, "an image needs a uri that is not empty"),
    "images_sha256_check": (InvalidInputError, "a sha256 must have 32 bytes"),
    "images_attributes_check": (InvalidInputError, "attributes must be a JSON object"),
    "api_keys_name_key": (ConflictError, "a key of this name is in use; revoke it first, or choose another name"),
    "embedding_spaces_name_key": (ConflictError, "an embedding space of this name already exists"),
    "embedding_spaces_one_active": (ConflictError, "another session is switching the active embedding space"),
}


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Yield the URL of the database. If `database_url` is unset, run the embedded server within the block."""
    if settings.database_url:
        yield settings.database_url
    else:
        with embedded.running(settings.home) as server:
            yield server.url


def connect(url: str, *, autocommit: bool = False, application: str = "lookalike") -> Connection:
    """Open a connection that supports pgvector's types.

    Raises:
        DatabaseUnavailableError: the server is unreachable.
        DatabaseRefusedError: the server rejected the user, password or database.
        SchemaError: the database has no pgvector.
    """
    with translated():
        try:
            connection = psycopg.connect(
                url, autocommit=True, application_name=application, fallback_application_name=application
            )
        except psycopg.OperationalError as error:
            # A failed connection attempt has no SQLSTATE.
            rejected = any(words in str(error) for words in _LOGIN_REJECTIONS)
            if rejected or getattr(error.pgconn, "needs_password", False):
                raise DatabaseRefusedError(
                    f"{str(error).strip()}; check user, password and database in LOOKALIKE_DATABASE_URL"
                ) from error
            raise
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        connection.autocommit = autocommit
    return connection


def open_pool(url: str, *, size: int, application: str) -> "ConnectionPool[Connection]":
    """Open a pool of up to `size` autocommit connections, which reconnects by itself. Return before any connects."""
    return ConnectionPool(
        url,
        min_size=0,
        max_size=size,
        open=True,
        check=_check,
        configure=_prepare,
        kwargs={"autocommit": True, "application_name": application},
        timeout=5,
        # The pool would pause longer after each attempt. Because it gives up early, the next request connects at once.
        reconnect_timeout=1,
        name=application,
    )


def _check(connection: Connection) -> None:
    """Raise OperationalError if the server has closed the connection, without a round trip.

    Read twice, because a server that shuts down sends its reason before it closes the connection.
    """
    for _ in range(2):
        connection.pgconn.consume_input()


def _prepare(connection: Connection) -> None:
    """Register pgvector's types, and add their schema to the search path if it is missing there."""
    try:
        connection.execute(
            "SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''),"
            " quote_ident(n.nspname)), false)"
            " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
            " WHERE e.extname = 'vector' AND NOT n.nspname = ANY (current_schemas(true))"
        )
        register_vector(connection)
        # Twice as fast as the standard library's parser, with equal results for every jsonb value.
        set_json_loads(from_json, connection)
    except psycopg.ProgrammingError as error:
        raise SchemaError('the database has no pgvector types; run "lookalike migrate" first') from error


@cache
def _call(function: LiteralString, count: int) -> pgsql.Composed:
    placeholders = pgsql.SQL(", ").join([pgsql.Placeholder()] * count)
    return pgsql.SQL("SELECT * FROM {}({})").format(pgsql.Identifier("lookalike", function), placeholders)


def call(
    target: Connection | psycopg.Cursor[Row], function: LiteralString, /, *arguments: object
) -> psycopg.Cursor[Any]:
    """Call a function of schema lookalike with positional arguments; return the cursor on its rows.

    `target` is a connection, or a cursor with a row factory of its own. The caller owns the transaction.
    """
    return target.execute(_call(function, len(arguments)), arguments)


@contextmanager
def translated() -> Iterator[None]:
    """Raise database errors within the block as a LookalikeError with the same message and a way out."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


def translate(error: psycopg.Error) -> LookalikeError:
    """Return the LookalikeError for a database error, chosen by constraint, then by SQLSTATE."""
    diagnostics = error.diag
    texts = (diagnostics.message_primary, diagnostics.message_hint)
    message = ". ".join(part.rstrip(".") for part in texts if part) or str(error).strip()
    if isinstance(error, pg.ProgramLimitExceeded) and diagnostics.constraint_name == "images_uri_key":
        return InvalidInputError(f"a uri has at most some 2,700 bytes, as many as an index takes: {message}")
    known = _CONSTRAINTS.get(diagnostics.constraint_name or "")
    if known and isinstance(error, psycopg.IntegrityError):
        detail = f" ({diagnostics.message_detail})" if diagnostics.message_detail else ""
        return known[0](known[1] + detail)
    ours = _OWN_STATES.get(diagnostics.sqlstate or "")
    if ours:
        return ours(message)
    if isinstance(error, _OTHER_SCHEMA):
        return SchemaError(f'{message}; "lookalike doctor" says whether this code and the database fit')
    for kinds, result in _BY_STATE:
        if isinstance(error, kinds):
            return result(message)
    return LookalikeError(f"the database refused: {message}")


# SQLSTATEs that the functions of schema lookalike raise.
_OWN_STATES: dict[str, type[LookalikeError]] = {
    "LK001": NoWorkerError,
    "LK002": QueryTimeoutError,
    "LK003": SpaceChangedError,
    "LK004": ConflictError,
}

_OTHER_SCHEMA = (pg.UndefinedTable, pg.UndefinedFunction, pg.UndefinedColumn, pg.InvalidSchemaName)

_BY_STATE: list[tuple[tuple[type[psycopg.Error], ...], type[LookalikeError]]] = [
    ((pg.NoDataFound,), NotFoundError),
    ((pg.ObjectNotInPrerequisiteState,), SchemaError),
    ((pg.InvalidPassword, pg.InvalidAuthorizationSpecification, pg.InsufficientPrivilege), ConfigurationError),
    ((pg.UniqueViolation, pg.ForeignKeyViolation), ConflictError),
    ((pg.DataError, pg.IntegrityError, pg.ProgramLimitExceeded, pg.StatementTooComplex), InvalidInputError),
    ((pg.QueryCanceled,), QueryCanceledError),
    ((psycopg.OperationalError, psycopg.InterfaceError), DatabaseUnavailableError),
]


def check_server(connection: Connection) -> None:
    """Check that server and pgvector are recent enough to be safe.

    Raises:
        SchemaError: one is too old or missing; the message says what to install.
    """
    if connection.info.server_version < MIN_SERVER:
        raise SchemaError(
            f"PostgreSQL {connection.info.server_version // 10000} is too old; Lookalike needs 16 or newer"
        )
    row = connection.execute(
        "SELECT installed_version, default_version FROM pg_available_extensions WHERE name = 'vector'"
    ).fetchone()
    wanted = ".".join(map(str, MIN_PGVECTOR))
    if row is None:
        raise SchemaError(
            f"this PostgreSQL server has no pgvector; install {wanted} or newer there (Debian: postgresql-"
            f"{connection.info.server_version // 10000}-pgvector), then migrate again"
        )
    installed, available = (None if value is None else str(value) for value in row)
    if installed is not None and _version(installed) < MIN_PGVECTOR:
        remedy = (
            'run "ALTER EXTENSION vector UPDATE" and REINDEX its HNSW indexes'
            if available is not None and _version(available) >= MIN_PGVECTOR
            else f"install pgvector {wanted} or newer on the server, then ALTER EXTENSION vector UPDATE"
        )
        raise SchemaError(f"pgvector {installed} can corrupt HNSW indexes; {remedy}")
    if installed is None and available is not None and _version(available) < MIN_PGVECTOR:
        raise SchemaError(
            f"the server offers pgvector {available}; install {wanted} or newer there, then migrate again"
        )


def _version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
