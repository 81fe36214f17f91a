"""Radius, pages, examples, distinct and diverse results, groups, near-duplicates: against brute force in numpy."""

import json
import re

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import db
from app.db import schema
from tests.support.gallery_data import as_stored, distances, fill, half, index, make_space, unit

DIMENSIONS = 8
COUNT = 600


class Gallery:
    """A filled database, with what is in it."""

    def __init__(self, conn, *, indexed=False, count=COUNT, seed=0):
        self.conn = conn
        self.vectors = unit(count, DIMENSIONS, seed=seed)
        # The last twenty are the first twenty again: equal distances, which ids must tell apart.
        self.vectors[-20:] = self.vectors[:20]
        self.attributes = [{"n": n % 10, **({"product": f"p{n % 37}"} if n % 3 else {})} for n in range(count)]
        make_space(conn, DIMENSIONS)
        self.ids = fill(conn, self.vectors, self.attributes)
        self.position = {int(one): n for n, one in enumerate(self.ids)}
        if indexed:
            index(conn)

    def rows(self, call, *values):
        return self.conn.execute(f"SELECT * FROM lookalike.{call}", values).fetchall()

    def is_nearest(self, ids, found_distances, query, among=None, count=None):
        """Whether these are the nearest of the rows at `among`, each with its own distance."""
        true = distances(self.vectors, query)
        among = np.arange(len(true)) if among is None else np.asarray(among, dtype=int)
        places = [self.position[one] for one in ids]
        assert len(set(places)) == len(places)
        assert set(places) <= set(among.tolist())
        assert np.allclose(true[places], found_distances, atol=1e-5)
        assert list(found_distances) == sorted(found_distances)
        expected = np.sort(true[among])[: len(ids) if count is None else count]
        assert np.allclose(found_distances, expected, atol=1e-5)


@pytest.fixture(scope="module")
def session(new_database, template):
    """One database for the tests here, each of which undoes what it did."""
    with db.connect(new_database(template)) as conn:
        yield conn


@pytest.fixture
def conn(session):
    yield session
    session.rollback()


@pytest.fixture
def gallery(conn):
    return Gallery(conn)


def refused(conn, statement, values=()):
    """The message with which the database refuses the statement as a bad value."""
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(statement, values)
    conn.rollback()
    assert caught.value.sqlstate in ("22023", "22004")
    return str(caught.value)


# Radius


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("radius", [0.0, 0.5, 0.9, 2.0])
def test_within_returns_every_row_of_the_radius_and_says_so(gallery, radius, filtered):
    query = gallery.vectors[3]
    among = [n for n in range(COUNT) if not filtered or gallery.attributes[n]["n"] == 3]
    rows = gallery.rows("within(%s, %s, %s)", half(query), radius, json.dumps({"n": 3}) if filtered else None)
    expected = [n for n in among if distances(gallery.vectors, query)[n] <= radius + 1e-6]
    gallery.is_nearest([row[0] for row in rows], [row[1] for row in rows], query, among, len(expected))
    assert all(row[2] for row in rows)


@pytest.mark.parametrize(("most", "complete"), [(COUNT - 1, False), (COUNT, True), (1, False)])
def test_within_says_when_the_row_cap_cut_it_off(gallery, most, complete):
    rows = gallery.rows("within(%s, 2, max_rows => %s)", half(gallery.vectors[0]), most)
    assert len(rows) == most
    assert {row[2] for row in rows} == {complete}
    gallery.is_nearest([row[0] for row in rows], [row[1] for row in rows], gallery.vectors[0])


def test_within_scales_the_query_and_leaves_out_ids(gallery):
    rows = gallery.rows("within(%s, 2, exclude => %s)", half(gallery.vectors[5] * 4), gallery.ids[:50].tolist())
    gallery.is_nearest([row[0] for row in rows], [row[1] for row in rows], gallery.vectors[5], range(50, COUNT), 550)


# Pages


