"""Filters: every operator by hand, random filters against an oracle, injection by the statement's parse tree."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pglast
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import db
from app.errors import InvalidInputError
from app.index import attributes
from app.search import filters

fuzz = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# --- by hand ----------------------------------------------------------------------------------------------------------

ROWS: dict[int, str] = {
    1: '{"price": 5, "name": "apple", "tags": ["red", "round"], "size": {"w": 3, "h": 4}, "ok": true}',
    2: '{"price": 5.0, "name": "Banana", "tags": ["yellow"], "size": {"w": 30}, "ok": false}',
    3: '{"price": "5", "name": 5, "tags": "red", "size": [{"w": 3}], "ok": "true"}',
    4: '{"price": null, "name": null, "tags": [], "size": 3, "ok": null}',
    5: "{}",
    6: '{"price": 1e400, "name": "apple pie", "tags": ["red", 7, null, true, ["round"]], "a.b": 1, "a": {"b": 2}}',
    7: '{"price": -0.1, "name": "äpfel", "tags": {"red": 1}, "taken": "2024-05-31", "when": "not 2024"}',
    8: '{"price": 99.99, "name": "", "taken": "2024-05-31T12:30:00+02:00", "id": 1, "caption": "mine", "$x": 1}',
    9: '{"name": "2024-05", "taken": "2024-02-31", "back\\\\slash": "a\\"b\'c", "0": {"1": "digits"}}',
}
EVERY = set(ROWS)

CASES: list[tuple[str, set[int]]] = [
    ("{}", EVERY),
    # Equality: of JSON values; numbers by value, other types never equal; arrays and objects only as a whole by $eq.
    ('{"price": 5}', {1, 2}),
    ('{"price": {"$eq": 5.00}}', {1, 2}),
    ('{"price": "5"}', {3}),
    ('{"price": 1e400}', {6}),
    ('{"name": "apple"}', {1}),
    ('{"name": ""}', {8}),
    ('{"ok": true}', {1}),
    ('{"ok": false}', {2}),
    ('{"ok": "true"}', {3}),
    ('{"tags": "red"}', {3}),
    ('{"tags": {"$eq": ["red", "round"]}}', {1}),
    ('{"tags": {"$eq": ["round", "red"]}}', set()),
    ('{"tags": {"$eq": []}}', {4}),
    ('{"size": {"$eq": {"h": 4.0, "w": 3}}}', {1}),
    ('{"tags": {"$eq": {}}}', set()),
    # null stands for JSON null and for a missing key alike; $exists tells them apart.
    ('{"price": null}', {4, 5, 9}),
    ('{"price": {"$ne": null}}', EVERY - {4, 5, 9}),
    ('{"price": {"$exists": true}}', EVERY - {5, 9}),
    ('{"price": {"$exists": false}}', {5, 9}),
    # What does not hold, its negation does: missing keys and wrong types included.
    ('{"price": {"$ne": 5}}', EVERY - {1, 2}),
    ('{"price": {"$not": {"$lt": 100}}}', {3, 4, 5, 6, 9}),
    ('{"$not": {"price": {"$lt": 100}}}', {3, 4, 5, 6, 9}),
    ('{"price": {"$not": {"$not": {"$gte": 5, "$lt": 6}}}}', {1, 2}),
    ('{"price": {"$not": {"$gte": 5, "$lt": 6}}}', EVERY - {1, 2}),
    ('{"$not": {}}', set()),
    # Ranges: numbers with numbers, of any size; text with text by code point; true and null are not ordered.
    ('{"price": {"$lt": 5}}', {7}),
    ('{"price": {"$lte": 5}}', {1, 2, 7}),
    ('{"price": {"$gt": 5}}', {6, 8}),
    ('{"price": {"$gte": 1e400}}', {6}),
    ('{"price": {"$gt": 1e401}}', set()),
    ('{"price": {"$gt": "4"}}', {3}),
    ('{"name": {"$gte": "apple"}}', {1, 6, 7}),
    ('{"name": {"$lt": "a"}}', {2, 8, 9}),
    ('{"name": {"$gt": "z"}}', {7}),
    # Dates: an operand that is an ISO date or time compares times, UTC where no zone is named; other text is no time.
    ('{"taken": {"$gte": "2024-05-31"}}', {7, 8}),
    ('{"taken": {"$gt": "2024-05-31T10:29Z"}}', {8}),
    ('{"taken": {"$lt": "2024-05-31T12:30:00.000001+02"}}', {7, 8}),
    ('{"taken": {"$lt": "2024-06-01 00:00", "$gt": "2024-05-31T00:00:00Z"}}', {8}),
    ('{"name": {"$gte": "2024-05-01"}}', set()),
    ('{"taken": {"$gte": "2024"}}', {7, 8, 9}),
    ('{"taken": "2024-05-31"}', {7}),
    # Lists.
    ('{"price": {"$in": [5, "5", 99.99]}}', {1, 2, 3, 8}),
    ('{"price": {"$in": []}}', set()),
    ('{"price": {"$nin": []}}', EVERY),
    ('{"price": {"$in": [null]}}', {4, 5, 9}),
    ('{"price": {"$in": [null, 5]}}', {1, 2, 4, 5, 9}),
    ('{"price": {"$nin": [null, 5]}}', {3, 6, 7, 8}),
    ('{"ok": {"$in": [true, false]}}', {1, 2}),
    ('{"tags": {"$in": ["red"]}}', {3}),
    (json.dumps({"price": {"$in": [*range(30), "5"]}}), {1, 2, 3}),
    # $contains looks into arrays of attributes, never into text or objects.
    ('{"tags": {"$contains": "red"}}', {1, 6}),
    ('{"tags": {"$contains": ["red", "round"]}}', {1}),
    ('{"tags": {"$contains": [7.0, true]}}', {6}),
    ('{"tags": {"$contains": null}}', {6}),
    ('{"tags": {"$contains": []}}', {1, 2, 4, 6}),
    ('{"name": {"$contains": "pie"}}', set()),
    ('{"name": {"$startswith": "apple"}}', {1, 6}),
    ('{"name": {"$startswith": ""}}', {1, 2, 6, 7, 8, 9}),
    ('{"name": {"$startswith": "ä"}}', {7}),
    ('{"name": {"$startswith": "%"}}', set()),
    # Paths: a dot steps into an object and never into an array; \\. is a dot in a key.
    ('{"size.w": 3}', {1}),
    ('{"attributes.size.w": {"$gt": 3}}', {2}),
    ('{"size.w": {"$exists": false}}', EVERY - {1, 2}),
    ('{"a.b": 2}', {6}),
    (r'{"a\\.b": 1}', {6}),
    (r'{"back\\\\slash": "a\"b\'c"}'.replace(r"\'", "'"), {9}),
    ('{"0.1": "digits"}', {9}),
    ('{"tags.0": "red"}', set()),
    ('{"attributes.$x": 1}', {8}),
    # Columns: the bare name; `attributes.` for an attribute of the same name.
    ('{"id": 1}', {1}),
    ('{"attributes.id": 1}', {8}),
    ('{"attributes.caption": "mine"}', {8}),
    ('{"id": {"$gte": 8}}', {8, 9}),
    ('{"id": {"$gt": 7.5, "$lt": 1e30}}', {8, 9}),
    ('{"id": {"$in": [1, 2.0, 2.5, 1e30]}}', {1, 2}),
    ('{"id": {"$in": [0.5]}}', set()),
    ('{"id": 2.50}', set()),
    ('{"width": 10}', {1}),
    ('{"width": null}', EVERY - {1}),
    ('{"width": {"$ne": 10}}', EVERY - {1}),
    ('{"width": {"$exists": true}}', {1}),
    ('{"width": {"$in": [10, null]}}', EVERY),
    ('{"width": {"$nin": [10]}}', EVERY - {1}),
    ('{"caption": {"$contains": "Cat"}}', {1}),
    ('{"caption": {"$contains": ["Cat", "mat"]}}', {1}),
    ('{"caption": {"$contains": "cat"}}', set()),
    ('{"caption": {"$contains": []}}', {1}),
    ('{"caption": {"$startswith": "A "}}', {1}),
    ('{"caption": {"$lt": "B"}}', {1}),
    ('{"caption": {"$in": ["A Cat on a mat", "x"]}}', {1}),
    ('{"uri": "u:3"}', {3}),
    ('{"media_type": {"$ne": "image/png"}}', EVERY - {2}),
    (json.dumps({"sha256": "AB" * 32}), {1}),
    (json.dumps({"sha256": {"$in": ["ab" * 32, None]}}), EVERY),
    ('{"sha256": {"$exists": true}}', {1}),
    ('{"created_at": {"$gte": "2024-01-01"}}', {1, 2}),
    ('{"created_at": "2024-01-01T01:00+01:00"}', {1}),
    ('{"created_at": {"$gt": "0001-01-01T00:00+14:00", "$lt": "2000-01-01"}}', EVERY - {1, 2}),
    # Connectives; every key and every operator of an object must hold.
    ('{"$or": [{"price": 5}, {"name": ""}]}', {1, 2, 8}),
    ('{"$and": [{"price": 5}, {"ok": true}]}', {1}),
    ('{"$or": []}', set()),
    ('{"$and": []}', EVERY),
    ('{"$or": [{}]}', EVERY),
    ('{"price": 5, "ok": false}', {2}),
    ('{"$and": [{"$or": [{"price": 5}, {"price": null}]}, {"$not": {"ok": true}}]}', {2, 4, 5, 9}),
]

ERRORS: list[tuple[str, str]] = [
    ('{"price": {"$foo": 1}}', r'unknown filter operator "\$foo" at price\.\$foo; known operators: \$eq, \$ne, '),
    ('{"$nor": []}', r'unknown filter operator "\$nor" at \$nor; known'),
    ('{"$or": [{}, {"size.w": {"$not": {"$x": 1}}}]}', r'"\$x" at \$or\[1\]\.size\.w\.\$not\.\$x'),
    ('{"color": {"$in": "red"}}', r"\$in at color\.\$in needs an array, got a string"),
    ('{"color": {"$nin": {"a": 1}}}', r"\$nin at color\.\$nin needs an array, got an object"),
    ('{"color": {"$in": [["red"]]}}', r"takes numbers, strings, booleans and null in its array, got an array"),
    (json.dumps({"color": {"$in": [1] * 10001}}), r"has 10001 values; at most 10000"),
    ('{"price": {"$lt": null}}', r"\$lt at price\.\$lt needs a number or a string, got null"),
    ('{"price": {"$gte": true}}', r"needs a number or a string, got a boolean"),
    ('{"price": {"$lt": "2024-02-31"}}', r"needs a date or a time as ISO text.*2024-02-31"),
    ('{"price": {"$exists": 1}}', r"needs true or false, got a number"),
    ('{"price": {"$startswith": 1}}', r"needs a string, got a number"),
    ('{"price": {"$contains": {}}}', r"needs a value or an array of values, got an object"),
    ('{"price": {"$not": 5}}', r"\$not at price\.\$not needs an object of operators, got number"),
    ('{"price": {"$gt": 1, "max": 2}}', r'"max" where an operator is wanted; write the nested path "price\.max"'),
    ('{"price": {}}', r"has no operator"),
    ('{"tags": ["a"]}', r"an array at tags needs an operator"),
    ('{"$gt": 5}', r"\$gt at \$gt needs the name of an attribute"),
    ('{"$and": {"a": 1}}', r"\$and at \$and needs an array of filters, got object"),
    ('{"$or": [5]}', r"the filter at \$or\[0\] has to be an object .* got number"),
    ('{"$not": []}', r"the filter at \$not has to be an object"),
    ("[]", r"the filter has to be an object .* got array"),
    ("null", r"the filter has to be an object .* got null"),
    ('{"": 1}', r"empty key"),
    ('{"a..b": 1}', r"empty key"),
    ('{"attributes": 1}', r"write NAME, attributes\.NAME"),
    (json.dumps({f"key {n}": 1 for n in range(2001)}), r"has 2001 keys; at most 2000 are allowed"),
    (json.dumps({"$or": [{"n": {"$gt": n, "$lt": n + 1}} for n in range(40_000)]}), r"has 120001 keys"),
    (json.dumps({f"key {n}": 1 for n in range(100_000)}), r"has 100000 keys"),
    (json.dumps({"$not": {"$and": [{"$or": [{"a": 1}] * 1000}] * 2}}), r"has 2004 keys"),
    (r'{"a\\x": 1}', r"uses a backslash before"),
    (r'{"a\\": 1}', r"ends in a backslash"),
    (json.dumps({".".join("a" * 33): 1}), r"more than 32 keys"),
    ('{"$not":' * 34 + "{}" + "}" * 34, r"nests more than 32 levels"),
    ('{"a": ' + '{"$not":' * 34 + '{"$eq":1}' + "}" * 35, r"nests more than 32 levels"),
    ('{"width": "10"}', r"\$eq at width\.\$eq needs a number for that column of images"),
    ('{"width": {"$contains": 1}}', r"not for this column of images, which is of kind number; it takes \$eq"),
    ('{"caption": {"$in": ["a", 1]}}', r"needs a string for that column"),
    ('{"sha256": "abc"}', r"needs 64 hex digits"),
    ('{"sha256": {"$lt": "a"}}', r"of kind hex"),
    ('{"created_at": {"$lt": "yesterday"}}', r"needs a date or a time as ISO text"),
    ('{"created_at": 5}', r"needs a date or a time as ISO text"),
]


@pytest.fixture
def rows(conn: db.Connection) -> db.Connection:
    """A database with the rows of ROWS, under their own ids."""
    for key, document in ROWS.items():
        conn.execute(
            "INSERT INTO lookalike.images (id, uri, attributes, media_type, created_at) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, %s, %s::jsonb, %s, %s)",
            (
                key,
                f"u:{key}",
                document,
                "image/png" if key == 2 else None,
                "2024-01-01Z" if key == 1 else "2024-01-02Z" if key == 2 else "1999-01-01Z",
            ),
        )
    conn.execute(
        "UPDATE lookalike.images SET width = 10, caption = 'A Cat on a mat', sha256 = decode(%s, 'hex') WHERE id = 1",
        ("ab" * 32,),
    )
    return conn


def condition_of(conn: db.Connection, text: str) -> str:
    row = conn.execute("SELECT lookalike.filter_condition(%s::jsonb)", (text,)).fetchone()
    assert row is not None
    return str(row[0])


def kept(conn: db.Connection, text: str) -> set[int]:
    found = conn.execute("SELECT i.id FROM lookalike.images i WHERE " + condition_of(conn, text)).fetchall()
    return {int(str(row[0])) for row in found}


def test_every_operator(rows: db.Connection) -> None:
    wrong = [(text, expected, found) for text, expected in CASES if (found := kept(rows, text)) != expected]
    assert wrong == []


def test_no_filter_keeps_every_row(rows: db.Connection) -> None:
    assert rows.execute("SELECT lookalike.filter_condition(NULL)").fetchone() == ("TRUE",)


def test_errors_name_operator_and_place(conn: db.Connection) -> None:
    wrong = []
    for text, pattern in ERRORS:
        with pytest.raises(psycopg.errors.InvalidParameterValue) as caught, conn.transaction():
            condition_of(conn, text)
        if not re.search(pattern, str(caught.value.diag.message_primary)):
            wrong.append((text[:80], pattern, caught.value.diag.message_primary))
    assert wrong == []


def test_results_hold_under_other_session_settings(rows: db.Connection) -> None:
    rows.execute("SET timezone = 'Asia/Kathmandu'; SET datestyle = 'German, DMY'")
    rows.execute("SET standard_conforming_strings = off; SET escape_string_warning = off")
    rows.execute("CREATE SCHEMA evil; SET search_path = evil, public")
    rows.execute("CREATE FUNCTION evil.strpos(text, text) RETURNS int LANGUAGE sql RETURN 1 / 0")
    wrong = [(text, expected, found) for text, expected in CASES if (found := kept(rows, text)) != expected]
    assert wrong == []


def test_long_texts_and_numbers_compare_whole(conn: db.Connection) -> None:
    long = "x" * 600
    for number, document in enumerate((f'{{"t": "{long}a"}}', f'{{"t": "{long}b"}}', f'{{"t": {"9" * 1200}}}'), 1):
        conn.execute(
            "INSERT INTO lookalike.images (id, uri, attributes) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s::jsonb)",
            (number, f"u:{number}", document),
        )
    assert kept(conn, f'{{"t": {{"$gt": "{long}a"}}}}') == {2}
    assert kept(conn, f'{{"t": {{"$startswith": "{long}"}}}}') == {1, 2}
    assert kept(conn, f'{{"t": {{"$startswith": "{long[:499]}"}}}}') == {1, 2}
    assert kept(conn, f'{{"t": "{long}b"}}') == {2}
    assert kept(conn, f'{{"t": {"9" * 1200}}}') == {3}
    assert kept(conn, '{"t": {"$gt": 1}}') == set(), "a number of 1,000 digits and more is not ordered"


# --- against an oracle ------------------------------------------------------------------------------------------------

MISSING = object()
ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)?)?", re.ASCII)


def lookup(document: Any, path: list[str]) -> Any:
    for step in path:
        if not isinstance(document, dict) or step not in document:
            return MISSING
        document = document[step]
    return document


def is_number(value: Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def same(one: Any, other: Any) -> bool:
    if is_number(one) and is_number(other):
        return Decimal(one) == Decimal(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def moment(value: Any) -> datetime | None:
    if not isinstance(value, str) or not ISO.fullmatch(value):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def ordered(value: Any, operator: str, operand: Any) -> bool:
    one: Any
    other: Any
    if is_number(operand):
        if not is_number(value) or len(str(value)) >= 1000:
            return False
        one, other = Decimal(value), Decimal(operand)
    elif re.match(r"\d{4}-\d\d-\d\d([T ]\d\d:|\Z)", operand):
        one, other = moment(value), moment(operand)
        if one is None:
            return False
    else:
        if not isinstance(value, str):
            return False
        one, other = value.encode(), operand.encode()
    return bool({"$lt": one < other, "$lte": one <= other, "$gt": one > other, "$gte": one >= other}[operator])


def holds_for(value: Any, operator: str, operand: Any) -> bool:
    match operator:
        case "$eq":
            return value in (MISSING, None) if operand is None else same(value, operand)
        case "$ne":
            return not holds_for(value, "$eq", operand)
        case "$in":
            return any(holds_for(value, "$eq", one) for one in operand)
        case "$nin":
            return not holds_for(value, "$in", operand)
        case "$exists":
            return (value is not MISSING) is operand
        case "$contains":
            wanted = operand if isinstance(operand, list) else [operand]
            return isinstance(value, list) and all(any(same(one, has) for has in value) for one in wanted)
        case "$startswith":
            return isinstance(value, str) and value.startswith(operand)
        case "$not":
            return not all(holds_for(value, inner, test) for inner, test in operand.items())
        case _:
            return ordered(value, operator, operand)


def holds(document: Any, wanted: dict[str, Any]) -> bool:
    for key, test in wanted.items():
        if key == "$and":
            one = all(holds(document, inner) for inner in test)
        elif key == "$or":
            one = any(holds(document, inner) for inner in test)
        elif key == "$not":
            one = not holds(document, test)
        else:
            path = [
                part.replace("\0", ".").replace("\1", "\\")
                for part in key.replace("\\\\", "\1").replace("\\.", "\0").split(".")
            ]
            value = lookup(document, path[1:] if path[0] == "attributes" else path)
            tests = test if isinstance(test, dict) else {"$eq": test}
            one = all(holds_for(value, operator, operand) for operator, operand in tests.items())
        if not one:
            return False
    return True


def to_json(value: Any) -> str:
    """JSON with every digit of a Decimal, which json.dumps would not take."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {to_json(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_json, value)) + "]"
    return str(value) if is_number(value) else json.dumps(value)


