"""Revisions: a fresh schema equals an upgraded one, the metadata and `sql/`, and a downgrade loses no rows unasked."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from psycopg import sql as pgsql

from app import db
from app.db import schema
from app.db.embedded import EmbeddedServer
from app.errors import SchemaError
from app.index import attributes
from migrations import freeze, sources

REVISIONS = sorted(script.revision for script in ScriptDirectory("migrations").walk_revisions())


def dump(server: EmbeddedServer, url: str) -> str:
    """Return the schema from pg_dump, without the random token in its \\restrict line."""
    out = subprocess.run(
        [server.bin_dir / "pg_dump", "--schema-only", url], check=True, capture_output=True, text=True
    ).stdout
    return "\n".join(line for line in out.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


@pytest.fixture
def empty_url(new_database: Callable[..., str]) -> str:
    """Yield the URL of an empty database that is not migrated."""
    return new_database()


@pytest.fixture
def fresh_dump(server: EmbeddedServer, database_url: str) -> str:
    return dump(server, database_url)


@pytest.mark.parametrize("revision", REVISIONS)
def test_upgraded_from_every_revision_equals_fresh(
    server: EmbeddedServer, empty_url: str, fresh_dump: str, revision: str
) -> None:
    schema.upgrade(empty_url, revision)
    schema.upgrade(empty_url)
    assert dump(server, empty_url) == fresh_dump


def test_down_and_up_again_one_revision_at_a_time_equals_fresh(
    server: EmbeddedServer, empty_url: str, fresh_dump: str
) -> None:
    at: dict[str, str] = {}
    for revision in REVISIONS:
        schema.upgrade(empty_url, revision)
        at[revision] = dump(server, empty_url)
    for revision in reversed(REVISIONS):
        assert dump(server, empty_url) == at[revision]
        schema.downgrade(empty_url)
    schema.upgrade(empty_url)
    assert dump(server, empty_url) == fresh_dump


def test_metadata_equals_database(database_url: str) -> None:
    command.check(schema.config(database_url))


def test_every_file_of_sql_is_loaded_by_the_revision_that_the_lock_names() -> None:
    lock = sources.locked()
    assert {path: {"sha256": entry["sha256"], "comment": entry["comment"]} for path, entry in lock.items()} == (
        sources.current()
    ), "sql/ changed: add a revision that loads the files, then run python -m migrations.freeze REVISION"
    modules = {
        module.revision: module
        for module in (
            importlib.import_module(f"migrations.versions.{path.stem}")
            for path in sources.FROZEN.parent.glob("versions/0*.py")
        )
    }
    for path, entry in lock.items():
        assert path in modules[entry["revision"]].SOURCES
        kept = sources.FROZEN / entry["revision"] / path
        assert not kept.exists(), f"{kept} would be loaded in place of sql/{path}"


@pytest.mark.parametrize(
    ("changed", "revision", "kept"), [("comment", "0009", False), ("comment", "9001", True), ("sha256", "9001", True)]
)
def test_a_changed_file_is_kept_for_the_revision_that_loaded_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: str, revision: str, kept: bool
) -> None:
    """A changed header too, but not in 0009: no revision before it stores headers."""
    path = "functions/search.sql"
    loaded_by = sources.locked()[path]["revision"]
    lock = tmp_path / "sql.lock"
    lock.write_text(sources.LOCK.read_text(encoding="utf-8"), encoding="utf-8")
    now = sources.current()
    now[path][changed] = "other"
    monkeypatch.setattr(freeze, "LOCK", lock)
    monkeypatch.setattr(freeze, "FROZEN", tmp_path)
    monkeypatch.setattr(freeze, "current", lambda: now)
    assert freeze.freeze(revision) == ([path] if kept else [])
    assert (tmp_path / loaded_by / path).exists() == kept
    entry = json.loads(lock.read_text(encoding="utf-8"))[path]
    assert entry == {"revision": revision if kept else loaded_by, **now[path]}


# The comment of each object and column in the catalog, by its name as COMMENT ON takes it. One table is Alembic's.
COMMENTS = """
SELECT 'ROUTINE lookalike.' || p.proname, obj_description(p.oid, 'pg_proc')
FROM pg_proc p WHERE p.pronamespace = 'lookalike'::regnamespace
UNION ALL
SELECT format('TRIGGER %s ON %s', t.tgname, t.tgrelid::regclass), obj_description(t.oid, 'pg_trigger')
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'lookalike'::regnamespace AND NOT t.tgisinternal
UNION ALL
SELECT CASE WHEN a.attname IS NOT NULL THEN format('COLUMN %s."%s"', c.oid::regclass, a.attname)
            ELSE CASE c.relkind WHEN 'v' THEN 'VIEW ' ELSE 'TABLE ' END || c.oid::regclass END,
       CASE WHEN a.attname IS NOT NULL THEN col_description(c.oid, a.attnum) ELSE obj_description(c.oid, 'pg_class') END
FROM pg_class c
LEFT JOIN LATERAL (
    SELECT a.attname, a.attnum FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT NULL, NULL) a ON true
