"""The demo's tour: a few searches on the sample gallery, their SQL, and the label precision of the space."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import PIL.Image

from app.db import Connection, sql, translated
from app.errors import NotFoundError
from app.media.contact_sheet import Line, Picture, Row, Tile
from app.search import functions
from app.search.results import SearchResult
from app.store import images
from app.store.images import Image
from app.types import Json

GALLERY = Path(__file__).resolve().parent / "gallery"
MANIFEST = GALLERY / "manifest.csv"

RESULTS = 5


@dataclass(frozen=True, slots=True)
class Stop:
    """One search of the tour: a file of the gallery, and a filter, if any."""

    file: str
    filter: Json | None = None


STOPS = (
    Stop("fruit-23.jpg"),
    Stop("clocks-15.jpg"),
    Stop("flags-12.jpg"),
    Stop("beverages-27.jpg"),
    Stop("bugs-05.jpg"),
    Stop("vehicles-31.jpg"),
    Stop("flowers-13.jpg", {"category": "plants", "color": {"$in": ["red", "pink", "orange"]}}),
)


@dataclass(frozen=True, slots=True)
class Visit:
    """A stop with its answer."""

    stop: Stop
    image: Image
    answer: SearchResult


def visit(conn: Connection, stop: Stop) -> Visit:
    """Search for the images nearest to an image of the gallery.

    Raises:
        NotFoundError: the image is not in the database.
    """
    uri = str(GALLERY / stop.file)
    image_id = images.id_of_uri(conn, uri)
    if image_id is None:
        raise NotFoundError(f"{uri} is not in the database; was the gallery registered from another folder?")
    answer = functions.similar(conn, image_id, k=RESULTS, filter=stop.filter, explain=True)
    return Visit(stop, images.get(conn, image_id), answer)


def statement(visited: Visit) -> str:
    """Return the SQL of a visit for psql: plain on lookalike.gallery, or by lookalike.similar if it has a filter."""
    if visited.stop.filter is None:
        return (
            "SELECT caption, attributes->>'category' AS category,\n"
            f"       embedding <-> lookalike.embedding_of({visited.image.id}) AS distance\n"
            f"FROM lookalike.gallery WHERE id <> {visited.image.id}\n"
            f"ORDER BY embedding <-> lookalike.embedding_of({visited.image.id}) LIMIT {RESULTS};"
        )
    literal = json.dumps(visited.stop.filter).replace("'", "''")
    return (
        "SELECT i.caption, i.attributes->>'category' AS category, s.distance\n"
        f"FROM lookalike.similar({visited.image.id}, {RESULTS},\n       '{literal}') s\n"
        "JOIN lookalike.images i USING (id) ORDER BY s.distance;"
    )


def label_precision(conn: Connection, label: str, *, k: int = RESULTS) -> float:
    """Return the leave-one-out precision at k by this attribute, over all embedded images, by exact search.

    Raises:
        NotFoundError: no embedded image has the attribute.
    """
    with translated():
        row = conn.execute(sql.analyst_query("label_precision"), {"label": label, "k": k}).fetchone()
    if row is None or row[2] is None:
        raise NotFoundError(f'no embedded image has the attribute "{label}"')
    return float(str(row[2]))


def sheet_row(visited: Visit) -> Row:
    """Return the row of the contact sheet for this visit."""
    wanted = visited.image.attributes["subcategory"]
    heading = "nearest neighbours; a green dot marks the same subcategory"
    if visited.stop.filter is not None:
        heading = f"with the filter {json.dumps(visited.stop.filter)}"
    return Row(
        query=Tile(_picture(visited.image), _title(visited.image), _kind(visited.image)),
        lines=[
            Line(
                [
                    Tile(
                        _picture(neighbor.image),
                        _title(neighbor.image),
                        f"{neighbor.distance:.3f}  {_kind(neighbor.image)}",
                        match=neighbor.image.attributes["subcategory"] == wanted,
                    )
                    for neighbor in visited.answer.hits
                ],
                heading,
            )
        ],
    )


def _picture(image: Image) -> Picture:
    return partial(PIL.Image.open, GALLERY / image.uri.rsplit("/", 1)[-1])


def _title(image: Image) -> str:
    return image.caption or f"image {image.id}"


def _kind(image: Image) -> str:
    return f"{image.attributes['category']} / {image.attributes['subcategory']}".replace("_", " ")