@pytest.mark.parametrize("page", [1, 7, 100])
@pytest.mark.parametrize("filter_", [None, {"n": {"$lt": 4}}])
def test_pages_hold_every_row_once_and_in_order(gallery, page, filter_):
    query = gallery.vectors[1]
    among = [n for n in range(COUNT) if filter_ is None or gallery.attributes[n]["n"] < 4]
    among = among if page > 1 else among[:0] or among
    found, after = [], (None, None)
    while rows := gallery.rows(
        "search_page(%s, %s, %s, %s, %s)", half(query), page, filter_ and json.dumps(filter_), *after
    ):
        found += rows
        # The position as it would come back from a client: as text.
        after = (float(json.loads(json.dumps(rows[-1][1]))), rows[-1][0])
        if page == 1 and len(found) == 60:
            break
    assert len(found) == (60 if page == 1 else len(among))
    gallery.is_nearest([row[0] for row in found], [row[1] for row in found], query, among)
    assert found == sorted(found, key=lambda row: (row[1], row[0]))


def test_pages_of_equal_distances_go_by_id(conn):
    make_space(conn, 4)
    ids = fill(conn, np.tile(np.array([[1, 0, 0, 0]], np.float32), (30, 1)))
    found, after = [], (None, None)
    while rows := conn.execute(
        "SELECT * FROM lookalike.search_page(%s, 4, NULL, %s, %s)", (half([0, 1, 0, 0]), *after)
    ).fetchall():
        found += [row[0] for row in rows]
        after = (rows[-1][1], rows[-1][0])
    assert found == ids.tolist()


def test_a_position_keeps_through_text_of_postgresql(gallery):
    query = half(gallery.vectors[2])
    whole = [row[0] for row in gallery.rows("search_page(%s, 100)", query)]
    for size in (1, 33, 50):
        text = gallery.rows("search_page(%s, %s)", query, size)[-1]
        distance = gallery.conn.execute("SELECT (%s::float8)::text", (text[1],)).fetchone()[0]
        rows = gallery.rows("search_page(%s, %s, NULL, %s::text::float8, %s)", query, 50, distance, text[0])
        assert [row[0] for row in rows] == whole[size : size + 50]


# Examples


def rocchio(like, unlike, weight):
    query = np.mean(like, axis=0) - (weight * np.mean(unlike, axis=0) if len(unlike) else 0)
    return as_stored(query / np.linalg.norm(query))


@pytest.mark.parametrize("unlike", [[], [5, 6]])
@pytest.mark.parametrize("weight", [0.2, 0.8])
def test_examples_search_from_their_mean_and_are_left_out(gallery, unlike, weight):
    like = [0, 3, 9]
    extra = unit(2, DIMENSIONS, seed=9)
    rows = gallery.rows(
        "search_examples(like => %s, unlike => %s, like_embeddings => %s, k => 15, unlike_weight => %s)",
        gallery.ids[like].tolist(),
        gallery.ids[unlike].tolist(),
        [half(extra[0] * 3), half(extra[1])],
        weight,
    )
    query = rocchio(np.vstack([gallery.vectors[like], extra]), gallery.vectors[unlike], weight)
    true = distances(gallery.vectors, query)
    among = [n for n in range(COUNT) if n not in {*like, *unlike}]
    assert np.allclose([row[1] for row in rows], np.sort(true[among])[:15], atol=3e-3)  # halfvec rounds the mean
    assert not {row[0] for row in rows} & set(gallery.ids[like + unlike].tolist())


def test_an_unknown_example_is_named(gallery):
    with pytest.raises(psycopg.errors.NoDataFound, match="no image 99999"):
        gallery.rows("search_examples(like => %s)", [int(gallery.ids[0]), 99999])


# Distinct


@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.0])
def test_distinct_drops_what_is_near_a_better_result(gallery, threshold):
    query = gallery.vectors[0]
    rows = gallery.rows("search_distinct(%s, 12, threshold => %s, recall => 1)", half(query), threshold)
    true = distances(gallery.vectors, query)
    kept: list[int] = []
    for n in np.lexsort((np.arange(COUNT), np.round(true, 6))):
        if len(kept) < 12 and all(distances(gallery.vectors[[k]], gallery.vectors[n])[0] > threshold for k in kept):
            kept.append(int(n))
    assert [row[0] for row in rows] == gallery.ids[kept].tolist()


