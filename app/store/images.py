"""Images: read, add, change, delete.

The caller owns the transaction; what a change means for embeddings and jobs is the business of the table's triggers.
"""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.errors import ConflictError, InvalidInputError, LookalikeError, NotFoundError
from app.types import Json

_PATCHABLE = ("caption", "attributes", "uri")


@dataclass(frozen=True, slots=True)
class Image:
    """A row of `lookalike.images`; sha256 in hex."""

    id: int
    uri: str
    sha256: str | None
    media_type: str | None
    width: int | None
    height: int | None
    caption: str | None
    attributes: Json
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to add by its uri."""

    uri: str
    caption: str | None
    attributes: Json


def get(conn: Connection, image_id: int) -> Image:
    """Return one image, or raise NotFoundError."""
    found = get_many(conn, [image_id])
    if not found:
        raise _unknown(image_id)
    return found[0]


def get_many(conn: Connection, image_ids: Iterable[int]) -> list[Image]:
    """Return these images in the order of their ids as given; unknown ids are left out."""
    wanted = list(image_ids)
    by_id = {image.id: image for image in _rows(conn, "images", {"ids": wanted})}
    return [by_id[image_id] for image_id in wanted if image_id in by_id]


def id_of_uri(conn: Connection, uri: str) -> int | None:
    """Return the id of the image with this uri, or None."""
    with translated():
        row = conn.execute(sql.query("image_id_of_uri"), {"uri": uri}).fetchone()
    return None if row is None else int(str(row[0]))


def add(
    conn: Connection,
    *,
    uri: str,
    caption: str | None = None,
    attributes: Json | None = None,
    sha256: str | None = None,
    media_type: str | None = None,
    width: int | None = None,
    height: int | None = None,
) -> Image:
    """Add an image and return it; a worker embeds it once this transaction has committed.

    sha256 is in hex; it and the rest that describes the bytes is filled in by the worker where it is not given.
    ConflictError where the uri is there already, InvalidInputError where it is empty.
    """
    return _rows(
        conn,
        "add_image",
        {
            "uri": uri,
            "caption": caption,
            "attributes": Jsonb(attributes or {}),
            "sha": sha256,
            "media_type": media_type,
            "width": width,
            "height": height,
        },
    )[0]


def add_many(conn: Connection, new: Sequence[NewImage]) -> list[Image | LookalikeError]:
    """Add images by uri, in one statement where all values can be stored; for each, in order, the image or its error.

    Inside a transaction. An image that cannot be added hinders no other; a uri that comes twice is added once.
    """
    if not new:
        return []
    try:
        with conn.transaction():
            return _add_at_once(conn, new)
    except InvalidInputError:
        return [_added_alone(conn, one) for one in new]


def _add_at_once(conn: Connection, new: Sequence[NewImage]) -> list[Image | LookalikeError]:
    values = {
        "uris": [one.uri for one in new],
        "captions": [one.caption for one in new],
        "attributes": [Jsonb(one.attributes) for one in new],
    }
    made: dict[str, Image | LookalikeError] = {image.uri: image for image in _rows(conn, "add_images", values)}
    return [made.pop(one.uri) if one.uri in made else _there_already(conn, one.uri) for one in new]


def _added_alone(conn: Connection, one: NewImage) -> Image | LookalikeError:
    try:
        with conn.transaction():
            return add(conn, uri=one.uri, caption=one.caption, attributes=one.attributes)
    except ConflictError:
        return _there_already(conn, one.uri)
    except InvalidInputError as error:
        return error


def _there_already(conn: Connection, uri: str) -> ConflictError:
    return ConflictError(f"image {id_of_uri(conn, uri)} has the uri already: {uri}")


def ls(
    conn: Connection,
    *,
    filter: Json | None = None,  # noqa: A002
    after_id: int | None = None,
    limit: int = 100,
) -> list[Image]:
    """Return up to `limit` images that pass a filter, by id, the first above `after_id`."""
    values = {"filter": None if filter is None else Jsonb(filter), "after_id": after_id, "max_rows": limit}
    return _rows(conn, "list_images", values)


def lock(conn: Connection, image_id: int) -> Image:
    """Return an image, locked against other writers until the transaction ends; NotFoundError where it is unknown."""
    with translated():
        if conn.execute(sql.query("lock_image"), {"id": image_id}).fetchone() is None:
            raise _unknown(image_id)
    return get(conn, image_id)


def update(conn: Connection, image_id: int, patch: Json) -> Image:
    """Apply a JSON merge patch (RFC 7396) to caption, attributes and uri of an image, and return it as it is now.

    In `attributes`, null removes a key and an object is merged into one that is there; null in the place of the whole
    takes all attributes away. Another uri means another picture: it is embedded anew. On a connection in autocommit it
    makes a transaction of its own.
    """
    unknown = sorted(patch.keys() - set(_PATCHABLE))
    if unknown:
        raise InvalidInputError(f"{unknown[0]!r} cannot be changed; {', '.join(_PATCHABLE)} can")
    if "uri" in patch and not isinstance(patch["uri"], str):
        raise InvalidInputError(f"an image needs a uri, got {patch['uri']!r}")
    with translated(), conn.transaction() if conn.autocommit else nullcontext():
        row = conn.execute(sql.query("lock_image"), {"id": image_id}).fetchone()
        if row is None:
            raise _unknown(image_id)
        attributes = None
        if "attributes" in patch:
            attributes = Jsonb(_merged_attributes(row[0], patch["attributes"]))
        return _rows(
            conn,
            "update_image",
            {
                "id": image_id,
                "uri": patch.get("uri"),
                "set_caption": "caption" in patch,
                "caption": patch.get("caption"),
                "attributes": attributes,
            },
        )[0]


def delete(conn: Connection, image_id: int) -> Image:
    """Delete an image, and with it its embeddings and jobs; return it as it was, or raise NotFoundError."""
    found = _rows(conn, "delete_image", {"id": image_id})
    if not found:
        raise _unknown(image_id)
    return found[0]


def lock_upload(conn: Connection, uri: str) -> None:
    """Hold until this transaction ends the right to store or remove the uploaded file behind `uri`.

    Uploaded files are named by content, so the file that one request removes may be the one that another has just
    found in place.
    """
    with translated():
        conn.execute(sql.query("lock_upload"), {"uri": uri})


def _rows(conn: Connection, query: str, parameters: dict[str, Any]) -> list[Image]:
    with translated(), conn.cursor(row_factory=class_row(Image)) as cursor:
        return cursor.execute(sql.query(query), parameters).fetchall()


def _merged_attributes(target: object, patch: object) -> object:
    if patch is None:
        return {}
    if not isinstance(patch, dict):
        raise InvalidInputError(f"attributes must be a JSON object, got {patch!r}")
    return _merged(target, patch)


def _merged(target: object, patch: object) -> object:
    """Return `target` with a JSON merge patch applied, as RFC 7396 writes it."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _unknown(image_id: int) -> NotFoundError:
    return NotFoundError(f"there is no image {image_id}")
