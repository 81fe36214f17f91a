"""Draw a contact sheet: queries beside their results, as one image."""

from dataclasses import dataclass
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont, ImageOps

CELL = 168
CAPTION = 44
HEADING = 30
GAP = 14
MARGIN = 36
HEADER = 92

PAPER = "#fbfaf7"
INK = "#1f2328"
FAINT = "#6b7280"
LINE = "#e3e0d8"
ACCENT = "#2f5d9b"
MATCH = "#2e7d4f"
MARKED = "#c77d1e"


class Picture(Protocol):
    """Loader of a tile's picture, called when the tile is drawn, so that one picture is in memory at a time."""

    def __call__(self) -> Image.Image | None:
        """Return the picture, or None if it cannot be read."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture with two lines of text below it.

    `match` is whether it has the query's label, shown as a dot (None: no dot). `marked` gives it a coloured frame.
    """

    picture: Picture
    title: str
    note: str
    match: bool | None = True
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of results, nearest first, under a heading."""

    results: list[Tile]
    heading: str


@dataclass(frozen=True, slots=True)
class Row:
    """A query with one line of results, or with several lines to compare."""

    query: Tile
    lines: list[Line]


def draw(rows: list[Row], *, title: str, subtitle: str) -> Image.Image:
    """Return the sheet, as wide as its longest line."""
    columns = 1 + max((len(line.results) for row in rows for line in row.lines), default=0)
    width = 2 * MARGIN + columns * CELL + columns * GAP + GAP
    heights = [max(len(row.lines), 1) * (HEADING + CELL + CAPTION) for row in rows]
    sheet = Image.new("RGB", (width, HEADER + sum(heights) + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 26), _fit(pen, title, width - 2 * MARGIN, _font(26)), INK, _font(26))
    pen.text((MARGIN, 62), _fit(pen, subtitle, width - 2 * MARGIN, _font(15)), FAINT, _font(15))
    top = HEADER
    for row, height in zip(rows, heights, strict=True):
        _draw_row(sheet, pen, row, top)
        top += height
    return sheet


def _draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    pen.line((MARGIN, top + 4, sheet.width - MARGIN, top + 4), LINE)
    pen.text((MARGIN, top + 10), "query", ACCENT, _font(13))
    _draw_tile(sheet, pen, row.query, (MARGIN, top + HEADING), ACCENT)
    left = MARGIN + CELL + 3 * GAP
    for number, line in enumerate(row.lines):
        above = top + number * (HEADING + CELL + CAPTION)
        pen.text((left, above + 10), _fit(pen, line.heading, sheet.width - left - MARGIN, _font(13)), FAINT, _font(13))
        for place, tile in enumerate(line.results):
            corner = (left + place * (CELL + GAP), above + HEADING)
            _draw_tile(sheet, pen, tile, corner, MARKED if tile.marked else LINE)


def _draw_tile(sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int], border: str) -> None:
    x, y = corner
    pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), "white", border, 1 if border == LINE else 2)
    picture = tile.picture()
    if picture is None:
        _draw_missing(pen, corner)
    else:
        fitted = ImageOps.contain(picture.convert("RGB"), (CELL - 12, CELL - 12))
        sheet.paste(fitted, (x + (CELL - fitted.width) // 2, y + (CELL - fitted.height) // 2))
    text_left = x
    if border != ACCENT and tile.match is not None:
        dot = (x + 1, y + CELL + 8, x + 9, y + CELL + 16)
        pen.ellipse(dot, MATCH if tile.match else None, MATCH if tile.match else FAINT)
        text_left = x + 15
    pen.text((text_left, y + CELL + 4), _fit(pen, tile.title, x + CELL - text_left, _font(14)), INK, _font(14))
    pen.text((x, y + CELL + 23), _fit(pen, tile.note, CELL, _font(12)), FAINT, _font(12))


def _draw_missing(pen: ImageDraw.ImageDraw, corner: tuple[int, int]) -> None:
    text = "cannot be read"
    width = pen.textlength(text, _font(13))
    pen.text((corner[0] + (CELL - width) / 2, corner[1] + CELL / 2 - 9), text, FAINT, _font(13))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(pen: ImageDraw.ImageDraw, text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return the text, shortened to `width` pixels."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(text + "…", font) > width:
        text = text[:-1]
    return text.rstrip() + "…"
