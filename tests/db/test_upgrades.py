"""Schema upgrades while serving: short waits, one migration at a time, and code N on schema N+1."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from alembic import command
from flask.testing import FlaskClient

from app import db
from app.config import Settings
from app.db import schema
from app.errors import ConflictError
from app.web import create_app
from app.web.services import EXTENSION
from migrations import guard
from tests.support import clients, revisions, running
from tests.support.cli import runner
from tests.support.clients import busy

pytestmark = pytest.mark.long


@pytest.fixture
def url(database_url: str) -> str:
    clients.fill(database_url)
    return database_url


def test_no_revision_blocks_searches_or_writes_for_long(url: str) -> None:
    schema.downgrade(url, "0002", lose_data=True)
    with busy(url, clients.plain_search) as at_work:
        for revision in schema.revisions()[2:]:
            schema.upgrade(url, revision)
            at_work.go_on()
        schema.downgrade(url)
        schema.upgrade(url)


def test_two_migrations_take_turns(new_database: Callable[..., str]) -> None:
    url = new_database()
    line = [sys.executable, "-m", "alembic", "upgrade", "head"]
    both = [subprocess.Popen(line, env=running.environment(url), cwd=running.ROOT) for _ in range(2)]
    assert [one.wait(120) for one in both] == [0, 0]
    with psycopg.connect(url) as conn:
        assert schema.current(conn) == schema.head()


def test_a_migration_waits_for_another_one_and_names_it(url: str) -> None:
    with (
        guard.exclusive_migration(url, patience=0),
        pytest.raises(ConflictError, match=r"another migration .*\(pid \d+ of"),
    ):
        schema.downgrade(url, patience=0.3)


LOCKING = "op.execute('ALTER TABLE lookalike.images ADD COLUMN extra text')"


def test_a_revision_runs_between_long_transactions(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It needs an exclusive lock while another session reads images in an open transaction."""
    caplog.set_level(logging.INFO, logger="migrations.guard")
    config = revisions.config(url, revisions.write(tmp_path, LOCKING, serves="0007"), patience=30)
    with busy(url), db.connect(url, application="report") as report:
        report.execute("SELECT count(*) FROM lookalike.images")
        end = threading.Timer(1.5, report.rollback)
        end.start()
        command.upgrade(config, "head")
        end.join()
        row = report.execute("SELECT serves FROM lookalike.schema_revisions WHERE revision = '9001'").fetchone()
        assert row == ("0007",)
    assert any("rolled back, next try in" in one.message and "report (pid" in one.message for one in caplog.records)


def test_a_blocked_revision_is_given_up_and_names_the_blocker(url: str, tmp_path: Path) -> None:
    config = revisions.config(url, revisions.write(tmp_path, LOCKING, serves="0007"), patience=0.5)
    with db.connect(url, application="report") as report:
        report.execute("SELECT count(*) FROM lookalike.images")
        with pytest.raises(ConflictError, match=r"rolled back: waited for report \(pid \d+, idle in transaction"):
            command.upgrade(config, "head")
    with db.connect(url) as conn:
        assert schema.check(conn) == schema.head()


def test_a_revision_that_blocks_others_is_cancelled(url: str, tmp_path: Path) -> None:
    """It locks a table and then works for long, as a rewrite of a large table does."""
    slow = LOCKING + "\nop.execute('SELECT pg_sleep(20)')"
    config = revisions.config(url, revisions.write(tmp_path, slow, serves="0007"), patience=1)
    with busy(url), pytest.raises(ConflictError, match="it kept searches or writes waiting"):
        command.upgrade(config, "head")


def test_an_index_left_invalid_is_built_again(url: str, tmp_path: Path) -> None:
    up = """
    with concurrently():
        build_index("images_width", "ON lookalike.images (width)")
    """
    config = revisions.config(url, revisions.write(tmp_path, up, serves="0007"))
    with db.connect(url, autocommit=True) as conn:
        conn.execute(
            "CREATE INDEX images_width ON lookalike.images (uri)"
        )  # a different index, so that its replacement shows
        conn.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'lookalike.images_width'::regclass")
        with busy(url):
            command.upgrade(config, "head")
        row = conn.execute(
            "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indexrelid = 'lookalike.images_width'::regclass"
        ).fetchone()
    assert row is not None
    assert row[0] is True
    assert "(width)" in str(row[1])