def test_distinct_fetches_until_there_are_k(conn):
    make_space(conn, 4)
    near = np.tile(np.array([[1, 0, 0, 0]], np.float32), (500, 1))
    ids = fill(conn, np.vstack([near, unit(20, 4, seed=1)]))
    rows = conn.execute(
        "SELECT id FROM lookalike.search_distinct(%s, 5, threshold => 0.05)", (half(near[0]),)
    ).fetchall()
    assert len(rows) == 5
    assert [row[0] for row in rows if row[0] <= ids[499]] == [ids[0]]


# Diversity


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
def test_diverse_is_maximal_marginal_relevance(gallery, weight):
    query, k, candidates = gallery.vectors[7], 8, 60
    rows = gallery.rows("search_diverse(%s, %s, %s, %s, recall => 1)", half(query), k, weight, candidates)
    true = distances(gallery.vectors, query)
    left = np.lexsort((np.arange(COUNT), np.round(true, 6)))[:candidates].tolist()
    likeness = 1 - np.array([distances(gallery.vectors, one) for one in gallery.vectors]) ** 2 / 2
    taken: list[int] = []
    while len(taken) < k:
        scores = [
            weight * (1 - true[n] ** 2 / 2) - (1 - weight) * (max(likeness[n, taken]) if taken else 0) for n in left
        ]
        taken.append(left.pop(int(np.argmax(np.round(scores, 9)))))
    assert [row[0] for row in rows] == list(range(1, k + 1))
    assert [row[1] for row in rows] == gallery.ids[taken].tolist()


def test_diverse_of_fewer_rows_than_k_returns_them_all(gallery):
    filter_ = json.dumps({"id": {"$in": gallery.ids[:3].tolist()}})
    rows = gallery.rows("search_diverse(%s, 10, filter => %s)", half(gallery.vectors[0]), filter_)
    assert {row[1] for row in rows} == set(gallery.ids[:3].tolist())


# Groups


@pytest.mark.parametrize("k", [1, 5, 36, 37, 100])
def test_grouped_gives_the_best_hit_of_each_of_the_nearest_groups(gallery, k):
    query = gallery.vectors[11]
    rows = gallery.rows("search_grouped(%s, 'product', %s, recall => 1)", half(query), k)
    best: dict[str, float] = {}
    for n, distance in enumerate(distances(gallery.vectors, query)):
        name = gallery.attributes[n].get("product")
        if name is not None:
            best[name] = min(best.get(name, 9), distance)
    expected = sorted(best.items(), key=lambda item: round(item[1], 6))[:k]
    assert [row[0] for row in rows] == [name for name, _ in expected]
    assert np.allclose([row[2] for row in rows], [distance for _, distance in expected], atol=1e-5)
    assert len({row[1] for row in rows}) == len(rows) == min(k, 37)


def test_grouped_looks_beyond_the_ten_thousand_nearest(conn):
    make_space(conn, 2)
    angles = np.linspace(0, 1, 10_100)
    vectors = as_stored(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    ids = fill(conn, vectors, [{"size": {"w": 1 if n < 10_050 else 2}} for n in range(10_100)])
    rows = conn.execute(
        "SELECT group_value, id FROM lookalike.search_grouped(%s, 'size.w', 3)", (half([1, 0]),)
    ).fetchall()
    assert [row[0] for row in rows] == ["1", "2"]
    assert rows[1][1] >= ids[10_050]


# Near-duplicates


def components(vectors, threshold, same_bytes=()):
    """Groups by brute force: {position: smallest position of its group}, for those with a duplicate."""
    near = np.array([distances(vectors, one) for one in vectors]) <= threshold
    for left, right in same_bytes:
        near[left, right] = near[right, left] = True
    group = {}
    for start in range(len(vectors)):
        if start in group or near[start].sum() == 1:
            continue
        seen, waiting = {start}, [start]
        while waiting:
            more = set(np.flatnonzero(near[waiting.pop()]).tolist()) - seen
            seen |= more
            waiting += more
        group.update(dict.fromkeys(seen, start))
    return group


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.4])
def test_near_duplicates_are_the_connected_components(conn, indexed, threshold):
    gallery = Gallery(conn, indexed=indexed)
    conn.execute(
        "UPDATE lookalike.images SET sha256 = sha256('twice') WHERE id = ANY (%s)", (gallery.ids[[40, 50]].tolist(),)
    )
    rows = gallery.rows("near_duplicates(%s)", threshold)
    expected = components(gallery.vectors, threshold + 1e-6, [(40, 50)])
    assert {(gallery.position[row[1]], gallery.position[row[0]]) for row in rows} == set(expected.items())
    true = np.array([distances(gallery.vectors, one) for one in gallery.vectors])
    true[[40, 50], [50, 40]] = 0
    np.fill_diagonal(true, 9)
    for _, image, distance in rows:
        assert distance == pytest.approx(true[gallery.position[image]].min(), abs=1e-5)


