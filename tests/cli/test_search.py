"""`lookalike search` beyond nearest neighbours, on one small gallery: what it prints, and options that contradict."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest

from app import db
from tests.support.cli import Command, runner
from tests.support.gallery_data import fill, make_space

# Images 1 to 6 lie at these angles; 2 is nearly 1.
ANGLES = np.radians([0, 1, 30, 60, 90, 180])
CAPTIONS = ["red teapot", "red teapot again", "blue teapot", "cup", "red cup", "teapots"]


@pytest.fixture(scope="module")
def gallery_url(new_database: Callable[..., str], template: str) -> str:
    url = new_database(template)
    with db.connect(url) as conn:
        make_space(conn, 2)
        attributes = [{"product": f"p{n % 3}", "n": n} for n in range(1, 7)]
        vectors = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
        assert list(fill(conn, vectors.astype(np.float32), attributes, CAPTIONS)) == [1, 2, 3, 4, 5, 6]
    return url


@pytest.fixture
def lookalike(monkeypatch: pytest.MonkeyPatch, gallery_url: str) -> Command:
    return runner(monkeypatch, gallery_url)


def found(result: Any, column: int = 0) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [line.split()[column] for line in result.stdout.splitlines()[1:]]


def test_exclude(lookalike: Command) -> None:
    assert found(lookalike("search", 1, "--exclude", 2, "--exclude", 4)) == ["3", "5", "6"]
    assert found(lookalike("search", "--text", "red", "--exclude", 2)) == ["1", "5"]


def test_words_alone(lookalike: Command) -> None:
    result = lookalike("search", "--text", "red teapot")
    assert result.stdout.splitlines()[0].split() == ["id", "score", "text", "score", "caption", "uri"]
    assert sorted(found(result)) == ["1", "2"]
    answer = json.loads(lookalike("search", "--text", "teapot*", "--where", '{"n": {"$gt": 2}}', "--json").stdout)
    assert answer["space"] is None
    assert {one["image"]["id"] for one in answer["results"]} == {3, 6}
    assert {one["distance"] for one in answer["results"]} == {None}
    nothing = lookalike("search", "--text", "saucer")
    assert (nothing.exit_code, nothing.stderr) == (0, "nothing found\n")


def test_words_and_image(lookalike: Command) -> None:
    result = lookalike("search", 1, "--text", "cup", "-k", 3)
    assert result.stdout.splitlines()[0].split()[:5] == ["id", "score", "distance", "text", "score"]
    assert set(found(result)[:2]) == {"4", "5"}
    answer = json.loads(lookalike("search", 1, "--text", "cup", "--json").stdout)
    assert answer["space"] == "small"
    texts = {one["image"]["id"]: one["text_score"] for one in answer["results"]}
    assert texts[4] > 0
    assert texts[2] is None


def test_examples(lookalike: Command) -> None:
    assert found(lookalike("search", "--like", 3, "--like", 5, "-k", 1)) == ["4"]
    assert found(lookalike("search", 3, "--like", 5, "-k", 1)) == ["4"]
    assert "3" not in found(lookalike("search", "--like", 4, "--unlike", 3))
    plan = lookalike("search", "--like", 3, "--explain").stdout
    assert "strategy" in plan


def test_diverse_distinct_and_groups(lookalike: Command) -> None:
    assert found(lookalike("search", 3, "-k", 5, "--diverse", 1)) == found(lookalike("search", 3, "-k", 5))
    assert found(lookalike("search", 3, "-k", 2, "--diverse", 0.2)) == ["2", "6"]
    assert found(lookalike("search", 3, "--distinct", 0.1)) == ["2", "4", "5", "6"]
    grouped = lookalike("search", 1, "--group-by", "product")
    assert list(zip(found(grouped, 0), found(grouped, 1), strict=True)) == [("p2", "2"), ("p0", "3"), ("p1", "4")]
    answer = json.loads(lookalike("search", 1, "--group-by", "product", "--json").stdout)
    assert [one["group"] for one in answer["results"]] == ["p2", "p0", "p1"]


def test_a_radius_reports_completeness(lookalike: Command) -> None:
    complete = lookalike("search", 1, "--max-distance", 0.6)
    assert found(complete) == ["2", "3"]
    assert complete.stderr == "complete: these are all within 0.6\n"
    truncated = lookalike("search", 1, "--max-distance", 0.6, "-k", 1)
    assert found(truncated) == ["2"]
    assert truncated.stderr == "truncated: more images lie within 0.6; raise -k to see them\n"
    assert json.loads(lookalike("search", 1, "--max-distance", 0.6, "-k", 1, "--json").stdout)["complete"] is False
    assert json.loads(lookalike("search", 1, "--max-distance", 0.6, "--json").stdout)["complete"] is True


def test_pages(lookalike: Command) -> None:
    first = lookalike("search", 1, "-k", 2, "--after", "start")
    assert found(first) == ["2", "3"]
    hint, cursor = first.stderr.strip().rsplit(" ", 1)
    assert hint == "next page: --after"
    second = json.loads(lookalike("search", 1, "-k", 2, "--after", cursor, "--json").stdout)
    assert [one["image"]["id"] for one in second["results"]] == [4, 5]
    last = lookalike("search", 1, "-k", 2, "--after", second["next_cursor"])
    assert found(last) == ["6"]
    assert last.stderr == "that was the last page\n"
    assert json.loads(lookalike("search", 1, "--after", "start", "--json").stdout)["next_cursor"] is None
    for arguments, expected in (
        ((2, "--after", cursor), "another search"),
        ((1, "--after", "x"), "cursor 'x' is not valid"),
    ):
        result = lookalike("search", *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert expected in result.stderr


def test_the_sql_excludes_images(lookalike: Command, gallery_url: str) -> None:
    statement = lookalike("search", 1, "--exclude", 2, "--exclude", 4, "--sql").stdout
    with psycopg.connect(gallery_url) as conn:
        assert [row[0] for row in conn.execute(statement.encode())] == [3, 5, 6]


@pytest.mark.parametrize(
    "arguments", ["1 --like 2", "1 --group-by product", "--text red", "1 --diverse 0.5 --recall 1"]
)
def test_every_kind_of_search_prints_sql(lookalike: Command, gallery_url: str, arguments: str) -> None:
    statement = lookalike("search", *arguments.split(), "--sql").stdout
    found = json.loads(lookalike("search", *arguments.split(), "--json").stdout)["results"]
    with db.connect(gallery_url) as conn:
        rows = conn.execute(statement.encode()).fetchall()
    assert [row[0] for row in rows] == [one["image"]["id"] for one in found]


@pytest.mark.parametrize(
    ("arguments", "both"),
    [
        ("1 --text a --diverse 0.5", ("--text", "--diverse")),
        ("1 --diverse 0.5 --distinct 0.5", ("--diverse", "--distinct")),
        ("1 --distinct 0.5 --group-by a", ("--distinct", "--group-by")),
        ("1 --group-by a --after start", ("--group-by", "--after")),
        ("--text a --max-distance 1", ("--text", "--max-distance")),
        ("--text a --recall 1", ("--text", "--recall")),
        ("--unlike 1", ("--unlike", "IMAGE|ID, --like")),
        ("", ("nothing to search for", "IMAGE|ID, --like, --text")),
        ("--diverse 0.5", ("nothing to search for", "--like")),
        ("1 --text a --explain", ("--explain", "--text")),
        ("1 --sql --json", ("--sql", "--json")),
        ("1 --diverse 2", ("--diverse", "1")),
        ("1 --exclude x", ("--exclude", "x")),
        (f"1 --exclude {2**70}", ("--exclude", str(2**70))),
    ],
)
def test_contradictions_are_wrong_usage(lookalike: Command, arguments: str, both: tuple[str, str]) -> None:
    result = lookalike("search", *arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr
    shown = " ".join(result.stderr.replace("│", " ").split())
    assert all(name in shown for name in both), shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--like", "99"], "there is no image 99"),
        (["--like", "none.jpg"], "none.jpg is not an image file"),
        (["1", "--unlike", "."], ". is not an image file (Is a directory)"),
        (["1", "--diverse", "1", "-k", "1001"], "k is 1001, but must be 1 to 1000"),
        (["--text", "-- ,"], "there is no word to search for"),
        (["--text", "caf\udce9"], "--text is not UTF-8"),
        (["1", "--group-by", ""], "attribute"),
        (["1", "--recall", "2"], "recall is 2"),
        ([""], "not the id of an image"),
    ],
)
def test_mistakes(lookalike: Command, arguments: list[str], expected: str) -> None:
    result = lookalike("search", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert expected in result.stderr


def test_duplicates_up_to_a_limit(lookalike: Command) -> None:
    assert found(lookalike("duplicates", "--threshold", 0.1), 1) == ["1", "2"]
    answer = json.loads(lookalike("duplicates", "--threshold", 0.1, "--json").stdout)
    assert (answer["total"], [one["image"]["id"] for one in answer["groups"][0]["images"]]) == (1, [1, 2])
    two = ("duplicates", "--threshold", 0.53, "--where", '{"n": {"$in": [1, 2, 4, 5]}}')
    assert found(lookalike(*two)) == ["1", "1", "4", "4"]
    one = lookalike(*two, "--limit", 1)
    assert (found(one), one.stderr) == (["1", "1"], "1 of 2 groups; raise --limit to see more\n")
