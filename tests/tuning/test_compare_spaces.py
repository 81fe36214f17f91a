"""Two spaces on the same images: precision, common neighbours, speed, bytes, and a sheet of disagreements."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from psycopg.types.json import Jsonb
from typer.testing import CliRunner

from app import cli, db
from app.config import Settings, settings
from app.errors import NotFoundError
from app.media import contact_sheet
from app.media.limits import limits_of
from app.store import spaces
from app.tuning import compare_sheet, compare_spaces
from tests.support.gallery_data import half

KINDS = ("red", "green", "blue")


@pytest.fixture
def url(database_url: str, tmp_path: Path) -> str:
    """A database of 24 pictures, one deleted; space `sees` clusters them by colour, space `guesses` is random."""
    draw = np.random.default_rng(1)
    with db.connect(database_url, autocommit=True) as conn:
        for name, dimensions in (("sees", 8), ("guesses", 6)):
            spaces.create(
                conn, name=name, model=name, weights=None, dimensions=dimensions, preprocessing={}, fingerprint=name
            )
        for n in range(24):
            file = tmp_path / f"{n}.png"
            Image.new("RGB", (40 + n, 60), KINDS[n % 3]).save(file)
            conn.execute(
                "INSERT INTO lookalike.images (uri, attributes) VALUES (%s, %s)",
                (str(file), Jsonb({"kind": KINDS[n % 3]})),
            )
            near = np.eye(8)[n % 3] + draw.normal(scale=0.05, size=8)
            any_ = draw.normal(size=6)
            for table, vector in (("embeddings_1", near), ("embeddings_2", any_)):
                values = (n + 1, half(vector / np.linalg.norm(vector)))
                conn.execute(f"INSERT INTO lookalike.{table} VALUES (%s, %s)", values)
        conn.execute("DELETE FROM lookalike.jobs")
        conn.execute("SELECT lookalike.add_costs('cpu', '{1,1}', '{busy,searchable}', '{0,100}', '{4,0}')")
        (tmp_path / "3.png").unlink()
    return database_url


def test_a_good_space_is_distinguished_from_a_random_one(url: str) -> None:
    with db.connect(url) as conn:
        found = compare_spaces.compare(conn, "sees", "guesses", k=5, label="kind")
        itself = compare_spaces.compare(conn, "sees", "sees", k=5)
        with pytest.raises(NotFoundError, match="'nothing'"):
            compare_spaces.compare(conn, "sees", "nothing")
    assert found.first.precision == 1
    assert found.gain is not None
    assert found.gain.high < 0
    assert found.gain.precision == pytest.approx((found.second.precision or 0) - 1)
    assert found.first.per_second == {"cpu": 25}
    assert found.second.per_second == {}
    assert found.first.bytes_per_image is not None
    assert len(found.examples) == 6
    worst = found.examples[0]
    assert worst.overlap == min(one.overlap for one in found.examples)
    assert worst.overlap == len(set(worst.first_ids) & set(worst.second_ids)) / 5
    assert all((near - worst.image_id) % 3 == 0 for near in worst.first_ids)
    assert (itself.overlap, itself.examples, itself.gain) == (1, [], None)


def test_the_sheet_shows_both_lines_and_marks_common_neighbours(url: str, tmp_path: Path) -> None:
    with db.connect(url) as conn:
        found = compare_spaces.compare(conn, "sees", "guesses", k=5, label="kind", examples=24)
        (missing,) = [one for one in found.examples if one.image_id == 4]
        (other,) = [one for one in found.examples if one.image_id == 5]
        drawn = compare_sheet.draw(
            conn, replace(found, examples=[other, missing]), limits=limits_of(Settings(home=tmp_path))
        )
    line = contact_sheet.HEADING + contact_sheet.CELL + contact_sheet.CAPTION
    assert drawn.height == contact_sheet.HEADER + 4 * line + contact_sheet.MARGIN

    def middle(row: int, place: int) -> tuple[int, ...]:
        x = contact_sheet.MARGIN + (
            0
            if place < 0
            else contact_sheet.CELL + 3 * contact_sheet.GAP + place * (contact_sheet.CELL + contact_sheet.GAP)
        )
        y = contact_sheet.HEADER + row * line + contact_sheet.HEADING
        return tuple(drawn.getpixel((x + contact_sheet.CELL // 2, y + contact_sheet.CELL // 2)))  # type: ignore[arg-type]

    assert middle(0, -1) == (0, 128, 0), "the query"
    assert [middle(0, place) for place in range(5)] == [(0, 128, 0)] * 5, "its neighbours in the first space"
    shown = [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert [middle(1, place) for place in range(5)] == [
        (255, 255, 255) if near == 4 else shown[(near - 1) % 3] for near in other.second_ids
    ]
    assert middle(2, -1)[:3] not in shown, "the place of a deleted picture is empty"


def test_the_command_line_compares_and_draws(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOOKALIKE_DATABASE_URL", url)
    settings.cache_clear()
    try:
        run = CliRunner()
        target = tmp_path / "sheet.png"
        done = run.invoke(
            cli.app, ["compare-spaces", "sees", "guesses", "--label", "kind", "-k", "5", "--sheet", str(target)]
        )
        assert done.exit_code == 0, done.output
        assert "25.0 (cpu)" in done.stdout
        assert ", lower\n" in done.stdout
        with Image.open(target) as drawn:
            assert drawn.width > 1000
        same = run.invoke(cli.app, ["space", "compare", "guesses", "--label", "kind", "-k", "5"])
        assert same.stdout == done.stdout
        assert '"gain"' in run.invoke(cli.app, ["compare-spaces", "sees", "guesses", "--json"]).stdout
        wrong = run.invoke(cli.app, ["compare-spaces", "sees", "guesses", "--sheet", str(tmp_path / "no" / "a.png")])
        assert (wrong.exit_code, "does not exist" in wrong.output) == (1, True)
    finally:
        settings.cache_clear()
