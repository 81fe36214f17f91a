"""`lookalike compare-spaces`, and `space compare`, which compares with the active space."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.help import Json, examples
from app.errors import ConfigurationError, InvalidInputError

if TYPE_CHECKING:
    from app.tuning.compare_spaces import Comparison, Side

EPILOG = examples(
    "lookalike compare-spaces lite0 lite2 --label category",
    "lookalike compare-spaces lite0 lite2 --sheet differences.png",
    "lookalike compare-spaces lite0 lite2 --sample 1000 --json",
    "lookalike compare-spaces lite0 lite2 *.jpg     query images; needs a worker",
    after="Searches both spaces by the same stored images, each by its own embedding, and leaves out the image "
    "itself. Images per second are what workers recorded (lookalike costs). The contact sheet shows the images whose "
    "neighbours differ most.",
)
Neighbors = Annotated[int, typer.Option("-k", min=1, max=1000, help="Number of neighbours per image.")]
Sample = Annotated[int, typer.Option(min=1, max=100_000, help="Number of stored images to search by.")]
Label = Annotated[
    str | None, typer.Option(metavar="ATTRIBUTE", help="Count neighbours with the same value as correct.")
]
Sheet = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Contact sheet of the largest disagreements to write: .png, .jpg or .webp."),
]
Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="IMAGE", help="Query images. Default: a sample of stored images.", show_default=False),
]
Examples = Annotated[int, typer.Option(min=0, max=100, help="Number of disagreements to show.")]


def compare_spaces(
    first: Annotated[str, typer.Argument(help="First space; lookalike space ls lists them.")],
    second: Annotated[str, typer.Argument(help="Second space.")],
    files: Files = None,
    k: Neighbors = 10,
    sample: Sample = 100,
    label: Label = None,
    sheet: Sheet = None,
    examples: Examples = 6,
    json: Json = False,
) -> None:
    """Compare two spaces on the same images: precision, common neighbours, speed, bytes and disagreements."""
    run(first, second, files or [], k=k, sample=sample, label=label, sheet=sheet, examples=examples, json=json)


def compare(
    name: Annotated[str, typer.Argument(help="Space; lookalike space ls lists them.")],
    files: Files = None,
    other: Annotated[
        str | None, typer.Option("--with", metavar="NAME", help="Space to compare with. Default: the active one.")
    ] = None,
    k: Neighbors = 10,
    sample: Sample = 100,
    label: Label = None,
    sheet: Sheet = None,
    examples: Examples = 6,
    json: Json = False,
) -> None:
    """Compare a space with the active one on the same images; see lookalike compare-spaces.

    Searches by a sample of stored images, or by query images, which a live worker embeds in both spaces.
    """
    run(other, name, files or [], k=k, sample=sample, label=label, sheet=sheet, examples=examples, json=json)


def run(
    first: str | None,
    second: str,
    files: list[Path],
    *,
    k: int,
    sample: int,
    label: str | None,
    sheet: Path | None,
    examples: int,
    json: bool,
) -> None:
    """Compare by query images or by stored ones, print and draw. The first space defaults to the active one."""
    from app.media.limits import limits_of
    from app.store import spaces
    from app.tuning import compare_sheet, compare_spaces

    if files and (label or sheet):
        option = f"--label {label}" if label else f"--sheet {sheet}"
        raise InvalidInputError(f"{option} needs stored images: leave out the query images")
    _check_file(sheet)
    with session.connection() as conn:
        one = first or spaces.active(conn).name
        if files:
            timeout = session.settings().query_timeout
            found = compare_spaces.compare_by(conn, one, second, map(_bytes_of, files), k=k, timeout=timeout)
        else:
            found = compare_spaces.compare(conn, one, second, k=k, sample=sample, label=label, examples=examples)
        if sheet is not None:
            picture = compare_sheet.draw(conn, found, limits=limits_of(session.settings()))
    if json:
        output.as_json(found)
    else:
        _show(found)
    if sheet is not None:
        try:
            picture.save(sheet)
        except OSError as error:
            raise ConfigurationError(f"cannot write the sheet to {sheet}: {error.strerror or error}") from error
        output.note(f"{output.count(len(found.examples), 'disagreement')} drawn in {sheet}")


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"cannot read query image {file}: {error.strerror}") from error


def _check_file(sheet: Path | None) -> None:
    """Raise InvalidInputError if the sheet's name or folder is not usable."""
    if sheet is None:
        return
    if sheet.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise InvalidInputError(f"--sheet {sheet}: name a .png, .jpg or .webp file")
    if not sheet.absolute().parent.is_dir():
        raise InvalidInputError(f"--sheet {sheet}: folder {sheet.absolute().parent} does not exist")


def _show(found: "Comparison") -> None:
    output.table(
        [
            "space",
            ">mean distance",
            f">precision@{found.k}" + (f" of {found.label}" if found.label else ""),
            ">bytes per image",
            "images per second",
        ],
        [_row(one) for one in (found.first, found.second)],
    )
    output.out(f"{found.overlap:.3f} of the {found.k} neighbours in common, over {output.count(found.images, 'image')}")
    if found.gain is not None:
        verdict = "higher" if found.gain.low > 0 else "lower" if found.gain.high < 0 else "no significant difference"
        output.out(
            f"precision of {found.second.space} minus that of {found.first.space}: {found.gain.precision:+.3f} "
            f"(95 %: {found.gain.low:+.3f} to {found.gain.high:+.3f}), {verdict}"
        )
    if found.examples:
        images = ", ".join(f"{one.image_id} ({one.overlap:.0%})" for one in found.examples)
        output.out(f"fewest neighbours in common: images {images}")


def _row(one: "Side") -> tuple[object, ...]:
    speeds = "; ".join(f"{speed:.1f} ({device})" for device, speed in one.per_second.items())
    return (
        one.space,
        f"{one.distance:.3f}",
        None if one.precision is None else f"{one.precision:.3f}",
        None if one.bytes_per_image is None else f"{one.bytes_per_image:,.0f}",
        speeds or "unknown: no worker has recorded its speed yet",
    )
