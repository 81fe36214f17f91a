"""Alembic's entry: connects to the configured database (or the embedded server) and runs revisions."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from app import (
    db,
    lab_tables,  # noqa: F401 — its tables join the metadata
)
from app.config import settings
from app.tables import metadata

log = logging.getLogger(__name__)


def _include_name(name: str | None, kind: str, parents: object) -> bool:
    """Leave out what revisions do not own: other schemas, and the tables of embedding spaces and transforms."""
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
    connection = psycopg.connect(url)
    connection.add_notice_handler(_warn)
    return connection


def _warn(said: psycopg.errors.Diagnostic) -> None:
    """Pass on what a revision could not do, and what to run instead."""
    if said.severity_nonlocalized == "WARNING":
        log.warning("%s. %s", said.message_primary, said.message_hint or "")


def _run(connection: Connection) -> None:
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS lookalike"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema="lookalike",
        include_schemas=True,
        include_name=_include_name,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


with _url() as url:
    with psycopg.connect(url, autocommit=True) as server:
        db.check_server(server)
    engine = create_engine("postgresql+psycopg://", creator=lambda: _connected(url), poolclass=pool.NullPool)
    with engine.connect() as connection:
        _run(connection)
