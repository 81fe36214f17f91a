"""Alembic's entry point: run revisions in the configured database or embedded server, or print their SQL (--sql)."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from app import db
from app.config import settings
from app.db import measurement_tables  # noqa: F401 — its tables join the metadata
from app.db.tables import metadata
from migrations import sources
from migrations.guard import LOCK_TIMEOUT, PATIENCE, Guard, exclusive_migration, retry_while_blocked

log = logging.getLogger(__name__)


def _include_name(name: str | None, kind: str, parents: object) -> bool:
    """Exclude objects that revisions do not own: other schemas, and the tables of embedding spaces and transforms."""
    if kind == "schema":
        return name == "lookalike"
    return not (kind == "table" and name is not None and name.startswith(("embeddings_", "candidates_")))


@contextmanager
def _url() -> Iterator[str]:
    given = context.config.attributes.get("url")
    if given:
        yield given
    else:
        with db.database(settings()) as url:
            yield url


def _connected(url: str) -> psycopg.Connection:
    # A caller observes the statements with a cursor class of its own (`migrate --plan`).
    cursor = context.config.attributes.get("cursor", psycopg.Cursor)
    connection = psycopg.connect(url, application_name="lookalike migrate", cursor_factory=cursor)
    connection.add_notice_handler(_warn)
    return connection


def _warn(notice: psycopg.errors.Diagnostic) -> None:
    """Log a revision's warnings: what it could not do, and what to run instead."""
    if notice.severity_nonlocalized == "WARNING":
        log.warning("%s. %s", notice.message_primary, notice.message_hint or "")


def _configure(**options: object) -> None:
    sources.describe(metadata)
    context.configure(
        target_metadata=metadata,
        version_table_schema="lookalike",
        include_schemas=True,
        include_name=_include_name,
        transaction_per_migration=True,
        on_version_apply=sources.record_revision,
        **options,  # type: ignore[arg-type]
    )


def _attempt(connection: Connection) -> None:
    try:
        with context.begin_transaction():
            context.run_migrations()
    except BaseException:
        connection.rollback()
        raise


def _run(connection: Connection, guard: Guard, patience: float) -> None:
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS lookalike"))
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    pid = connection.scalar(text("SELECT pg_backend_pid()"))
    connection.commit()
    _configure(connection=connection)
    with guard.watching(pid):
        retry_while_blocked(lambda: _attempt(connection), guard, patience=patience)


def _print() -> None:
    """Print the SQL without a database, for alembic's --sql."""
    _configure(dialect_name="postgresql", dialect_opts={"paramstyle": "named"})
    for statement in (f"SET lock_timeout = '{LOCK_TIMEOUT}'", "CREATE SCHEMA IF NOT EXISTS lookalike"):
        context.get_context().impl.static_output(f"{statement};")
    with context.begin_transaction():
        context.run_migrations()


def _migrate() -> None:
    patience = float(context.config.attributes.get("patience", PATIENCE))
    with _url() as url:
        with psycopg.connect(url, autocommit=True) as server:
            db.check_server(server)
        engine = create_engine("postgresql+psycopg://", creator=lambda: _connected(url), poolclass=pool.NullPool)
        with exclusive_migration(url, patience=patience) as guard, engine.connect() as connection:
            _run(connection, guard, patience)


if context.is_offline_mode():
    _print()
else:
    _migrate()
