"""The contact sheet: queries beside their results, as one PNG. Imports Pillow only."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

CELL = 168
CAPTION = 44
GAP = 14
MARGIN = 36
HEADER = 92

PAPER = "#fbfaf7"
INK = "#1f2328"
FAINT = "#6b7280"
LINE = "#e3e0d8"
ACCENT = "#2f5d9b"
MATCH = "#2e7d4f"


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture: its file, two lines of text below it, and whether it bears the query's label."""

    path: Path
    title: str
    note: str
    match: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """A query with its results, nearest first; `heading` stands above the results."""

    query: Tile
    results: list[Tile]
    heading: str


def draw(rows: list[Row], *, title: str, subtitle: str) -> Image.Image:
    """Return the sheet; as many columns as the longest row needs."""
    columns = 1 + max(len(row.results) for row in rows)
    row_height = CELL + CAPTION + 30
    width = 2 * MARGIN + columns * CELL + columns * GAP + GAP
    sheet = Image.new("RGB", (width, HEADER + len(rows) * row_height + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 26), title, INK, _font(26))
    pen.text((MARGIN, 62), subtitle, FAINT, _font(15))
    for number, row in enumerate(rows):
        _draw_row(sheet, pen, row, HEADER + number * row_height)
    return sheet


def _draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    pen.line((MARGIN, top + 4, sheet.width - MARGIN, top + 4), LINE)
    pen.text((MARGIN, top + 10), "query", ACCENT, _font(13))
    left = MARGIN + CELL + 3 * GAP
    pen.text((left, top + 10), _fit(pen, row.heading, sheet.width - left - MARGIN, _font(13)), FAINT, _font(13))
    _draw_tile(sheet, pen, row.query, (MARGIN, top + 30), ACCENT)
    for place, tile in enumerate(row.results):
        _draw_tile(sheet, pen, tile, (left + place * (CELL + GAP), top + 30), LINE)


def _draw_tile(sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int], border: str) -> None:
    x, y = corner
    with Image.open(tile.path) as picture:
        fitted = ImageOps.contain(picture.convert("RGB"), (CELL - 12, CELL - 12))
    pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), "white", border, 2 if border == ACCENT else 1)
    sheet.paste(fitted, (x + (CELL - fitted.width) // 2, y + (CELL - fitted.height) // 2))
    text_left = x
    if border != ACCENT:
        dot = (x + 1, y + CELL + 8, x + 9, y + CELL + 16)
        pen.ellipse(dot, MATCH if tile.match else None, MATCH if tile.match else FAINT)
        text_left = x + 15
    pen.text((text_left, y + CELL + 4), _fit(pen, tile.title, x + CELL - text_left, _font(14)), INK, _font(14))
    pen.text((x, y + CELL + 23), _fit(pen, tile.note, CELL, _font(12)), FAINT, _font(12))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(pen: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a text to this many pixels."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(text + "…", font) > width:
        text = text[:-1]
    return text.rstrip() + "…"