KEYS = ["a", "b", "o'k", "x.y", "p\\q", "0", "é", "id", "$d"]
texts = st.sampled_from(["", "a", "b", "ab", "B", "é", "'", '"', "\\", "a'b", "😀", "z" * 510, "z" * 499, "true", "1"])
times = st.sampled_from(
    [
        "2024-05-31",
        "2024-05-31T00:00Z",
        "2024-05-31 02:00:00+02:00",
        "2024-05-30T23:59:59.999999Z",
        "2024-06-01",
        "2024-05-31T00:00:00-0030",
        "0001-01-01",
        "9999-12-31T23:59:59Z",
    ]
)
no_times = st.sampled_from(["2024-02-31", "2024-05-31x", "2024-05-31T", "24-05-31", "2024-05-31T25:00", "２024-05-31"])
numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([Decimal("0.1"), Decimal("1.0"), Decimal("-0.10"), Decimal("1e30"), Decimal("1e-30"), 2**53 + 1]),
    st.sampled_from([10**400, -(10**400), 10**1100]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts, times)
keys = st.sampled_from(KEYS)
values = st.recursive(
    st.one_of(scalars, no_times),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=4,
)
documents = st.dictionaries(keys, values, max_size=5)


def name_of(path: list[str]) -> str:
    name = ".".join(step.replace("\\", "\\\\").replace(".", "\\.") for step in path)
    return "attributes." + name if path[0] in ("id", "$d") else name


