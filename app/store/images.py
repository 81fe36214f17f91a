"""Read, add, change and delete images.

The caller owns the transaction. The table's triggers keep embeddings and jobs up to date.
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
    """A row of `lookalike.images`; `sha256` is in hex."""

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
    """Return one image.

    Raises:
        NotFoundError: there is no such image.
    """
    found = get_many(conn, [image_id])
    if not found:
        raise _unknown(image_id)
    return found[0]


def get_many(conn: Connection, image_ids: Iterable[int]) -> list[Image]:
    """Return these images in the order of `image_ids`; skip unknown ids."""
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
    """Add an image and return it; a worker embeds it after this transaction commits.

    `sha256` is in hex. If it, the media type or the size is not given, the worker fills it in.

    Raises:
        ConflictError: an image with this uri exists.
        InvalidInputError: the uri is empty, or another value cannot be stored.
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
    """Add images by uri, in one statement if all values can be stored; return for each the image or its error.

    Call it in a transaction. An image that cannot be added does not affect the others; a repeated uri is added once.
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
    return ConflictError(f"image {id_of_uri(conn, uri)} already has this uri: {uri}")


def ls(
    conn: Connection,
    *,
    filter: Json | None = None,  # noqa: A002
    after_id: int | None = None,
    limit: int = 100,
) -> list[Image]:
    """Return up to `limit` images that match a filter, with ids above `after_id`, in order of id."""
    values = {"filter": None if filter is None else Jsonb(filter), "after_id": after_id, "max_rows": limit}
    return _rows(conn, "list_images", values)


def lock(conn: Connection, image_id: int) -> Image:
    """Return an image, and lock it against other writers until the transaction ends.

    Raises:
        NotFoundError: there is no such image.
    """
    with translated():
        if conn.execute(sql.query("lock_image"), {"id": image_id}).fetchone() is None:
            raise _unknown(image_id)
    return get(conn, image_id)


def update(conn: Connection, image_id: int, patch: Json) -> Image:
    """Apply a JSON merge patch (RFC 7396) to an image's caption, attributes and uri; return the changed image.

    In `attributes`, null removes a key and an object is merged into the existing one; null as the whole value removes
    all attributes. An image with a new uri is embedded again. On a connection in autocommit, open a transaction.

    Raises:
        NotFoundError: there is no such image.
        ConflictError: another image has the uri.
        InvalidInputError: the patch is not valid.
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
    """Delete an image with its embeddings and jobs; return the deleted image.

    Raises:
        NotFoundError: there is no such image.
    """
    found = _rows(conn, "delete_image", {"id": image_id})
    if not found:
        raise _unknown(image_id)
    return found[0]


def lock_upload(conn: Connection, uri: str) -> None:
    """Lock the uploaded file behind `uri` until this transaction ends; lock it before storing or removing it.

    Content names the files, so one request may remove a file that another has just found in place.
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
    """Return `target` with a JSON merge patch (RFC 7396) applied."""
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
