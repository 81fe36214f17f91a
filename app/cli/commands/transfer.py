"""`lookalike export` and `lookalike import`: embeddings leave and come in."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli import output, progress, session
from app.cli.help import Json, examples

PARTLY_REFUSED = 3
_LISTED = 20

EXPORT_EPILOG = examples(
    "lookalike export gallery.parquet",
    "lookalike export gallery.npy               embeddings as float16, with gallery.jsonl and gallery.json beside it",
    "lookalike export lite2.parquet --space lite2",
    after="""
All images as of one moment, with their embeddings in one space, bit for bit as they are stored; images that have none
yet are in the file without. The file says which model made them. It takes its name when it is whole.
""",
)
IMPORT_EPILOG = examples(
    "lookalike import gallery.parquet               into the space of the same model; nothing is embedded again",
    "lookalike import gallery.parquet --create      and makes that space where there is none",
    "lookalike import vectors.npy --space lite0 --trust   a file that does not say which model made it",
    "lookalike import gallery.parquet --check       only looks the file through",
    after="""
A file needs uri and embedding; id, sha256, media_type, width, height, caption, attributes (JSON), created_at and
updated_at may be there. It is looked through as a whole before anything is written: dimension, length 1, finite
numbers, uris that come twice, the model's fingerprint. Then a thousand rows a transaction. Run it again after an
interruption, or whenever you like: what is there already is passed over. Images known here with another sha256 are left
alone, listed, and make exit code 3.
""",
)
_Space = Annotated[str | None, typer.Option("--space", metavar="NAME", help="The embedding space.")]


def export(
    path: Annotated[Path, typer.Argument(help="File to write, ending in .parquet or .npy.")],
    space: _Space = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write images and their embeddings (of the active space, or another) to a Parquet or numpy file."""
    from app.archive import transfer
    from app.store import spaces

    with session.connection() as conn:
        chosen = spaces.active(conn) if space is None else spaces.get(conn, space)
        with progress.counted(f"exporting {chosen.name}", transfer.count_images(conn)) as advance_to:
            done = transfer.export(conn, chosen, path, force=force, progress=lambda rows: advance_to(rows, ""))
    output.out(f"{path}: {output.count(done.images, 'image')}, {done.embedded:,} with an embedding in {chosen.name}")


def import_(
    path: Annotated[Path, typer.Argument(help="A .parquet file, or a .npy with its .jsonl (and .json) beside it.")],
    space: _Space = None,
    create: Annotated[bool, typer.Option("--create", help="Make the space that the file tells of.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="The file says no fingerprint: I know its model.")] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="Scale embeddings to length 1.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace captions, attributes and embeddings that are here.")
    ] = False,
    keep_ids: Annotated[bool, typer.Option("--keep-ids", help="Give new images the ids that the file has.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only look the file through; write nothing.")] = False,
    json: Json = False,
) -> None:
    """Take in images with embeddings that were made elsewhere, by the model of a space that is here."""
    from app.archive import transfer
    from app.archive.files import open_reader

    reader = open_reader(path)
    with session.connection() as conn:
        dimensions = (
            transfer.dimensions_of(conn, reader.origin)
            if create
            else transfer.target_space(conn, reader.origin, space, trust=trust).dimensions
        )
        with progress.counted(f"looking through {path}", reader.origin.images or 0) as advance_to:
            rows = transfer.check(reader, dimensions, normalize=normalize, progress=lambda done: advance_to(done, ""))
        if reader.skipped:
            output.say(f"no columns of ours: {', '.join(reader.skipped)}; put them into attributes")
        if check:
            output.out(f"{path}: {output.count(rows, 'row')}, nothing wrong")
            return
        chosen = (
            transfer.create_space(conn, reader.origin, space)
            if create
            else transfer.target_space(conn, reader.origin, space, trust=trust)
        )
        with progress.counted(f"importing into {chosen.name}", rows) as advance_to:
            done = transfer.load(
                conn,
                reader,
                chosen,
                normalize=normalize,
                overwrite=overwrite,
                keep_ids=keep_ids,
                progress=lambda row: advance_to(row, ""),
            )
    if json:
        output.as_json(done)
    else:
        output.out(
            f"{output.count(done.rows, 'row')}: {done.inserted:,} new images, {done.embedded:,} embeddings written "
            f"into {chosen.name}, {done.unchanged:,} there already"
        )
    if done.other_content:
        shown = ", ".join(done.other_content[:_LISTED])
        output.say(f"{output.count(len(done.other_content), 'image')} with other bytes here left as they are: {shown}")
        raise typer.Exit(PARTLY_REFUSED)
