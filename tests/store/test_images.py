"""app.store.images: rows in and out, merge patches, and the triggers' reaction to changes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app import db
from app.errors import ConflictError, DatabaseUnavailableError, InvalidInputError, NotFoundError
from app.store import images


@pytest.fixture(scope="module")
def shared_url(new_database: Callable[..., str], template: str) -> str:
    return new_database(template)


@pytest.fixture
def conn(shared_url: str) -> Iterator[db.Connection]:
    """Yield a connection to a database that these tests share; each test rolls back."""
    with db.connect(shared_url) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def spaced(conn: db.Connection) -> db.Connection:
    """Yield a connection to a database with a space, so that images are queued."""
    conn.execute("SELECT lookalike.create_space('tiny', 'none', 8, '{}', 'f')")
    return conn


def queued(conn: db.Connection) -> list[int]:
    return [row[0] for row in conn.execute("SELECT image_id FROM lookalike.jobs ORDER BY 1").fetchall()]


def test_add_and_get(spaced: db.Connection) -> None:
    added = images.add(
        spaced,
        uri="/a.png",
        caption="A cat",
        attributes={"n": [1, None, {"x": "é"}]},
        sha256="ab" * 32,
        media_type="image/png",
        width=3,
        height=2,
    )
    assert images.get(spaced, added.id) == added
    assert (added.uri, added.caption, added.attributes) == ("/a.png", "A cat", {"n": [1, None, {"x": "é"}]})
    assert (added.sha256, added.media_type, added.width, added.height) == ("ab" * 32, "image/png", 3, 2)
    assert queued(spaced) == [added.id]
    assert images.id_of_uri(spaced, "/a.png") == added.id
    assert images.id_of_uri(spaced, "/b.png") is None


def test_get_many_keeps_the_order_and_skips_unknown_ids(conn: db.Connection) -> None:
    made = [images.add(conn, uri=f"/{n}.png").id for n in range(3)]
    wanted = [made[2], 10**12, made[0], made[2]]
    assert [image.id for image in images.get_many(conn, wanted)] == [made[2], made[0], made[2]]
    assert images.get_many(conn, []) == []


def test_unknown_image(conn: db.Connection) -> None:
    for call in (
        lambda: images.get(conn, 10**15),
        lambda: images.update(conn, 10**15, {"caption": "x"}),
        lambda: images.delete(conn, 10**15),
    ):
        with pytest.raises(NotFoundError, match="there is no image 1000000000000000"):
            call()


def test_id_out_of_bigint(conn: db.Connection) -> None:
    with pytest.raises(InvalidInputError, match="bigint"):
        images.get(conn, 2**63)


@pytest.mark.parametrize("change", [{"uri": ""}, {"uri": "a\0b"}, {"caption": "a\0b"}, {"sha256": "abc"}])
def test_bad_values(conn: db.Connection, change: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        images.add(conn, **{"uri": "/a.png", **change})  # type: ignore[arg-type]


def test_uri_is_unique(conn: db.Connection) -> None:
    images.add(conn, uri="/a.png")
    with pytest.raises(ConflictError, match=r"/a\.png"), conn.transaction():
        images.add(conn, uri="/a.png")
    other = images.add(conn, uri="/b.png")
    with pytest.raises(ConflictError, match=r"/a\.png"):
        images.update(conn, other.id, {"uri": "/a.png"})


# The examples of RFC 7396, appendix A, that are objects.
@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": 1}, None, {}),
    ],
)
def test_merge_patch_of_attributes(
    conn: db.Connection, before: dict[str, Any], patch: dict[str, Any] | None, after: dict[str, Any]
) -> None:
    image = images.add(conn, uri="/a.png", caption="kept", attributes=before)
    changed = images.update(conn, image.id, {"attributes": patch})
    assert changed.attributes == after
    assert changed.caption == "kept"
    assert images.get(conn, image.id) == changed


def test_a_new_uri_queues_the_image_and_metadata_does_not(spaced: db.Connection) -> None:
    image = images.add(spaced, uri="/a.png", sha256="ab" * 32)
    spaced.execute("DELETE FROM lookalike.jobs")
    changed = images.update(spaced, image.id, {"caption": None, "attributes": {"a": 1}})
    assert (changed.caption, changed.sha256) == (None, "ab" * 32)
    assert queued(spaced) == []
    moved = images.update(spaced, image.id, {"uri": "/b.png"})
    assert (moved.uri, moved.sha256) == ("/b.png", None)
    assert queued(spaced) == [image.id]


@pytest.mark.parametrize("patch", [{"id": 3}, {"sha256": "ab"}, {"uri": None}, {"uri": 3}, {"attributes": [1]}])
def test_bad_patches(conn: db.Connection, patch: dict[str, Any]) -> None:
    image = images.add(conn, uri="/a.png")
    with pytest.raises(InvalidInputError):
        images.update(conn, image.id, patch)


def test_delete(spaced: db.Connection) -> None:
    image = images.add(spaced, uri="/a.png")
    assert images.delete(spaced, image.id) == image
    assert images.get_many(spaced, [image.id]) == []
    assert queued(spaced) == []


def test_two_sessions_patch_one_image_without_losing_either(database_url: str) -> None:
    with db.connect(database_url) as one, db.connect(database_url, autocommit=True) as other:
        image = images.add(one, uri="/a.png", attributes={})
        one.commit()
        images.update(one, image.id, {"attributes": {"a": 1}})
        other.execute("SET lock_timeout = '100ms'")
        with pytest.raises(DatabaseUnavailableError, match="lock timeout"):
            images.update(other, image.id, {"attributes": {"b": 2}})
        one.commit()
        assert images.update(other, image.id, {"attributes": {"b": 2}}).attributes == {"a": 1, "b": 2}


def test_the_caller_owns_the_transaction(shared_url: str, conn: db.Connection) -> None:
    image = images.add(conn, uri="/kept.png")
    conn.commit()
    images.add(conn, uri="/a.png")
    images.update(conn, image.id, {"caption": "lost"})
    images.delete(conn, image.id)
    conn.rollback()
    with db.connect(shared_url) as other:
        assert images.id_of_uri(other, "/a.png") is None
        assert images.get(other, image.id) == image
        images.delete(other, image.id)