@pytest.mark.parametrize("indexed", [False, True])
def test_near_duplicates_of_a_filter_stay_in_it(conn, indexed):
    gallery = Gallery(conn, indexed=indexed)
    keep = [n for n in range(COUNT) if gallery.attributes[n]["n"] < 3]
    rows = gallery.rows("near_duplicates(0.45, %s)", '{"n": {"$lt": 3}}')
    expected = {(keep[n], keep[root]) for n, root in components(gallery.vectors[keep], 0.45).items()}
    assert {(gallery.position[row[1]], gallery.position[row[0]]) for row in rows} == expected


def test_no_duplicates_is_no_row(conn):
    make_space(conn, 4)
    assert conn.execute("SELECT * FROM lookalike.near_duplicates()").fetchall() == []


# All of them, on tables that change


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), k=st.integers(1, 40), below=st.integers(0, 11), radius=st.floats(0, 2))
def test_any_table_filter_and_k_agree_with_brute_force(conn, seed, k, below, radius):
    conn.rollback()  # the example before
    gallery = Gallery(conn, count=150, indexed=seed % 2 == 0, seed=seed)
    gone = gallery.ids[seed % 7 :: 7].tolist()
    conn.execute("DELETE FROM lookalike.images WHERE id = ANY (%s)", (gone,))
    among = [n for n in range(150) if gallery.attributes[n]["n"] < below and int(gallery.ids[n]) not in gone]
    query = unit(1, DIMENSIONS, seed=seed + 1)[0]
    filter_ = json.dumps({"n": {"$lt": below}})
    first = gallery.rows("search_page(%s, %s, %s)", half(query), k, filter_)
    gallery.is_nearest([row[0] for row in first], [row[1] for row in first], query, among, min(k, len(among)))
    near = gallery.rows("within(%s, %s, %s)", half(query), radius, filter_)
    inside = np.sort(distances(gallery.vectors, query)[among])
    assert abs(len(near) - np.searchsorted(inside, radius)) <= np.sum(np.abs(inside - radius) < 1e-5)
    groups = gallery.rows("search_grouped(%s, 'product', %s, %s)", half(query), k, filter_)
    names = {gallery.attributes[n].get("product") for n in among} - {None}
    assert len(groups) == min(k, len(names))
    distinct = gallery.rows("search_distinct(%s, %s, %s, threshold => 0.0)", half(query), k, filter_)
    assert len(distinct) == min(k, len({gallery.vectors[n].tobytes() for n in among}))