names = st.lists(keys, min_size=1, max_size=2).map(name_of)
operators = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), values),
    st.tuples(st.sampled_from(["$lt", "$lte", "$gt", "$gte"]), st.one_of(numbers, texts, times)),
    st.tuples(
        st.sampled_from(["$in", "$nin"]),
        st.one_of(st.lists(scalars, max_size=4), st.lists(scalars, min_size=21, max_size=24)),
    ),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$contains"), st.one_of(scalars, st.lists(scalars, max_size=3), st.lists(texts, max_size=2))),
    st.tuples(st.just("$startswith"), texts),
)
tests = st.recursive(
    st.lists(operators, min_size=1, max_size=2).map(dict),
    lambda inner: inner.map(lambda one: {"$not": one}),
    max_leaves=2,
)
conditions = st.recursive(
    st.dictionaries(names, st.one_of(scalars, tests), max_size=2),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda some: {"$and": some}),
        st.lists(inner, max_size=3).map(lambda some: {"$or": some}),
        inner.map(lambda one: {"$not": one}),
    ),
    max_leaves=4,
)


def test_random_filters_agree_with_the_oracle(conn: db.Connection) -> None:
    @settings(fuzz, max_examples=250)
    @given(st.lists(documents, min_size=1, max_size=12), conditions)
    def agree(some: list[Any], wanted: dict[str, Any]) -> None:
        found = conn.execute(
            "SELECT i.n FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS i (attributes, n) WHERE "
            + condition_of(conn, to_json(wanted)).replace("%", "%%"),
            (to_json(some),),
        ).fetchall()
        assert [row[0] for row in found] == [n for n, one in enumerate(some, 1) if holds(one, wanted)]

    agree()


