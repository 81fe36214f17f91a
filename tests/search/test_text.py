"""Captions and attributes by full text, alone and fused with the distance."""

import json
import re

import numpy as np
import psycopg
import pytest

from app import db
from tests.support.gallery_data import distances, fill, half, make_space, unit

DIMENSIONS = 8
COUNT = 300
WORDS = ["red", "teapot", "cat", "Katze", "boat", "old", "naïve"]


@pytest.fixture(scope="module")
def session(new_database, template):
    with db.connect(new_database(template)) as conn:
        yield conn


@pytest.fixture
def conn(session):
    yield session
    session.rollback()


@pytest.fixture
def drawings(conn):
    """Ids, vectors, and the words of each image: some in the caption, some in attributes."""
    make_space(conn, DIMENSIONS)
    draw = np.random.default_rng(3)
    captions = [" ".join(draw.choice(WORDS, size=int(draw.integers(0, 4)))) or None for _ in range(COUNT)]
    attributes = [{"tags": [str(draw.choice(WORDS))], "deep": {"note": f"item{n}"}, "n": n % 5} for n in range(COUNT)]
    vectors = unit(COUNT, DIMENSIONS)
    ids = fill(conn, vectors, attributes, captions)
    words = [
        set(f"{caption or ''} {attribute['tags'][0]} item{n}".lower().split())
        for n, (caption, attribute) in enumerate(zip(captions, attributes, strict=True))
    ]
    return ids, vectors, words


def found(conn, words, k=10000, filter_=None):
    rows = conn.execute("SELECT id, score FROM lookalike.search_text(%s, %s, %s)", (words, k, filter_)).fetchall()
    assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))
    return {row[0] for row in rows}


@pytest.mark.parametrize(
    ("typed", "fits"),
    [
        ("teapot", lambda w: "teapot" in w),
        ("TEAPOT Red", lambda w: {"teapot", "red"} <= w),
        ("teapot or boat", lambda w: w & {"teapot", "boat"}),
        ("cat -red", lambda w: "cat" in w and "red" not in w),
        ("tea*", lambda w: "teapot" in w),
        ("red ite* -boat", lambda w: "red" in w and "boat" not in w),
        ("item7", lambda w: "item7" in w),
        ("naïve", lambda w: "naïve" in w),
        ("nothing", lambda w: False),
        ("'; drop table images; --", lambda w: False),
    ],
)
def test_words_are_found_in_captions_and_attributes(conn, drawings, typed, fits):
    ids, _, words = drawings
    assert found(conn, typed) == {int(ids[n]) for n in range(COUNT) if fits(words[n])}


TERMS = ("foo", "foo*", "foo_b*", '"foo b"', '"foo b*"', "bar", "ba*")
SAID = ["foo", "foobar", "foo bar", "foo_bar", "bar foo", "b foo", "foo b", "bar", "baz", "quux", "foo quux bar"]


def has(term: str, caption: str) -> bool:
    """Return whether the words of a term occur side by side, the last as a prefix if a star follows it."""
    said = re.findall(r"[a-z0-9]+", caption.lower())
    wanted = re.findall(r"[a-z0-9]+", term)
    runs = zip(*(said[at:] for at in range(len(wanted))), strict=False)
    return any(
        run[:-1] == tuple(wanted[:-1]) and (run[-1].startswith(wanted[-1]) if "*" in term else run[-1] == wanted[-1])
        for run in runs
    )


@pytest.mark.parametrize("first", TERMS)
@pytest.mark.parametrize("second", TERMS)
def test_words_prefixes_and_phrases_combine(conn, first, second):
    make_space(conn, DIMENSIONS)
    ids = fill(conn, unit(len(SAID), DIMENSIONS), captions=SAID)
    one, other = ([has(term, said) for said in SAID] for term in (first, second))
    for typed, fits in (
        (f"{first} {second}", [a and b for a, b in zip(one, other, strict=True)]),
        (f"{first} or {second}", [a or b for a, b in zip(one, other, strict=True)]),
        (f"{first} -{second}", [a and not b for a, b in zip(one, other, strict=True)]),
        (f"-{first} {second}", [b and not a for a, b in zip(one, other, strict=True)]),
    ):
        assert found(conn, typed) == {int(id_) for id_, fit in zip(ids, fits, strict=True) if fit}, typed


def test_text_takes_a_filter_and_keeps_to_k(conn, drawings):
    ids, _, words = drawings
    expected = {int(ids[n]) for n in range(COUNT) if "red" in words[n] and n % 5 == 2}
    assert found(conn, "red", filter_='{"n": 2}') == expected
    assert len(found(conn, "red", k=3)) == 3


