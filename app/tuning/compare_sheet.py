"""Draw the disagreements of two embedding spaces as a contact sheet."""

import logging
from functools import partial

import PIL.Image

from app.db import Connection
from app.errors import ImageError
from app.media import contact_sheet
from app.media.contact_sheet import Line, Row, Tile
from app.media.decode import load
from app.media.fetch import fetch
from app.media.limits import Limits
from app.store import images
from app.store.images import Image
from app.tuning.compare_spaces import Comparison

log = logging.getLogger(__name__)

_MOST_COLUMNS = 10


def draw(conn: Connection, found: Comparison, *, limits: Limits) -> PIL.Image.Image:
    """Return a sheet with one row per example: its neighbours in the first space above those in the second.

    The place of a picture that cannot be read stays empty, and the reason is logged.
    """
    wanted = {one.image_id for one in found.examples}
    wanted |= {near for one in found.examples for near in (*one.first_ids, *one.second_ids)}
    known = {image.id: image for image in images.get_many(conn, sorted(wanted))}
    rows = []
    for one in found.examples:
        if one.image_id not in known:  # deleted since
            continue
        query = known[one.image_id]
        lines = [
            _line(space, ids, others, query, found, known, limits)
            for space, ids, others in (
                (found.first.space, one.first_ids, one.second_ids),
                (found.second.space, one.second_ids, one.first_ids),
            )
        ]
        rows.append(Row(Tile(partial(_read, query, limits), _title(query), _label(query, found)), lines))
    legend = "orange frame: found in both spaces"
    if found.label is not None:
        legend = f"green dot: same {found.label}; {legend}"
    return contact_sheet.draw(
        rows,
        title=f"{found.first.space} and {found.second.space}: the images on which they disagree most",
        subtitle=f"{found.overlap:.0%} of the {found.k} nearest in common, over {found.images:,} images; {legend}",
    )


def _line(
    space: str,
    ids: list[int],
    others: list[int],
    query: Image,
    found: Comparison,
    known: dict[int, Image],
    limits: Limits,
) -> Line:
    shown = [known[one] for one in ids[:_MOST_COLUMNS] if one in known]
    tiles = [
        Tile(
            partial(_read, image, limits),
            _title(image),
            _label(image, found),
            match=_match(query, image, found.label),
            marked=image.id in others,
        )
        for image in shown
    ]
    heading = f"{space}: {sum(one in others for one in ids)} of {len(ids)} in common"
    if any(tile.match is not None for tile in tiles):
        heading += f", {sum(bool(tile.match) for tile in tiles)} of {len(tiles)} with the same {found.label}"
    return Line(tiles, heading)


def _match(query: Image, image: Image, label: str | None) -> bool | None:
    if label is None or label not in query.attributes:
        return None
    return bool(image.attributes.get(label) == query.attributes[label])


def _read(image: Image, limits: Limits) -> PIL.Image.Image | None:
    try:
        return load(fetch(image.uri, limits=limits), limits, target=(contact_sheet.CELL, contact_sheet.CELL)).image
    except ImageError as error:
        log.warning("the picture of image %d cannot be shown: %s", image.id, error)
        return None


def _title(image: Image) -> str:
    return image.caption or image.uri.rsplit("/", 1)[-1] or f"image {image.id}"


def _label(image: Image, found: Comparison) -> str:
    value = image.attributes.get(found.label) if found.label is not None else None
    return f"{image.id}" if value is None else f"{image.id}  {value}"