def test_attribute_indexes_change_no_answer(new_database: Callable[..., str], template: str) -> None:
    """The same with indexes of every type on the keys, which have another form of equality used, and by index."""
    with db.connect(new_database(template), autocommit=True) as conn:
        some: list[Any] = []

        @settings(fuzz, max_examples=150)
        @given(documents)
        def collect(one: Any) -> None:
            some.append(one)

        collect()
        with conn.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO lookalike.images (id, uri, attributes) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s::jsonb)",
                [(n, f"u:{n}", to_json(one)) for n, one in enumerate(some)],
            )
        for name in ("a", "b", "o'k"):
            for kind in attributes.TYPES:
                attributes.add(conn, name, kind)
        conn.execute("SET enable_seqscan = off")

        @settings(fuzz, max_examples=200)
        @given(st.dictionaries(st.sampled_from(["a", "b", "o'k", "a.b"]), tests, min_size=1, max_size=2))
        def agree(wanted: dict[str, Any]) -> None:
            assert kept(conn, to_json(wanted)) == {n for n, one in enumerate(some) if holds(one, wanted)}

        agree()
        for test in (True, {"$ne": False}, {"$contains": "a"}, {"$contains": ["a", "b"]}, {"$in": ["a", "b"]}):
            for name in ("a", "b", "o'k"):
                assert kept(conn, to_json({name: test})) == {
                    n for n, one in enumerate(some) if holds(one, {name: test})
                }
        conn.execute("SELECT pg_stat_force_next_flush()")
        scanned = {one.type for one in attributes.ls(conn) if one.scans}
        assert scanned == set(attributes.TYPES)


