"""A worker's start: it ends with one line if waiting cannot mend the error, else it waits."""

import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.support import running

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("part", "expected"), [("dbname", '"nowhere" does not exist'), ("user", '"nowhere" does not exist')]
)
def test_a_database_that_refuses_ends_the_start_with_one_line(server, part: str, expected: str):
    url = make_conninfo(server.url, **{part: "nowhere"})
    ended = subprocess.run(
        [sys.executable, "-m", "workers"],
        env=running.environment(url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    assert expected in ended.stderr
    assert "check user, password and database in LOOKALIKE_DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def guarded(server, database_url) -> Iterator[str]:
    """Return a URL with a wrong password, for a user of whom the server demands one."""
    role = sql.Identifier("guarded")
    rules = server.data_dir / "pg_hba.conf"
    before = rules.read_text()
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("SET password_encryption = 'scram-sha-256'")
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'the right one'").format(role))
        try:
            rules.write_text(f"local all guarded scram-sha-256\n{before}")
            admin.execute("SELECT pg_reload_conf()")
            url = make_conninfo(database_url, user="guarded", password="the wrong one")
            end = time.monotonic() + 20
            while True:
                try:
                    psycopg.connect(url).close()
                except psycopg.OperationalError:
                    break
                assert time.monotonic() < end, "the server never asked for a password"
            yield url
        finally:
            rules.write_text(before)
            admin.execute("SELECT pg_reload_conf()")
            admin.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_wrong_password_ends_the_start_with_one_line(guarded: str):
    ended = subprocess.run(
        [sys.executable, "-m", "workers"],
        env=running.environment(guarded),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "password authentication failed" in line
    assert "check user, password and database in LOOKALIKE_DATABASE_URL" in line
    assert "the wrong one" not in line


def test_the_start_waits_for_an_unreachable_server():
    process = subprocess.Popen(
        [sys.executable, "-m", "workers"],
        env=running.environment("postgresql://127.0.0.1:1/none"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        tries = 0
        for line in process.stderr:  # ends, and the test fails, if the process ends
            tries += "the database is not available, next try in" in line
            if tries == 2:
                break
        assert tries == 2
    finally:
        process.kill()
        process.communicate()
