"""search, similar, embedding_of and explain_search by example: arguments, errors, plans, settings, a changed space."""

import json
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from app import db

SPREAD = 40


@pytest.fixture
def angles(conn: db.Connection) -> db.Connection:
    """Forty images on a half circle, id n at n · 4.5°; 41 is not embedded; even ids are `even`."""
    conn.execute("SELECT lookalike.create_space('flat', 'test', 2, '{}', 'test')")
    conn.execute(
        """
        INSERT INTO lookalike.images (uri, attributes)
        SELECT 'angle:' || n, jsonb_build_object('even', n % 2 = 0, 'n', n) FROM generate_series(1, 41) AS n
        """
    )
    conn.execute(
        """
        INSERT INTO lookalike.embeddings_1
        SELECT n, ARRAY[cos(radians(n * 4.5)), sin(radians(n * 4.5))]::real[]::halfvec FROM generate_series(1, 40) AS n
        """
    )
    conn.execute("CREATE INDEX ON lookalike.embeddings_1 USING hnsw (embedding halfvec_l2_ops)")
    conn.commit()
    return conn


def ids(conn: db.Connection, call: str, *values: object) -> list[object]:
    return [row[0] for row in conn.execute(f"SELECT id FROM lookalike.{call}", values)]


def plan(conn: db.Connection, arguments: str) -> dict[str, Any]:
    row = conn.execute(f"SELECT lookalike.explain_search({arguments})").fetchone()
    assert row
    assert isinstance(row[0], dict)
    return row[0]


def test_nearest_first(angles: db.Connection) -> None:
    assert ids(angles, "search('[1, 0]', 3)") == [1, 2, 3]
    assert ids(angles, "search('[1, 0]')") == list(range(1, 11))


def test_a_query_of_any_length_is_scaled(angles: db.Connection) -> None:
    near, far = (
        angles.execute("SELECT * FROM lookalike.search(%s, 4)", (query,)).fetchall() for query in ("[1,1]", "[90,90]")
    )
    assert near == far


def test_similar_leaves_the_image_itself_out(angles: db.Connection) -> None:
    assert ids(angles, "similar(1, 3)") == [2, 3, 4]
    assert ids(angles, "similar(1, 3, exclude => '{2,4}')") == [3, 5, 6]


def test_filter_exclusion_and_radius_together(angles: db.Connection) -> None:
    found = ids(angles, """search('[1, 0]', 9, '{"even": true}', 0.55, '{4}')""")
    assert found == [2, 6]  # 8 lies at 36°, a distance of 0.618
    assert ids(angles, "search('[1, 0]', 9, max_distance => 0)") == []


@pytest.mark.parametrize("many", [1001, 10_000])
def test_more_than_ef_search_can_be_asked_for(angles: db.Connection, many: int) -> None:
    assert ids(angles, f"search('[1, 0]', {many})") == list(range(1, 41))
    assert ids(angles, f"similar(1, {many})") == list(range(2, 41))


def test_many_exclusions(angles: db.Connection) -> None:
    gone = list(range(1, 38)) + list(range(1000, 1200))
    assert ids(angles, "search('[1, 0]', 5, exclude => %s)", gone) == [38, 39, 40]


def test_every_row_is_found_without_an_index(angles: db.Connection) -> None:
    angles.execute("DROP INDEX lookalike.embeddings_1_embedding_idx")
    for strategy in ("auto", "exact", "index"):
        assert ids(angles, "search('[1, 0]', 50, strategy => %s)", strategy) == list(range(1, 41))
        assert ids(angles, """search('[1, 0]', 3, '{"n": {"$gt": 9}}', strategy => %s)""", strategy) == [10, 11, 12]


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        ("search('[1, 2, 3]')", pg.InvalidParameterValue, "the query has 3 dimensions, but embedding space flat has 2"),
        ("search(NULL)", pg.NullValueNotAllowed, "the query embedding is NULL"),
        ("search('[0, 0]')", pg.InvalidParameterValue, "zero vector"),
        ("search('[NaN, 0]')", pg.DataException, "NaN not allowed"),
        ("search('[Infinity, 0]')", pg.DataException, "nfinit"),
        ("search('[1, 0]', 0)", pg.InvalidParameterValue, "k is 0"),
        ("search('[1, 0]', -3)", pg.InvalidParameterValue, "k is -3"),
        ("search('[1, 0]', 10001)", pg.InvalidParameterValue, "k is 10001, but must be 1 to 10000"),
        ("search('[1, 0]', NULL)", pg.InvalidParameterValue, "k is NULL"),
        ("search('[1, 0]', max_distance => -1)", pg.InvalidParameterValue, "max_distance is -1"),
        ("search('[1, 0]', max_distance => 'NaN')", pg.InvalidParameterValue, "max_distance is NaN"),
        ("search('[1, 0]', recall => 0)", pg.InvalidParameterValue, "recall is 0"),
        ("search('[1, 0]', recall => 1.5)", pg.InvalidParameterValue, "recall is 1.5"),
        ("search('[1, 0]', ef_search => 1001)", pg.InvalidParameterValue, "ef_search is 1001"),
        ("search('[1, 0]', strategy => 'fast')", pg.InvalidParameterValue, "strategy is 'fast'"),
        ("""search('[1, 0]', 5, '{"n": {"$near": 1}}')""", pg.InvalidParameterValue, "$near"),
        ("similar(NULL)", pg.NullValueNotAllowed, "the image id is NULL"),
        ("similar(99)", pg.NoDataFound, "there is no image 99"),
        ("similar(41)", pg.NoDataFound, "image 41 has no embedding in space flat yet"),
        ("similar(1, 0)", pg.InvalidParameterValue, "k is 0"),
    ],
)
def test_bad_input_names_the_value(angles: db.Connection, call: str, error: type[psycopg.Error], says: str) -> None:
    with pytest.raises(error) as caught:
        angles.execute(f"SELECT * FROM lookalike.{call}").fetchall()
    assert says in str(caught.value)