# Bad values


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("within(%(q)s, -1)", "max_distance is -1"),
        ("within(%(q)s, NULL)", "max_distance is NULL"),
        ("within(%(q)s, 'NaN')", "max_distance is NaN"),
        ("within(%(q)s, 1, max_rows => 0)", "max_rows is 0, but must be 1 to 1000000"),
        ("within('[1,2]', 1)", "the query has 2 dimensions, but embedding space small has 8"),
        ("within('[0,0,0,0,0,0,0,0]', 1)", "zero vector"),
        ("within(NULL, 1)", "the query embedding is NULL"),
        ('within(%(q)s, 1, \'{"a": {"$gr": 1}}\')', r"\$gr"),
        ("search_page(%(q)s, 0)", "k is 0"),
        ("search_page(%(q)s, 10, NULL, 0.5)", "after_distance is 0.5 and after_id is NULL"),
        ("search_page(%(q)s, 10, NULL, NULL, 5)", "after_distance is NULL and after_id is 5"),
        ("search_page(%(q)s, 10, NULL, 'NaN', 5)", "after_distance is NaN"),
        ("search_page(%(q)s, 10, max_distance => -2)", "max_distance is -2"),
        ("search_examples()", "no positive example"),
        ("search_examples(unlike => '{1}')", "no positive example"),
        ("search_examples(like => '{1}', unlike => '{1}', unlike_weight => 1)", "the examples cancel out"),
        ("search_examples(like => '{1}', unlike_weight => -1)", "unlike_weight is -1"),
        ("search_examples(like_embeddings => ARRAY['[1]'::halfvec])", "1 dimensions"),
        ("search_distinct(%(q)s, threshold => 3)", "threshold is 3, but must be 0 to 2"),
        ("search_diverse(%(q)s, lambda => 1.5)", "lambda is 1.5, but must be 0 to 1"),
        ("search_diverse(%(q)s, 10, candidates => 5)", "candidates is 5, but must be 10 to 10000"),
        ("search_grouped(%(q)s, NULL)", "group_by is NULL"),
        ("search_grouped(%(q)s, 'a..b')", r"a\.\.b"),
        ("search_grouped(%(q)s, 'a', 0)", "k is 0"),
        ("near_duplicates(-0.1)", "threshold is -0.1"),
    ],
)
def test_bad_values_are_refused_by_name(conn, call, message):
    make_space(conn, DIMENSIONS)
    fill(conn, unit(2, DIMENSIONS))
    one = conn.execute("SELECT min(id) FROM lookalike.images").fetchone()[0]
    call = call.replace("'{1}'", f"'{{{one}}}'")
    values = {"q": half(unit(1, DIMENSIONS)[0])} if "%(q)s" in call else None
    said = refused(conn, f"SELECT * FROM lookalike.{call}", values)
    assert re.search(message, said)


@pytest.mark.parametrize(
    "call", ["within('[1]', 1)", "search_page('[1]')", "near_duplicates()", "search_distinct('[1]')"]
)
def test_without_an_active_space_the_way_out_is_named(conn, call):
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="no embedding space is active"):
        conn.execute(f"SELECT * FROM lookalike.{call}")


def test_pgvector_in_another_schema_works(new_database):
    url = new_database()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA extensions")
        conn.execute("CREATE EXTENSION vector SCHEMA extensions")
    schema.upgrade(url)
    with psycopg.connect(url) as plain:  # a client that knows of no such schema
        plain.execute("SELECT lookalike.create_space('s', 'm', 2, '{}', 'f')")
        plain.execute("INSERT INTO lookalike.images (uri, caption) VALUES ('a', 'cat'), ('b', 'dog'), ('c', 'cat')")
        plain.execute("INSERT INTO lookalike.embeddings_1 SELECT id, '[1,0]' FROM lookalike.images")
        for call, count in {
            "within(lookalike.embedding_of(1), 1)": 3,
            "search_page(lookalike.embedding_of(1), 2)": 2,
            "search_examples(like => '{1}', unlike_weight => 0)": 2,
            "search_distinct(lookalike.embedding_of(1))": 1,
            "search_diverse(lookalike.embedding_of(1), 2)": 2,
            "search_grouped(lookalike.embedding_of(1), 'x')": 0,
            "search_text('cat')": 2,
            "search_fused(lookalike.embedding_of(1), 'cat')": 3,
            "near_duplicates()": 3,
            "settings_check": 4,
        }.items():
            assert len(plain.execute(f"SELECT * FROM lookalike.{call}").fetchall()) == count, call
        plain.commit()
        plain.autocommit = True
        with pytest.raises(psycopg.Error) as caught:
            plain.execute("CALL lookalike.embed_image('abc')")
        assert caught.value.sqlstate == "LK001"
