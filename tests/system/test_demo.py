"""The demo's tour and contact sheet, on a gallery that a real worker embedded."""

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from app import db
from app.db.embedded import EmbeddedServer
from app.demo import tour
from app.errors import NotFoundError
from app.media import contact_sheet
from tests.support.running import Running

pytestmark = pytest.mark.long


@pytest.fixture
def stops(live: Running) -> list[tour.Visit]:
    with db.connect(live.url) as conn:
        return [
            tour.visit(conn, tour.Stop("mammals-04.jpg")),
            tour.visit(conn, tour.Stop("birds-05.jpg", {"category": "animals", "color": {"$ne": "it's"}})),
        ]


def test_a_visit_and_its_statement_find_the_same_nearest_images(
    server: EmbeddedServer, live: Running, stops: list[tour.Visit]
) -> None:
    for seen in stops:
        distances = [neighbor.distance for neighbor in seen.answer.hits]
        assert len(distances) == tour.RESULTS
        assert distances == sorted(distances)
        pasted = subprocess.run(
            [server.bin_dir / "psql", live.url, "-At", "-v", "ON_ERROR_STOP=1", "-c", tour.statement(seen)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        assert [line.split("|")[0] for line in pasted] == [n.image.caption for n in seen.answer.hits]


def test_every_stop_of_the_tour_is_a_file_of_the_gallery() -> None:
    for stop in tour.STOPS:
        assert (tour.GALLERY / stop.file).is_file()


def test_the_sheet_shows_every_picture(tmp_path: Path, stops: list[tour.Visit]) -> None:
    drawn = contact_sheet.draw([tour.sheet_row(seen) for seen in stops], title="T", subtitle="S")
    drawn.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as read:
        assert read.size == drawn.size
    # Each tile has a picture with many colours; the background has one.
    for column in range(tour.RESULTS):
        x = (
            contact_sheet.MARGIN
            + contact_sheet.CELL
            + 3 * contact_sheet.GAP
            + column * (contact_sheet.CELL + contact_sheet.GAP)
        )
        tile = drawn.crop(
            (x, contact_sheet.HEADER + 30, x + contact_sheet.CELL, contact_sheet.HEADER + 30 + contact_sheet.CELL)
        )
        assert len(tile.getcolors(2**16) or []) > 50


def test_label_precision_counts_neighbours_of_the_same_label(conn: db.Connection) -> None:
    conn.execute("SELECT lookalike.create_space('s', 'm', 2, '{}', 'f')")
    conn.execute(
        """INSERT INTO lookalike.images (uri, attributes) VALUES ('a', '{"l": "x"}'), ('b', '{"l": "x"}'),
           ('c', '{"l": "y"}'), ('d', '{}')"""
    )
    conn.execute(
        """INSERT INTO lookalike.embeddings_1
           SELECT id, l2_normalize(('[1,' || 0.1 * row_number() OVER (ORDER BY id) || ']')::halfvec)
           FROM lookalike.images"""
    )
    # a's nearest is b (hit), b's is a or c (both 0.1 away in slope; a is further in angle), c's is d (no label).
    assert tour.label_precision(conn, "l", k=3) == pytest.approx((1 + 1 + 0) / 9)
    with pytest.raises(NotFoundError, match='attribute "nothing"'):
        tour.label_precision(conn, "nothing")