# --- injection --------------------------------------------------------------------------------------------------------

evil = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30),
    st.lists(
        st.sampled_from(
            [
                "'",
                "''",
                '"',
                "\\",
                "\\'",
                "$$",
                "$a$",
                "--",
                "/*",
                "*/",
                ";",
                "E'",
                "U&'",
                "\n",
                "\r",
                "%",
                "%s",
                "%L",
                "%I",
                "$1",
                "{",
                "}",
                "(",
                ")",
                ",",
                " OR TRUE",
                "::",
                "NULL",
                "i.id",
                "; DROP TABLE lookalike.images",
                "\u2019",
            ]
        ),
        min_size=1,
        max_size=8,
    ).map("".join),
)
FUNCTIONS = {
    "attribute_numeric",
    "attribute_text",
    "attribute_boolean",
    "attribute_timestamp",
    "attribute_texts",
    "jsonb_typeof",
    "strpos",
    "decode",
}
NODES = {
    "BoolExpr",
    "A_Expr",
    "FuncCall",
    "ColumnRef",
    "String",
    "TypeCast",
    "TypeName",
    "A_Const",
    "CollateClause",
    "NullTest",
    "BooleanTest",
    "CaseExpr",
    "CaseWhen",
    "CoalesceExpr",
    "A_ArrayExpr",
    "Integer",
    "List",
}
COLUMNS = {"id", "uri", "sha256", "media_type", "width", "height", "caption", "attributes", "created_at", "updated_at"}


