"""A worker's start: trouble that waiting would not mend ends it with one line, passing trouble is waited for."""

import subprocess
import sys

import pytest
from psycopg.conninfo import make_conninfo

from tests import running


@pytest.mark.parametrize(
    ("part", "said"), [("dbname", '"nowhere" does not exist'), ("user", '"nowhere" does not exist')]
)
def test_a_database_that_refuses_ends_the_start_with_one_line(server, part: str, said: str):
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
    assert said in ended.stderr
    assert "check user, password and database in LOOKALIKE_DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_server_that_is_away_is_waited_for():
    process = subprocess.Popen(
        [sys.executable, "-m", "workers"],
        env=running.environment("postgresql://127.0.0.1:1/none"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        tries = 0
        for line in process.stderr:  # ends, and the test fails, where the process does
            tries += "the database is not available, next try in" in line
            if tries == 2:
                break
        assert tries == 2
    finally:
        process.kill()
        process.communicate()