def test_without_an_active_space(conn: db.Connection) -> None:
    for call in ("search('[1, 0]')", "similar(1)"):
        with pytest.raises(pg.ObjectNotInPrerequisiteState, match="no embedding space is active"):
            conn.execute(f"SELECT * FROM lookalike.{call}").fetchall()
        conn.rollback()


def test_embedding_of(angles: db.Connection) -> None:
    assert angles.execute("SELECT lookalike.embedding_of(20)::text").fetchone() == ("[0,1]",)
    with pytest.raises(pg.NoDataFound, match="no image 99"):
        angles.execute("SELECT lookalike.embedding_of(99)")


def test_gallery_query_with_embedding_of_uses_the_index(angles: db.Connection) -> None:
    angles.execute("SET LOCAL enable_sort = off")  # forty rows alone would not make an index worth while
    lines = angles.execute(
        """
        EXPLAIN SELECT id, uri, embedding <-> lookalike.embedding_of(2) AS distance
        FROM lookalike.gallery
        WHERE attributes @> '{"even": true}'
        ORDER BY embedding <-> lookalike.embedding_of(2) LIMIT 10
        """
    ).fetchall()
    assert any("Index Scan using embeddings_1_embedding_idx" in str(line) for line in lines)


def test_settings_do_not_leak(angles: db.Connection) -> None:
    names = ("enable_sort", "plan_cache_mode", "hnsw.ef_search", "hnsw.iterative_scan", "hnsw.max_scan_tuples")
    angles.execute("LOAD 'vector'")
    before = [angles.execute("SELECT current_setting(%s)", (name,)).fetchone() for name in names]
    ids(angles, "search('[1, 0]', 3)")
    ids(angles, """search('[1, 0]', 3, '{"n": {"$gt": 1}}', strategy => 'index')""")
    assert before == [angles.execute("SELECT current_setting(%s)", (name,)).fetchone() for name in names]


def test_in_a_read_only_transaction(angles: db.Connection) -> None:
    angles.execute("SET TRANSACTION READ ONLY")
    assert ids(angles, """search('[1, 0]', 2, '{"even": true}')""") == [2, 4]


def test_uncommitted_rows_are_the_writers_alone(angles: db.Connection, database_url: str) -> None:
    with db.connect(database_url) as other:
        other.execute("DELETE FROM lookalike.images WHERE id = 1")
        assert ids(other, "search('[1, 0]', 2)") == [2, 3]
        assert ids(angles, "search('[1, 0]', 2)") == [1, 2]
        other.rollback()


def test_a_new_space_of_another_dimension_takes_over(angles: db.Connection) -> None:
    for _ in range(7):  # long enough for plans to be cached
        assert ids(angles, "search('[1, 0]', 1)") == [1]
    angles.execute("SELECT lookalike.create_space('deep', 'test', 3, '{}', 'other')")
    angles.execute("INSERT INTO lookalike.embeddings_2 VALUES (7, '[0,0,1]')")
    angles.execute("SELECT lookalike.activate_space('deep', force => true)")
    assert ids(angles, "search('[1, 0, 0]', 5)") == [7]
    with pytest.raises(pg.InvalidParameterValue, match="2 dimensions, but embedding space deep has 3"):
        ids(angles, "search('[1, 0]', 1)")


def test_the_plan_says_what_was_done_and_why(angles: db.Connection) -> None:
    found = plan(angles, "'[1, 0]', 5")
    assert (found["strategy"], found["reason"], found["rows"], found["truncated"]) == ("index", "no filter", 5, True)
    assert found["ef_search"] == 200
    assert not found["proven"]
    assert found["ms"] > 0

    few = plan(angles, """'[1, 0]', 5, '{"n": {"$lt": 4}}'""")
    assert (few["strategy"], few["reason"], few["passing"], few["rows"]) == ("exact", "few rows pass", 3, 3)
    assert few["proven"]
    assert not few["truncated"]

    assert plan(angles, "'[1, 0]', 5, recall => 1")["reason"] == "recall 1"
    short = plan(angles, "'[1, 0]', 50")
    assert (short["strategy"], short["reason"], short["rows"]) == ("index, then exact", "the index ended short", 40)

    scanned = plan(angles, """'[1, 0]', 5, '{"n": {"$gt": 30}}', strategy => 'index'""")
    assert scanned["scan"]["passed"] == 10
    assert scanned["scan"]["ended"] == "the scan ended"
    assert scanned["strategy"] == "index, then exact"


def test_ef_search_of_the_space_and_of_the_call(angles: db.Connection) -> None:
    options = json.dumps({"kind": "hnsw", "ef_search": 77})
    angles.execute("UPDATE lookalike.embedding_spaces SET index_options = %s", (options,))
    assert plan(angles, "'[1, 0]', 5")["ef_search"] == 77
    assert plan(angles, "'[1, 0]', 5, ef_search => 30")["ef_search"] == 30
    assert plan(angles, "'[1, 0]', 35, ef_search => 30")["ef_search"] == 35
