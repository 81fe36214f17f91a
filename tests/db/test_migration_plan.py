"""The migrations' linter and the plan of a migration: both find statements that block others."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from psycopg.conninfo import make_conninfo

from app import db
from app.db import migration_plan, schema
from app.errors import ConfigurationError
from migrations import lint
from tests.support import clients, revisions
from tests.support.cli import runner


@pytest.fixture
def url(database_url: str) -> str:
    clients.fill(database_url)
    return database_url


def test_the_linter_finds_blocking_statements_and_broken_old_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = "op.execute('CREATE INDEX extra ON lookalike.images (width)')\nop.execute('DROP VIEW lookalike.gallery')"
    config = revisions.config("", revisions.write(tmp_path, bad, serves="0007"))
    assert lint.lint(config) == 1
    output = capsys.readouterr().out
    assert "require-concurrent-index-creation" in output
    assert "ban-drop-view" in output


def test_the_plan_lists_the_locks_that_the_server_takes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.downgrade(url, "0003", lose_data=True)
    with db.connect(url, autocommit=True) as conn:
        conn.execute("ANALYZE lookalike.images")
        before = conn.execute("SELECT count(*) FROM pg_database").fetchone()
        plan = migration_plan.make(url)
        assert conn.execute("SELECT count(*) FROM pg_database").fetchone() == before
        assert schema.current(conn) == "0003"
    assert [step.revision for step in plan.steps] == list(schema.revisions()[3:])
    fourth = plan.steps[0]
    assert fourth.locks["lookalike.space_status"] == "AccessExclusiveLock"  # dropped and created again
    assert "lookalike.images" not in fourth.locks
    assert any("CREATE TABLE lookalike.latencies" in one.sql for one in fourth.statements)
    assert plan.sizes["lookalike.images"][0] == clients.ROWS
    output = runner(monkeypatch, url)("migrate", "--plan").stdout
    assert "-- Locks lookalike.space_status: ACCESS EXCLUSIVE, blocks searches and writes" in output
    assert "CREATE TABLE lookalike.space_switches" in output
    assert len(re.findall(r"^-- Works with code of .*; takes about \d+\.\d s here\.$", output, re.M)) == len(plan.steps)


def test_the_estimate_grows_with_the_bytes_read_and_rewritten(url: str) -> None:
    """The estimate uses this server's measured speed."""
    schema.downgrade(url, "0003", lose_data=True)
    plan = migration_plan.make(url)
    assert 0 < plan.rates.read < float("inf")
    assert 0 < plan.rates.write < float("inf")
    step = migration_plan.Step("x", "", "x", seconds=1.0)
    step.statements.append(migration_plan.Statement("", {}, ["lookalike.images"], []))
    step.statements.append(migration_plan.Statement("", {}, [], ["lookalike.images"]))
    large = replace(plan, sizes={"lookalike.images": (10, 6_000)}, rates=migration_plan.Rates(read=2_000, write=1_000))
    assert large.seconds(step) == pytest.approx(1 + 3 + 6)


def test_at_the_newest_revision_there_is_nothing_to_plan(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runner(monkeypatch, url)("migrate", "--plan").stdout == f"-- {schema.head()}: nothing to do\n"


def test_a_role_without_createdb_gets_an_error_with_the_way_out(url: str) -> None:
    schema.downgrade(url)
    with db.connect(url, autocommit=True) as conn:
        conn.execute("CREATE ROLE planner LOGIN IN ROLE pg_read_all_data")
        try:
            with pytest.raises(ConfigurationError, match=r"role planner may not create one: .* CREATEDB, .* --sql"):
                migration_plan.make(make_conninfo(url, user="planner"))
        finally:
            conn.execute("DROP ROLE planner")


def test_the_plan_lists_tables_read_and_rewritten(url: str, tmp_path: Path) -> None:
    up = """
    op.execute("ALTER TABLE lookalike.images ADD CONSTRAINT wide CHECK (width > 0) NOT VALID")
    op.execute("ALTER TABLE lookalike.images VALIDATE CONSTRAINT wide")
    op.execute("ALTER TABLE lookalike.space_switches ALTER COLUMN missing TYPE numeric")
    with concurrently():
        build_index("images_width", "ON lookalike.images (width)")
    """
    statements: list[migration_plan.Statement] = []
    folder = revisions.write(tmp_path, up, serves="0007")
    command.upgrade(revisions.config(url, folder, cursor=migration_plan.recording(url, statements)), "head")
    images, switches = "lookalike.images", "lookalike.space_switches"
    assert [(one.locks, one.reads, one.rewrites) for one in statements if "TABLE" in one.sql or "INDEX" in one.sql] == [
        ({images: "AccessExclusiveLock"}, [], []),
        ({}, [images], []),
        ({switches: "AccessExclusiveLock"}, [switches], [switches]),
        ({images: "ShareUpdateExclusiveLock"}, [images], []),
    ]
