"""The database roles: what each may and must not do, roles that cannot be created, and their removal."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors as pg
from psycopg import sql as pgsql
from psycopg.conninfo import make_conninfo

from app import db
from app.db import embedded, schema
from app.index import attributes
from tests.conftest import FAST

ROLES = ("lookalike_reader", "lookalike_writer", "lookalike_worker", "lookalike_api")


@pytest.fixture
def gallery(database_url: str) -> str:
    with db.connect(database_url) as conn:
        conn.execute("SELECT lookalike.create_space('tiny', 'none', 3, '{}', 'f')")
        conn.execute("INSERT INTO lookalike.images (uri) VALUES ('/a'), ('/b'), ('/c')")
        conn.execute("INSERT INTO lookalike.embeddings_1 VALUES (1, '[1,0,0]'), (2, '[0,1,0]')")
        conn.execute("DELETE FROM lookalike.jobs WHERE image_id < 3")
    with db.connect(database_url, autocommit=True) as conn:
        attributes.add(conn, "price", "numeric")
    return database_url


@pytest.fixture
def acting(gallery: str) -> Iterator[Callable[[str, str], list[tuple[object, ...]]]]:
    """Run a statement as a role, in a transaction of its own."""
    with psycopg.connect(gallery, autocommit=True) as conn:

        def run(role: str, statement: str) -> list[tuple[object, ...]]:
            with conn.transaction():
                conn.execute(pgsql.SQL("SET LOCAL ROLE {}").format(pgsql.Identifier(role)))
                cursor = conn.execute(statement)  # type: ignore[call-overload]
                return cursor.fetchall() if cursor.description else []

        yield run


Acting = Callable[[str, str], list[tuple[object, ...]]]

READS = (
    "SELECT id, embedding FROM lookalike.gallery",
    "SELECT * FROM lookalike.images",
    "SELECT * FROM lookalike.space_status",
    "SELECT * FROM lookalike.worker_status",
    "SELECT * FROM lookalike.failures",
    "SELECT * FROM lookalike.roles_check",
    "SELECT * FROM lookalike.search('[1,0,0]', 2)",
    """SELECT * FROM lookalike.search('[1,0,0]', 2, '{"price": {"$lt": 3}}')""",
    "SELECT * FROM lookalike.search('[1,0,0]', 2, recall => 1)",
    "SELECT * FROM lookalike.similar(1)",
    "SELECT * FROM lookalike.within('[1,0,0]', 2)",
    "SELECT * FROM lookalike.near_duplicates(0.1)",
    "SELECT * FROM lookalike.search_text('a')",
    "SELECT lookalike.explain_search('[1,0,0]')",
    "SELECT version_num FROM lookalike.alembic_version",
)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_reads_and_searches(acting: Acting, role: str) -> None:
    for statement in READS:
        acting(role, statement)


SECRETS = ("SELECT * FROM lookalike.api_keys", "SELECT * FROM lookalike.api_answers")
FORGERIES = (
    "INSERT INTO lookalike.embeddings_1 VALUES (3, '[0,0,1]')",
    "UPDATE lookalike.embeddings_1 SET embedding = '[0,0,1]'",
)
DEFINITIONS = (
    "UPDATE lookalike.embedding_spaces SET model = 'x'",
    "DELETE FROM lookalike.embedding_spaces",
    "CREATE OR REPLACE VIEW lookalike.active_embeddings AS SELECT 1 AS x",
    "DELETE FROM lookalike.space_switches",
    "SELECT lookalike.create_space('mine', 'none', 3, '{}', 'g')",
    "DROP TABLE lookalike.embeddings_1",
    "ALTER TABLE lookalike.images DISABLE TRIGGER ALL",
    "TRUNCATE lookalike.images CASCADE",
    "CREATE TABLE lookalike.mine ()",
    "CREATE FUNCTION lookalike.active_space() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "UPDATE lookalike.alembic_version SET version_num = '0001'",
    "INSERT INTO lookalike.api_keys (name, prefix, secret_sha256, scope) VALUES ('x', 'x', sha256('x'), 'admin')",
    "UPDATE lookalike.api_keys SET scope = 'admin'",
    "DELETE FROM lookalike.api_keys",
)
IMAGES = (
    "INSERT INTO lookalike.images (uri) VALUES ('/new')",
    "UPDATE lookalike.images SET caption = 'x'",
    "UPDATE lookalike.images SET uri = '/elsewhere' WHERE id = 1",
    "DELETE FROM lookalike.images",
)
QUEUE = (
    "DELETE FROM lookalike.jobs",
    "INSERT INTO lookalike.workers (name, version, device, space_ids) VALUES ('x', '1', 'cpu', '{1}')",
    "SELECT lookalike.ask_embedding(1::smallint, 'x'::bytea)",
    "SELECT * FROM lookalike.query_images",
)
MUST_NOT = {
    "lookalike_reader": (*SECRETS, *FORGERIES, *DEFINITIONS, *IMAGES, *QUEUE),
    "lookalike_writer": (*SECRETS, *FORGERIES, *DEFINITIONS, *QUEUE[1:]),
    "lookalike_worker": (*SECRETS, *DEFINITIONS, *IMAGES),
    "lookalike_api": (*FORGERIES, *DEFINITIONS, "UPDATE lookalike.api_keys SET expires_at = NULL", QUEUE[1]),
}


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_must_not_do(acting: Acting, role: str) -> None:
    for statement in MUST_NOT[role]:
        with pytest.raises(pg.InsufficientPrivilege):
            acting(role, statement)


@pytest.mark.parametrize("role", ["lookalike_writer", "lookalike_api"])
def test_a_writer_changes_images_and_the_triggers_do_their_work(acting: Acting, role: str) -> None:
    assert acting(role, "INSERT INTO lookalike.images (uri) VALUES ('/new') RETURNING id") == [(4,)]
    acting(role, "UPDATE lookalike.images SET uri = '/changed' WHERE id = 1")
    assert acting(role, "SELECT image_id FROM lookalike.jobs ORDER BY 1") == [(1,), (3,), (4,)]
    assert acting(role, "SELECT image_id FROM lookalike.embeddings_1") == [(2,)]
    acting(role, "DELETE FROM lookalike.images WHERE id = 2")
    assert acting(role, "SELECT count(*) FROM lookalike.gallery") == [(0,)]
    acting(role, "SELECT lookalike.retry_failures()")


def test_a_worker_claims_and_finishes_jobs(acting: Acting) -> None:
    role = "lookalike_worker"
    acting(role, "INSERT INTO lookalike.workers (name, version, device, space_ids) VALUES ('x', '1', 'cpu', '{1}')")
    acting(role, "UPDATE lookalike.jobs SET lease = gen_random_uuid()")
    acting(role, "INSERT INTO lookalike.embeddings_1 VALUES (3, '[0,0,1]')")
    acting(role, "UPDATE lookalike.images SET sha256 = sha256('x'), width = 1, height = 1 WHERE id = 3")
    acting(role, "DELETE FROM lookalike.jobs")
    acting(role, "SELECT lookalike.ask_embedding(1::smallint, 'x'::bytea)")
    acting(role, "SELECT lookalike.enqueue_missing(1::smallint)")


def test_the_api_samples_searches_that_only_workers_read(acting: Acting) -> None:
    assert acting("lookalike_api", "SELECT lookalike.sample_search('[1,0,0]', 1)") == [(True,)]
    for role in ("lookalike_api", "lookalike_writer", "lookalike_reader"):
        with pytest.raises(pg.InsufficientPrivilege):
            acting(role, "SELECT query FROM lookalike.search_samples")
        with pytest.raises(pg.InsufficientPrivilege):
            acting(role, "SELECT lookalike.set_search_depth(1::smallint, 2)")
        assert acting(role, "SELECT lookalike.samples_waiting()") == [(1,)]
    check = "SELECT lookalike.check_sample((SELECT min(s.id) FROM lookalike.search_samples s))"
    assert acting("lookalike_worker", check) == [(1.0,)]
    assert acting("lookalike_worker", "SELECT (lookalike.set_search_depth(1::smallint, 2)).to_depth") == [(2.0,)]
    acting("lookalike_worker", "SELECT lookalike.forget_recall(0)")
    counted = "SELECT searches FROM lookalike.recall_status WHERE plan IS NULL AND selectivity IS NULL AND active"
    assert acting("lookalike_reader", counted) == [(1,)] * 3


def test_a_space_created_later_gets_its_grants(gallery: str, acting: Acting) -> None:
    with db.connect(gallery) as conn:
        conn.execute("SELECT lookalike.create_space('second', 'none', 4, '{}', 'g')")
        conn.execute("SELECT lookalike.activate_space('second', force => true)")
    acting("lookalike_worker", "INSERT INTO lookalike.embeddings_2 VALUES (1, '[1,0,0,0]')")
    assert acting("lookalike_reader", "SELECT id FROM lookalike.search('[1,0,0,0]')") == [(1,)]
    acting("lookalike_writer", "UPDATE lookalike.images SET uri = '/other' WHERE id = 1")
    assert acting("lookalike_reader", "SELECT id FROM lookalike.gallery") == []


def test_no_function_runs_with_its_owners_rights(conn: db.Connection) -> None:
    found = conn.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'lookalike'::regnamespace AND prosecdef"
    ).fetchall()
    assert found == []


@pytest.fixture
def cluster() -> Iterator[embedded.EmbeddedServer]:
    """Run a server for this test, because all databases of a server share its roles."""
    home = Path(tempfile.mkdtemp(prefix="lookalike-roles-"))
    home.chmod(0o755)
    try:
        with embedded.running(home, settings=FAST) as started:
            yield started
    finally:
        shutil.rmtree(home, ignore_errors=True)


def roles(url: str) -> set[str]:
    with psycopg.connect(url) as conn:
        return {row[0] for row in conn.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'lookalike\\_%'")}


def test_roles_exist_from_the_first_database_to_the_last(
    cluster: embedded.EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(cluster.url, autocommit=True) as admin:
        for name in ("one", "two", "three"):
            admin.execute(pgsql.SQL("CREATE DATABASE {}").format(pgsql.Identifier(name)))
        # A role without CREATEROLE can migrate; doctor reports what is left to do.
        admin.execute("CREATE ROLE plain LOGIN")
        admin.execute("ALTER DATABASE three OWNER TO plain")
    one, two, three = (make_conninfo(cluster.url, dbname=name) for name in ("one", "two", "three"))
    with psycopg.connect(three, autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
    schema.upgrade(make_conninfo(three, user="plain"))
    assert roles(three) == set()
    monkeypatch.setenv("LOOKALIKE_DATABASE_URL", three)
    result = subprocess.run(
        [sys.executable, "-m", "app.cli", "doctor", "--only", "roles"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "CREATE ROLE lookalike_writer NOLOGIN; SELECT lookalike.grant_privileges()" in result.stdout

    schema.upgrade(one)
    schema.upgrade(two)
    assert roles(one) == set(ROLES)
    with psycopg.connect(one, autocommit=True) as admin:
        admin.execute("CREATE ROLE someone LOGIN IN ROLE lookalike_reader")
    with psycopg.connect(make_conninfo(three, user="plain"), autocommit=True) as owner:
        owner.execute("SELECT lookalike.grant_privileges()")
        assert owner.execute("SELECT bool_and(granted) FROM lookalike.roles_check").fetchone() == (True,)
    for url in (one, two):
        schema.downgrade(url, "0005")
        assert roles(url) == set(ROLES)  # other databases use them
    schema.downgrade(three, "0005")
    assert roles(one) == {"lookalike_reader"}  # it has a member
