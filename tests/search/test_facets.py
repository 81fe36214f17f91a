"""Facets and samples: names that filters take, right counts, odd values, a bound on what is read."""

from typing import Any

import numpy as np
import pytest

from app.errors import InvalidInputError
from app.search import facets
from tests.support import gallery_data

ODD: list[dict[str, Any]] = [
    {"color": "red", "price": 5, "tags": ["new", "sale"], "size": {"w": 3}, "sold": True},
    {"color": "blue", "price": 7.5, "tags": ["new"], "size": {"w": 4}},
    {"color": "red", "price": 10, "width": "wide", "a.b": "dot", "c\\d": "slash", "$cash": "x", "o'k\"": "<b>&'"},
    {"color": None, "price": "cheap", "tags": "no list", "size": [1, None, {"x": 1}], "long": "x" * 500},
    {"price": 1e300, "deep": {"er": {"still": 1}}, "color": {"of": "sky"}},
]


@pytest.fixture
def odd(conn):
    gallery_data.make_space(conn, 4)
    ids = gallery_data.fill(conn, gallery_data.unit(len(ODD), 4), ODD)
    # Numbers that no double holds, which Python's JSON would not write either.
    conn.execute('UPDATE lookalike.images SET attributes = attributes || \'{"huge": 1e400, "tiny": 1e-400}\'')
    return ids


def test_every_value_offered_filters_to_its_count(conn, odd):
    found = facets.facets(conn)
    assert (found.images, found.exact) == (len(ODD), True)
    offered = {(facet.name, facet.kind): facet for facet in found.facets}
    assert ("huge", "number") not in offered
    assert {"attributes.width", "a\\.b", "c\\\\d", "attributes.$cash", "o'k\"", "size.w"} <= {
        name for name, _ in offered
    }
    for facet in found.facets:
        assert sum(facet.histogram) in (0, facet.images)
        for value in facet.values:
            condition = {"$contains": value.value} if facet.kind == "element" else value.value
            passing = facets.sample(conn, filter={facet.name: condition}, limit=100)
            assert len(passing) == value.images, (facet.name, value)
        if facet.kind == "number":
            between = {facet.name: {"$gte": facet.minimum, "$lte": facet.maximum}}
            assert len(facets.sample(conn, filter=between)) == facet.images


def test_facets_of_what_passes_and_of_names(conn, odd):
    red = facets.facets(conn, filter={"color": "red"}, names=["price", "color"])
    assert red.images == 2
    assert [(one.name, one.images, one.minimum, one.maximum) for one in red.facets if one.kind == "number"] == [
        ("price", 2, 5, 10)
    ]
    assert {one.name for one in red.facets} == {"price", "color"}
    assert facets.facets(conn, filter={"color": "none"}).facets == []
    assert facets.facets(conn, filter={"like": "100%", "caption": {"$contains": "%s"}}).images == 0


def test_a_filter_is_a_filter(conn, odd):
    for read in (facets.facets, facets.sample):
        with pytest.raises(InvalidInputError, match=r"\$near"), conn.transaction():
            read(conn, filter={"price": {"$near": 1}})


def test_an_empty_gallery_has_nothing_to_show(conn):
    assert facets.facets(conn) == facets.Facets(0, True, [])
    assert facets.sample(conn) == []


def test_a_sample_is_searchable_mixed_and_stays(conn):
    gallery_data.make_space(conn, 4)
    ids = gallery_data.fill(conn, gallery_data.unit(200, 4)).tolist()
    conn.execute("INSERT INTO lookalike.images (uri) VALUES ('/not/embedded.png')")
    one, again, other = ([image.id for image in facets.sample(conn, limit=50, seed=seed)] for seed in (1, 1, 2))
    assert one == again
    assert len(set(one)) == 50
    assert set(one) <= set(ids)
    assert one != other
    assert len(facets.sample(conn, limit=500)) == 200


def test_of_a_large_gallery_a_part_is_read(conn, monkeypatch):
    gallery_data.make_space(conn, 4)
    gallery_data.fill(conn, gallery_data.unit(3000, 4), [{"n": n, "even": n % 2 == 0} for n in range(3000)])
    monkeypatch.setattr(facets, "SAMPLE", 600)
    found = facets.facets(conn)
    assert not found.exact
    assert 1500 < found.images < 6000
    assert np.isclose(sum(found.facets[0].histogram) or found.facets[0].images, found.images, rtol=0.05)
    # Rarer than the sample is fine: the latest that pass are shown.
    assert [image.attributes["n"] for image in facets.sample(conn, filter={"n": {"$in": [2990, 7]}})] == [2990, 7]