def test_a_caption_counts_more_than_an_attribute(conn):
    make_space(conn, DIMENSIONS)
    ids = fill(conn, unit(2, DIMENSIONS), [{"tag": "cat"}, {"tag": "dog"}], ["dog", "cat"])
    rows = conn.execute("SELECT id FROM lookalike.search_text('cat')").fetchall()
    assert [row[0] for row in rows] == [ids[1], ids[0]]


def test_the_index_answers(conn, drawings):
    conn.execute("SET LOCAL enable_seqscan = off")
    plan = "\n".join(
        row[0]
        for row in conn.execute(
            "EXPLAIN SELECT id FROM lookalike.images i WHERE lookalike.image_document(i.caption, i.attributes) @@ 'cat'"
        ).fetchall()
    )
    assert "images_document" in plan


@pytest.mark.parametrize(
    "text",
    [
        "x" * 2_000_000,
        " ".join(f"w{n}" for n in range(300_000)),
        " ".join(chr(0x10000 + n % 5000) + chr(0x20000 + n // 7) for n in range(60_000)),
    ],
)
def test_no_text_is_too_long_to_insert(conn, text):
    make_space(conn, DIMENSIONS)
    fill(conn, unit(1, DIMENSIONS), [{"note": text, "list": [text[:1000]] * 50}], [text])
    assert conn.execute("SELECT length(lookalike.image_document(caption, attributes)) FROM lookalike.images").fetchone()


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.2, 3.0), (1.0, 0.0)])
@pytest.mark.parametrize("filter_", [None, {"n": 2}])
def test_fused_is_reciprocal_rank_fusion(conn, drawings, weights, filter_):
    ids, vectors, _ = drawings
    query, candidates = vectors[4], 40
    given = None if filter_ is None else json.dumps(filter_)
    rows = conn.execute(
        "SELECT id, score, distance, text_score FROM"
        " lookalike.search_fused(%s, 'red', 12, %s, %s, candidates => %s, recall => 1)",
        (half(query), given, list(weights), candidates),
    ).fetchall()
    true = distances(vectors, query)
    among = [n for n in range(COUNT) if filter_ is None or n % 5 == 2]
    near = sorted(among, key=lambda n: (round(true[n], 6), ids[n]))[:candidates]
    text = conn.execute("SELECT id, score FROM lookalike.search_text('red', %s, %s)", (candidates, given)).fetchall()
    score: dict[int, float] = {}
    for place, n in enumerate(near, 1):
        score[int(ids[n])] = weights[0] / (60 + place)
    for place, (one, _) in enumerate(text, 1):
        score[one] = score.get(one, 0) + weights[1] / (60 + place)
    expected = sorted(score, key=lambda one: (-round(score[one], 12), one))[:12]
    assert [row[0] for row in rows] == expected
    assert np.allclose([row[1] for row in rows], [score[one] for one in expected])
    scores = dict(text)
    for one, _, distance, text_score in rows:
        assert text_score == scores.get(one)
        n = int(np.flatnonzero(ids == one)[0])
        assert (distance is None) == (n not in near)
        assert distance is None or distance == pytest.approx(true[n], abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("search_text('')", 'no word to search for in ""'),
        ("search_text('* - \"')", "no word to search for"),
        ("search_text(NULL)", "no word to search for in NULL"),
        ("search_text('cat', 0)", "k is 0"),
        ("search_text('cat', 5, '[1]')", "filter"),
        ("search_fused(%(q)s, 'cat', weights => '{1}')", r"weights are \{1\}"),
        ("search_fused(%(q)s, 'cat', weights => '{1,-1}')", r"weights are \{1,-1\}"),
        ("search_fused(%(q)s, 'cat', weights => '{1,NaN}')", r"weights are \{1,NaN\}"),
        ("search_fused(%(q)s, 'cat', weights => NULL)", "weights are NULL"),
        ("search_fused(%(q)s, '', 5)", "no word to search for"),
        ("search_fused('[1]', 'cat', 5)", "1 dimensions"),
        ("search_fused(%(q)s, 'cat', 10, candidates => 9)", "candidates is 9, but must be 10 to 10000"),
    ],
)
def test_bad_values_are_refused_by_name(conn, call, message):
    make_space(conn, DIMENSIONS)
    fill(conn, unit(2, DIMENSIONS), captions=["a cat", "a dog"])
    values = {"q": half(unit(1, DIMENSIONS)[0])} if "%(q)s" in call else None
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(f"SELECT * FROM lookalike.{call}", values)
    assert caught.value.sqlstate == "22023"
    assert re.search(message, str(caught.value))
