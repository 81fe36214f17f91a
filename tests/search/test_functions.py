"""The Python functions over revision 0002's SQL: arguments arrive, rows come back as records."""

import dataclasses
import json
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from app import db
from app.errors import InvalidInputError, NotFoundError
from app.search import functions
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


def test_within(shelf: Shelf) -> None:
    found = functions.within(shelf.conn, shelf.vectors[0], max_distance=2, filter={"n": 0}, max_rows=5)
    assert len(found.neighbors) == 5
    assert not found.complete
    assert found.neighbors[0].image.caption == "picture 0"
    assert functions.within(shelf.conn, shelf.vectors[0], max_distance=0).complete
    assert functions.within(shelf.conn, shelf.vectors[0], max_distance=2, filter={"n": 9}).complete


def test_pages_through_json(shelf: Shelf) -> None:
    seen: list[int] = []
    after = None
    while True:
        page = functions.page(shelf.conn, shelf.vectors[3], k=7, after=after, exclude=shelf.ids[:2])
        seen += [one.image.id for one in page.neighbors]
        if page.next is None:
            break
        after = functions.Position(**json.loads(json.dumps(dataclasses.asdict(page.next))))
    assert sorted(seen) == shelf.ids[2:]


def test_examples(shelf: Shelf) -> None:
    found = functions.examples(
        shelf.conn, like=shelf.ids[:1], unlike=shelf.ids[5:6], unlike_embeddings=[shelf.vectors[6]], k=4
    )
    assert found[0].image.id == shelf.ids[1]
    assert len(found) == 4
    with pytest.raises(NotFoundError, match="no image 987654"):
        functions.examples(shelf.conn, like=[987654])
    with pytest.raises(InvalidInputError, match="no positive example"):
        functions.examples(shelf.conn, unlike=shelf.ids[:1])


def test_distinct_diverse_grouped(shelf: Shelf) -> None:
    query = shelf.vectors[0]
    assert shelf.ids[1] not in [one.image.id for one in functions.distinct(shelf.conn, query, k=5, threshold=0.01)]
    diverse = functions.diverse(shelf.conn, query, k=5, relevance=0.1)
    assert diverse[0].image.id == shelf.ids[0]
    assert [one.distance for one in diverse] != sorted(one.distance for one in diverse)
    groups = functions.grouped(shelf.conn, query, group_by="product", k=50)
    assert {one.group for one in groups} == {f"p{n}" for n in range(6)}
    assert all(one.neighbor.image.attributes["product"] == one.group for one in groups)


def test_text_and_fused(shelf: Shelf) -> None:
    (match,) = functions.text(shelf.conn, '"picture 7"')
    assert (match.image.caption, match.distance) == ("picture 7", None)
    found = functions.fused(shelf.conn, shelf.vectors[9], '"picture 9"', k=3, weights=(1, 1))
    assert found[0].image.caption == "picture 9"
    assert found[0].text_score is not None
    assert found[1].text_score is None
    with pytest.raises(InvalidInputError, match="weights are"):
        functions.fused(shelf.conn, shelf.vectors[9], "picture", weights=(-1, 1))


def test_near_duplicates(shelf: Shelf) -> None:
    found = functions.near_duplicates(shelf.conn, threshold=0.001)
    assert [(one.group_id, one.image_id) for one in found] == [(shelf.ids[0], one) for one in shelf.ids[:2]]
    assert np.allclose([one.distance for one in found], 0)
    assert functions.near_duplicates(shelf.conn, threshold=0.001, filter={"n": 3}) == []