# Release N on the schema of N+1


@pytest.fixture
def api(url: str, tmp_path: Path) -> Iterator[FlaskClient]:
    app = create_app(Settings(home=tmp_path / "home"), url)
    yield app.test_client()
    app.extensions[EXTENSION].database.close()


BETTER = """
op.execute("ALTER TABLE lookalike.images ADD COLUMN extra text")
op.execute("CREATE OR REPLACE FUNCTION lookalike.search_ef(k int, recall float8) RETURNS int "
           "LANGUAGE sql IMMUTABLE AS $$ SELECT 300 $$")
"""


def test_release_n_serves_during_the_migration_to_its_successor_and_after_it(
    url: str, api: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = revisions.config(url, revisions.write(tmp_path, BETTER, serves=schema.head()))
    answers: list[int] = []

    def ask(_: db.Connection, round_: int) -> None:
        answers.append(api.application.test_client().get(f"/v1/images/{round_ % 300 + 1}/similar").status_code)

    with busy(url) as at_work:
        at_work.loop("api", ask)
        at_work.go_on()
        command.upgrade(config, "head")
        at_work.go_on()
        assert api.get("/v1/status").json["revision"] == "9001"
        assert api.get("/readyz").json["revision"] == "9001"
    assert set(answers) == {200}
    lookalike = runner(monkeypatch, url)
    assert lookalike("search", "1", "-k", "2").exit_code == 0
    assert lookalike("status").exit_code == 0
    assert f"9001, newer than this code ({schema.head()}), and compatible with it" in lookalike("doctor").stdout
    assert "and compatible with it\n" in lookalike("migrate", "--check").stdout
    assert lookalike("migrate").stdout == "9001, nothing to do\n"
    assert "newer than this code" in lookalike("migrate", "--to", "0006").stderr


def test_every_entry_point_refuses_a_successor_that_does_not_serve_it(
    url: str, api: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.upgrade(revisions.config(url, revisions.write(tmp_path, BETTER, serves="9001")), "head")
    line = f"the database is at revision 9001, newer than this code ({schema.head()}); upgrade Lookalike"
    lookalike = runner(monkeypatch, url)
    for words in (["status"], ["search", "1"], ["migrate"], ["migrate", "--check"], ["migrate", "--plan"], ["serve"]):
        result = lookalike(*words)
        assert (result.exit_code, result.stderr) == (1, f"error: {line}\n"), words
    assert "WRONG  schema:      " + line.split(";")[0] in lookalike("doctor").stdout
    ready = api.get("/readyz")
    assert (ready.status_code, ready.json["error"]["message"]) == (503, line)
    worker = subprocess.run(
        [sys.executable, "-m", "workers"], env=running.environment(url), capture_output=True, text=True, check=False
    )
    assert worker.returncode == 1
    assert line in worker.stderr.splitlines()[-1]


def test_a_worker_of_release_n_works_on_the_schema_of_its_successor(
    new_database: Callable[..., str], gallery_template: str, tmp_path: Path
) -> None:
    url = new_database(gallery_template)
    config = revisions.config(url, revisions.write(tmp_path, BETTER, serves=schema.head()))
    with running.live_worker(url), db.connect(url, autocommit=True) as conn:
        command.upgrade(config, "head")
        conn.execute("UPDATE lookalike.images SET uri = replace(uri, 'gallery/', 'gallery/./') WHERE id <= 3")
        deadline = time.monotonic() + 60
        while conn.execute("SELECT count(*) FROM lookalike.jobs").fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert conn.execute("SELECT count(*) FROM lookalike.failures").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM lookalike.space_gaps").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM lookalike.worker_status WHERE alive").fetchone() == (1,)


def test_every_revision_since_0005_records_the_code_it_serves(database_url: str) -> None:
    with db.connect(database_url) as conn:
        rows = conn.execute("SELECT revision, serves FROM lookalike.schema_revisions ORDER BY 1").fetchall()
    assert [row[0] for row in rows] == list(schema.revisions()[4:])
    assert all(str(serves) in schema.revisions() and str(serves) <= str(revision) for revision, serves in rows)