def shape(condition: str) -> Any:
    """The parse tree of the statement, literals masked; fails where it has a node that no filter should make."""
    tree = json.loads(pglast.parser.parse_sql_json("SELECT 1 FROM lookalike.images i WHERE " + condition))
    assert len(tree["stmts"]) == 1
    select = tree["stmts"][0]["stmt"]["SelectStmt"]
    assert set(select) == {"targetList", "fromClause", "whereClause", "limitOption", "op"}
    return masked(select["whereClause"])


def masked(node: Any) -> Any:
    if isinstance(node, list):
        return [masked(one) for one in node]
    if not isinstance(node, dict):
        return node
    if "A_Const" in node:
        return "literal"
    for key, inner in node.items():
        assert not key[0].isupper() or key in NODES, key
        if key == "FuncCall":
            assert inner["funcname"][-1]["String"]["sval"] in FUNCTIONS
        if key == "ColumnRef":
            table, column = (part["String"]["sval"] for part in inner["fields"])
            assert table == "i"
            assert column in COLUMNS
    return {key: masked(inner) for key, inner in node.items() if key not in ("location", "list_start", "list_end")}


def escaped(key: str) -> str:
    return "attributes." + key.replace("\\", "\\\\").replace(".", "\\.")


FORMS: list[Callable[[str, str, str], dict[str, Any]]] = [
    lambda k, v, w: {k: v},
    lambda k, v, w: {k: {"$ne": v}},
    lambda k, v, w: {k: {"$eq": [v, {w: w}]}},
    lambda k, v, w: {k: {"$in": [v, w, 1, None]}},
    lambda k, v, w: {k: {"$nin": [v, *map(str, range(25)), w]}},
    lambda k, v, w: {k: {"$contains": [v, w]}},
    lambda k, v, w: {k: {"$gt": "x" + v}},
    lambda k, v, w: {k: {"$lte": v + "x" * 500}},
    lambda k, v, w: {k: {"$startswith": v}},
    lambda k, v, w: {k + ".n": {"$not": {"$exists": True}}},
    lambda k, v, w: {k: {"$lt": 5}},
    lambda k, v, w: {"$or": [{k: None}, {"$not": {k: v}}, {"$and": [{k: w}]}]},
    lambda k, v, w: {"uri": v},
    lambda k, v, w: {"caption": {"$contains": [v, w]}},
    lambda k, v, w: {"media_type": {"$in": [v, w]}},
    lambda k, v, w: {"caption": {"$startswith": v}},
]


