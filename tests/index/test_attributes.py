"""Attribute indexes of every type over mixed rows: filters use them; they are built, resumed, listed and dropped."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from app import db
from app.errors import ConflictError, InvalidInputError, NotFoundError
from app.index import attributes

# One value of every sort. A btree or GIN index on the bare text or number could not even store some of them.
MIXED = """
INSERT INTO lookalike.images (uri, attributes)
SELECT 'mixed:' || n, jsonb_build_object('v', v, 'size', jsonb_build_object('w', v))
FROM unnest(ARRAY[
    'null', 'true', 'false', '0', '-1.50', '"text"', '"2024-05-31"', '"2024-02-31"', '"2024-05-31T12:30+02:00"', '[]',
    '["a", "b", 3, null]', '{"w": 1}',
    repeat('98765432107', 1200),
    to_json((SELECT string_agg(md5(g::text), '') FROM generate_series(1, 500) g))::text,
    '[' || to_json((SELECT string_agg(md5(g::text), '') FROM generate_series(1, 500) g)) || ', "a"]'
]::jsonb[]) WITH ORDINALITY AS t (v, n)
"""

FILTERS = {
    "numeric": ('{"v": {"$lt": 0}}', 1),
    "text": ('{"v": {"$startswith": "te"}}', 1),
    "boolean": ('{"v": true}', 1),
    "timestamp": ('{"v": {"$gt": "2024-05-31"}}', 1),
    "text[]": ('{"v": {"$contains": "a"}}', 2),
}


@pytest.fixture
def auto(database_url: str) -> Iterator[db.Connection]:
    """Return a connection in autocommit to a database with 3,000 plain rows and the mixed ones."""
    with db.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO lookalike.images (uri, attributes)"
            " SELECT 'u:' || n, jsonb_build_object('price', n, 'size', jsonb_build_object('w', n % 100))"
            " FROM generate_series(1, 3000) n"
        )
        connection.execute(MIXED)
        yield connection


def plan(connection: db.Connection, text: str) -> str:
    condition = connection.execute("SELECT lookalike.filter_condition(%s::jsonb)", (text,)).fetchone()
    assert condition is not None
    rows = connection.execute(f"EXPLAIN SELECT i.id FROM lookalike.images i WHERE {condition[0]}").fetchall()
    return "\n".join(str(row[0]) for row in rows)


def count(connection: db.Connection, text: str) -> int:
    condition = connection.execute("SELECT lookalike.filter_condition(%s::jsonb)", (text,)).fetchone()
    assert condition is not None
    row = connection.execute(f"SELECT count(*) FROM lookalike.images i WHERE {condition[0]}").fetchone()
    assert row is not None
    return int(str(row[0]))


@pytest.mark.parametrize("kind", attributes.TYPES)
def test_filters_use_the_index_whatever_the_rows_hold(auto: db.Connection, kind: str) -> None:
    text, expected = FILTERS[kind]
    assert count(auto, text) == expected
    made = attributes.add(auto, "v", kind)
    assert (made.name, made.type, made.valid) == ("v", kind, True)
    assert count(auto, text) == expected
    assert made.index in plan(auto, text)
    auto.execute(MIXED.replace("'mixed:'", "'again:'"))
    assert count(auto, text) == 2 * expected


def test_statistics_make_good_estimates(auto: db.Connection) -> None:
    attributes.add(auto, "price", "numeric")
    attributes.add(auto, "size.w", "numeric")
    for text, expected in {'{"price": {"$gt": 100, "$lte": 200}}': 100, '{"size.w": 7}': 30}.items():
        condition = auto.execute("SELECT lookalike.filter_condition(%s::jsonb)", (text,)).fetchone()
        assert condition is not None
        row = auto.execute(f"EXPLAIN (FORMAT JSON) SELECT FROM lookalike.images i WHERE {condition[0]}").fetchone()
        assert row is not None
        explained: Any = row[0]
        assert 0.5 * expected <= explained[0]["Plan"]["Plan Rows"] <= 2 * expected


@pytest.mark.parametrize(
    "name",
    [
        "size.w", "attributes.id", "it's", 'a"b', r"x\.y", r"p\\q", r"p\\q'\.z.é", "ключ.Ключ", "😀", " ", "a b.c-d",
        "$d", "k" * 300, ".".join(["deep"] * 32), "attributes.attributes", "%s", ":x", "A", "'::text -> 'b", "E'x",
    ],
)  # fmt: skip
def test_names_survive_a_round_trip(auto: db.Connection, name: str) -> None:
    made = attributes.add(auto, name, "numeric")
    assert len(made.index) <= 63
    assert [one.index for one in attributes.ls(auto)] == [made.index]
    assert attributes.add(auto, made.name, "numeric").index == made.index, "the listed name means the same attribute"
    assert made.index in plan(auto, json.dumps({made.name: {"$gt": 5}}))
    assert [one.index for one in attributes.drop(auto, made.name)] == [made.index]
    assert attributes.ls(auto) == []


def test_adding_again_changes_nothing(auto: db.Connection) -> None:
    made = attributes.add(auto, "price", "numeric")
    before = auto.execute("SELECT %s::regclass::oid", (f"lookalike.{made.index}",)).fetchone()
    assert attributes.add(auto, "attributes.price", "numeric").index == made.index
    assert auto.execute("SELECT %s::regclass::oid", (f"lookalike.{made.index}",)).fetchone() == before


def test_an_interrupted_build_is_dropped_and_built_again(auto: db.Connection, database_url: str) -> None:
    with db.connect(database_url) as other:
        other.execute("INSERT INTO lookalike.images (uri) VALUES ('open')")
        # The build waits for the open transaction until a lock timeout interrupts it; that leaves an invalid index.
        auto.execute("SET lock_timeout = '300ms'")
        with pytest.raises(Exception, match="lock timeout"):
            attributes.add(auto, "price", "numeric")
        auto.execute("RESET lock_timeout")
        other.rollback()
    (left,) = attributes.ls(auto)
    assert (left.name, left.valid) == ("price", False)
    assert "attribute_numeric" not in plan(auto, '{"price": 5}'), "an invalid index is not counted on"
    assert attributes.add(auto, "price", "numeric").valid
    assert [one.valid for one in attributes.ls(auto)] == [True]


def test_drop_takes_every_type_and_leftover(auto: db.Connection) -> None:
    attributes.add(auto, "price", "numeric")
    attributes.add(auto, "price", "text")
    attributes.add(auto, "size.w", "numeric")
    assert {one.type for one in attributes.drop(auto, "price")} == {"numeric", "text"}
    assert [one.name for one in attributes.ls(auto)] == ["size.w"]
    with pytest.raises(NotFoundError, match="'price' has no index"):
        attributes.drop(auto, "price")
    assert count(auto, '{"price": {"$lte": 10}}') == 10


def test_other_indexes_of_images_are_left_alone(auto: db.Connection) -> None:
    auto.execute("CREATE INDEX mine ON lookalike.images ((attributes -> 'price'::text))")
    auto.execute("CREATE INDEX images_attribute_mine ON lookalike.images (caption)")
    assert attributes.ls(auto) == []
    with pytest.raises(NotFoundError):
        attributes.drop(auto, "price")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("price", "integer", 'unknown attribute type "integer"; known types: numeric, text, boolean, timestamp'),
        ("price", "numeric'); DROP TABLE lookalike.images; --", "unknown attribute type"),
        ("width", "numeric", '"width" is a column of images; the attribute of that name is "attributes.width"'),
        ("a..b", "text", '"a..b" has no key, an empty key'),
        ("", "text", "empty key"),
        ("attributes", "text", "has no key"),
        (r"a\b", "text", "uses a backslash before"),
    ],
)
def test_bad_names_and_types(auto: db.Connection, name: str, kind: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message.replace("(", r"\(").replace(")", r"\)")):
        attributes.add(auto, name, kind)


def test_one_build_at_a_time(auto: db.Connection, database_url: str) -> None:
    with db.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('lookalike.attribute_indexes', 0))")
        with pytest.raises(ConflictError, match="another session"):
            attributes.add(auto, "price", "numeric")
        with pytest.raises(ConflictError, match="another session"):
            attributes.drop(auto, "price")
        other.execute("SELECT pg_advisory_unlock_all()")  # closing alone would release it later
    assert attributes.add(auto, "price", "numeric").valid
    held = auto.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    ).fetchone()
    assert held == (0,)


def test_functions_are_null_for_other_types(conn: db.Connection) -> None:
    row = conn.execute(
        """SELECT count(lookalike.attribute_numeric(v)), count(lookalike.attribute_text(v)),
                  count(lookalike.attribute_boolean(v)), count(lookalike.attribute_texts(v))
           FROM unnest('{null,true,1,"\\"x\\"","[]","{}"}'::jsonb[]) AS t (v)"""
    ).fetchone()
    assert row == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-31", "2024-05-31T00:00:00+00:00"),
        ("2024-05-31T12:30", "2024-05-31T12:30:00+00:00"),
        ("2024-05-31 12:30:01.5-0530", "2024-05-31T18:00:01.5+00:00"),
        ("2024-05-31T12:30:00+02", "2024-05-31T10:30:00+00:00"),
        ("2024-02-30", None),
        ("2024-05-31T12:30 Europe/Paris", None),
        ("2024-05-31 EST", None),
        ("2024-05-31 BC", None),
        ("2024-05-31T12", None),
        ("2024-05-31Z", None),
        ("31-05-2024", None),
        ("today", None),
        ("infinity", None),
        ("2024-05-31\n", None),
    ],
)
def test_timestamps_are_iso_text_in_utc(conn: db.Connection, text: str, expected: str | None) -> None:
    conn.execute("SET timezone = 'America/Caracas'; SET datestyle = 'SQL, DMY'")
    row = conn.execute(
        "SELECT to_jsonb(lookalike.attribute_timestamp(to_jsonb(%s::text)) AT TIME ZONE 'UTC') #>> '{}'", (text,)
    ).fetchone()
    assert row == (None if expected is None else expected.removesuffix("+00:00"),)


def test_raw_sql_cannot_break_an_index(auto: db.Connection) -> None:
    """Any client may write any document while indexes of every type exist."""
    for kind in attributes.TYPES:
        attributes.add(auto, "v", kind)
    auto.execute(MIXED.replace("'mixed:'", "'third:'"))
    with pytest.raises(psycopg.errors.CheckViolation):
        auto.execute("INSERT INTO lookalike.images (uri, attributes) VALUES ('bad', '[]')")
