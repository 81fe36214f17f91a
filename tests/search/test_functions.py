"""Search from Python: arguments arrive at the SQL functions, rows come back as records; each mode by its table."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from app import db
from app.errors import InvalidInputError, NotFoundError
from app.search import functions
from app.search.functions import call_search
from app.search.modes import MODES
from app.search.request import Request
from app.search.results import Hit
from app.search.run import run_search
from app.search.to_sql import statement
from tests.support.gallery_data import Vectors, fill, make_space, unit

COUNT = 60


@dataclasses.dataclass(frozen=True)
class Shelf:
    conn: db.Connection
    vectors: Vectors
    ids: list[int]


@pytest.fixture(scope="module")
def shelf(new_database: Callable[..., str], template: str) -> Iterator[Shelf]:
    with db.connect(new_database(template), autocommit=True) as conn:
        make_space(conn, 8)
        vectors = unit(COUNT, 8)
        vectors[1] = vectors[0]
        attributes = [{"n": n % 4, "product": f"p{n % 6}"} for n in range(COUNT)]
        ids = fill(conn, vectors, attributes, [f"picture {n}" for n in range(COUNT)])
        yield Shelf(conn, vectors, [int(one) for one in ids])


def within(shelf: Shelf, **options: object) -> list[dict[str, Any]]:
    return call_search(shelf.conn, "within", query=shelf.vectors[0], **options)


def test_within(shelf: Shelf) -> None:
    found = within(shelf, max_distance=2.0, filter={"n": 0}, max_rows=5)
    assert len(found) == 5
    assert not any(row["complete"] for row in found)
    assert found[0]["image"].caption == "picture 0"
    assert all(row["complete"] for row in within(shelf, max_distance=0.0))
    assert within(shelf, max_distance=2.0, filter={"n": 9}) == []


def test_pages_to_the_end(shelf: Shelf) -> None:
    seen: list[int] = []
    cursor: str | None = "start"
    while cursor is not None:
        asked = Request(query=shelf.vectors[3], k=7, exclude=shelf.ids[:2], mode="cursor", value=cursor)
        page = run_search(shelf.conn, asked)
        seen += [one.image.id for one in page.hits]
        cursor = page.next
    assert sorted(seen) == shelf.ids[2:]


def test_examples(shelf: Shelf) -> None:
    asked = Request(like=shelf.ids[:1], unlike=shelf.ids[5:6], unlike_embeddings=[shelf.vectors[6]], k=4)
    found = run_search(shelf.conn, asked).hits
    assert found[0].image.id == shelf.ids[1]
    assert len(found) == 4
    with pytest.raises(NotFoundError, match="no image 987654"):
        functions.example_query(shelf.conn, like=[987654])
    with pytest.raises(InvalidInputError, match="no positive example"):
        functions.example_query(shelf.conn, unlike=shelf.ids[:1])


def by(shelf: Shelf, mode: str, value: str | float, *, at: int = 0, k: int = 5) -> list[Hit]:
    return run_search(shelf.conn, Request(query=shelf.vectors[at], mode=mode, value=value, k=k)).hits


def test_distinct_diverse_grouped(shelf: Shelf) -> None:
    assert shelf.ids[1] not in [one.image.id for one in by(shelf, "distinct", 0.01)]
    diverse = by(shelf, "diverse", 0.1)
    assert diverse[0].image.id == shelf.ids[0]
    assert [one.distance for one in diverse] != sorted(one.distance or 0 for one in diverse)
    groups = by(shelf, "group_by", "product", k=50)
    assert {one.group for one in groups} == {f"p{n}" for n in range(6)}
    assert all(one.image.attributes["product"] == one.group for one in groups)


def test_text_and_fused(shelf: Shelf) -> None:
    (match,) = run_search(shelf.conn, Request(mode="text", value='"picture 7"')).hits
    assert (match.image.caption, match.distance, match.score) == ("picture 7", None, match.text_score)
    found = by(shelf, "text", '"picture 9"', at=9, k=3)
    assert found[0].image.caption == "picture 9"
    assert found[0].text_score is not None
    assert found[1].text_score is None
    with pytest.raises(InvalidInputError, match="weights are"):
        call_search(shelf.conn, "search_fused", query=shelf.vectors[9], words="picture", weights=[-1.0, 1.0])


def test_every_mode_calls_its_function_and_is_shown_as_sql(shelf: Shelf) -> None:
    values = {"text": "picture", "diverse": 0.5, "distinct": 0.3, "group_by": "product", "cursor": "start"}
    assert set(values) == set(MODES), "a new mode needs a value here"
    for name, mode in MODES.items():
        assert by(shelf, name, values[name])
        assert f"lookalike.{mode.function}(" in statement(Request(image_id=1, mode=name, value=values[name]))
        parameters = shelf.conn.execute(
            "SELECT proargnames FROM pg_proc WHERE proname = %s", (mode.function,)
        ).fetchone()
        assert parameters is not None
        assert set(mode.accepts) | ({mode.argument} - {None}) <= set(parameters[0])  # type: ignore[call-overload]


def test_near_duplicates(shelf: Shelf) -> None:
    found = functions.near_duplicates(shelf.conn, threshold=0.001)
    assert [(one.group_id, one.image_id) for one in found] == [(shelf.ids[0], one) for one in shelf.ids[:2]]
    assert np.allclose([one.distance for one in found], 0)
    assert functions.near_duplicates(shelf.conn, threshold=0.001, filter={"n": 3}) == []