def test_values_and_keys_never_change_the_statement(conn: db.Connection) -> None:
    conn.execute("SET escape_string_warning = off")

    @settings(fuzz, max_examples=250)
    @given(st.sampled_from(FORMS), evil, evil, evil, st.booleans())
    def keeps_shape(form: Any, key: str, value: str, other: str, conforming: bool) -> None:
        conn.execute("SELECT set_config('standard_conforming_strings', %s, false)", ("on" if conforming else "off",))
        wild = condition_of(conn, json.dumps(form(escaped(key), value, other)))
        tame = condition_of(conn, json.dumps(form(escaped("key"), "value", "other")))
        assert shape(wild) == shape(tame)
        # The server reads it so too, whatever the setting; nothing in it raises.
        conn.execute("SELECT FROM lookalike.images i WHERE " + wild)

    keeps_shape()


def test_anything_is_a_condition_or_one_clear_error(conn: db.Connection) -> None:
    anywhere = st.one_of(
        evil,
        keys,
        st.sampled_from(["$eq", "$in", "$not", "$and", "$or", "$lt", "$contains", "id", "created_at", "sha256"]),
    )
    garbage = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), evil, times),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(anywhere, inner, max_size=3)),
        max_leaves=8,
    )

    @settings(fuzz, max_examples=250)
    @given(st.dictionaries(anywhere, garbage, max_size=3))
    def clear(wanted: dict[str, Any]) -> None:
        try:
            with conn.transaction():
                condition = condition_of(conn, json.dumps(wanted))
        except psycopg.errors.InvalidParameterValue:
            return
        shape(condition)
        conn.execute("SELECT FROM lookalike.images i WHERE " + condition)

    clear()


def test_nul_is_refused_as_input(conn: db.Connection) -> None:
    with pytest.raises(InvalidInputError), db.translated():
        condition_of(conn, r'{"a": "\u0000"}')


# --- the text of a filter ---------------------------------------------------------------------------------------------


def test_parse_gives_the_object() -> None:
    text = '{"price": {"$lt": 0.1, "$gt": 123456789012345678901234567890}, "a": [null, true, "é\\\\u0000"]}'
    assert filters.parse(text) == {
        "price": {"$lt": 0.1, "$gt": 123456789012345678901234567890},
        "a": [None, True, "é\\u0000"],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1', "line 1 column 8"),
        ('{"a":\n 1,}', "line 2"),
        ("", "not JSON"),
        ("[1]", r"JSON object such as .* got \[1\]"),
        ('{"a": {"b": 1, "b": 2}}', 'key "b" twice'),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e400}', "1e400"),
        ('{"a": 0.12345678901234567890123}', "more digits"),
        ('{"a": ' + "9" * 5000 + "}", "5000 digits"),
        (r'{"a": ["\u0000"]}', "cannot store"),
        (r'{"\ud800": 1}', "cannot store"),
        ('{"a":' + "[" * 100_000, "nests too deep"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        filters.parse(text)