WHERE c.relnamespace = 'lookalike'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname <> 'alembic_version'
"""


def test_comments_come_from_the_header_of_a_file() -> None:
    text = (
        "-- Return a thing.\n--\n-- Columns:\n--   id    the thing\n--   name  its name,\n--         wrapped\n--\n"
        "-- It's old.\n\n-- A note for developers.\nCREATE OR REPLACE ...\n"
    )
    assert sources.comments("views/thing.sql", text) == {
        "VIEW lookalike.thing": "Return a thing.\n\nIt's old.",
        'COLUMN lookalike.thing."id"': "the thing",
        'COLUMN lookalike.thing."name"': "its name, wrapped",
    }
    assert sources.comments("functions/thing.sql", text) == {"ROUTINE lookalike.thing": sources.header(text)}
    assert [
        path
        for path in sources.current()
        if not sources.header(sources.source_of(path)).partition("\n")[0].endswith(".")
    ] == [], "a header begins with a sentence on a line of its own"


def test_every_object_and_column_has_the_comment_of_its_file(conn: db.Connection) -> None:
    rows = conn.execute(COMMENTS).fetchall()
    assert [name for name, text in rows if not text] == []
    of_files: dict[str, str] = {}
    for path in sources.current():
        of_files |= sources.comments(path, sources.source_of(path))
    assert dict(rows) == of_files


def test_a_downgrade_that_would_lose_rows_is_refused_with_their_number(database_url: str, conn: db.Connection) -> None:
    conn.execute("INSERT INTO lookalike.images (uri) VALUES ('file:///a.jpg')")
    conn.commit()
    with pytest.raises(SchemaError, match=r"lose 1 images.*--lose-data"):
        schema.downgrade(database_url, "base")
    assert schema.current(conn) == REVISIONS[0]  # later revisions, which lose nothing, are downgraded
    conn.rollback()
    schema.downgrade(database_url, "base", lose_data=True)
    assert schema.current(conn) is None


def test_a_users_view_on_gallery_blocks_the_downgrade_and_stays(database_url: str, conn: db.Connection) -> None:
    conn.execute("CREATE VIEW public.mine AS SELECT id FROM lookalike.gallery")
    conn.commit()
    with pytest.raises(Exception, match=r"mine|depend"):
        schema.downgrade(database_url, "base")
    assert conn.execute("SELECT count(*) FROM public.mine").fetchone() == (0,)


def test_attribute_indexes_are_dropped_with_their_functions(database_url: str) -> None:
    with db.connect(database_url, autocommit=True) as conn:
        attributes.add(conn, "price", "numeric")
    schema.downgrade(database_url, "base")
    schema.upgrade(database_url)


def test_an_upgrade_keeps_a_users_view_on_gallery(empty_url: str) -> None:
    schema.upgrade(empty_url, REVISIONS[0])
    with psycopg.connect(empty_url, autocommit=True) as conn:
        conn.execute("CREATE VIEW public.mine AS SELECT id, uri FROM lookalike.gallery")
        schema.upgrade(empty_url)
        assert conn.execute("SELECT count(*) FROM public.mine").fetchone() == (0,)


@pytest.fixture
def altered(server: EmbeddedServer, empty_url: str) -> Iterator[Callable[[str, str], None]]:
    """Run a statement as superuser; {} stands for the empty database."""

    def run(statement: str, on: str = server.url) -> None:
        name = psycopg.conninfo.conninfo_to_dict(empty_url)["dbname"]
        with psycopg.connect(on, autocommit=True) as admin:
            admin.execute(pgsql.SQL(statement).format(pgsql.Identifier(str(name))))

    return run


def test_a_server_without_pgvector_is_refused_with_the_way_out(
    empty_url: str, altered: Callable[[str, str], None], server: EmbeddedServer
) -> None:
    altered("ALTER DATABASE {} SET extension_control_path = '/nonexistent'", server.url)
    with pytest.raises(SchemaError, match=r"no pgvector; install 0\.8\.4 or newer"):
        schema.upgrade(empty_url)


@pytest.mark.parametrize("version", ["0.7.4", "0.8.0", "0.8.3"])
def test_old_pgvector_is_refused_with_the_way_out(empty_url: str, version: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as conn:
        conn.execute("CREATE EXTENSION vector")
        conn.execute("UPDATE pg_extension SET extversion = %s WHERE extname = 'vector'", (version,))
        with pytest.raises(SchemaError, match=rf"pgvector {version} can corrupt HNSW.*ALTER EXTENSION vector UPDATE"):
            schema.upgrade(empty_url)
        assert conn.execute("SELECT to_regnamespace('lookalike')").fetchone() == (None,)


def test_pgvector_in_another_schema_works(empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA extensions")
        conn.execute("CREATE EXTENSION vector SCHEMA extensions")
    schema.upgrade(empty_url)
    with db.connect(empty_url) as conn:
        conn.execute("SELECT lookalike.create_space('s', 'm', 3, '{}', 'f')")
        conn.execute("INSERT INTO lookalike.images (uri) VALUES ('a'), ('b')")
        conn.execute(
            "INSERT INTO lookalike.embeddings_1 SELECT id, '[1,0,0]'::extensions.halfvec FROM lookalike.images"
        )
        rows = conn.execute("SELECT id FROM lookalike.search('[1,0,0]'::extensions.halfvec, 5)").fetchall()
        assert len(rows) == 2


def test_revision_behind_and_ahead_of_the_code_are_reported_in_one_line(conn: db.Connection, empty_url: str) -> None:
    schema.check(conn)
    conn.execute("UPDATE lookalike.alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match=r"at revision 9999, newer than this code") as ahead:
        schema.check(conn)
    assert "\n" not in str(ahead.value)
    with psycopg.connect(empty_url) as empty, pytest.raises(SchemaError, match="no Lookalike schema yet"):
        schema.check(empty)


def test_plain_alembic_upgrades_the_configured_database(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_DATABASE_URL", empty_url)
    subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], check=True, capture_output=True)
    with psycopg.connect(empty_url) as conn:
        assert schema.current(conn) == schema.head()
