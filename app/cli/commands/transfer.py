"""`lookalike export` and `lookalike import`: images with their embeddings, to and from files."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli import output, progress, session
from app.cli.help import Json, examples

PARTLY_REFUSED = 3
_LISTED = 20

EXPORT_EPILOG = examples(
    "lookalike export gallery.parquet",
    "lookalike export gallery.npy   also writes gallery.jsonl and gallery.json",
    "lookalike export lite2.parquet --space lite2",
    after="""
The file holds a consistent snapshot of all images and their embeddings in one space, bit for bit as stored, and names
the model that made them. Images without an embedding are included. A .npy file holds float16. The file appears under
its name only when it is complete.
""",
)
IMPORT_EPILOG = examples(
    "lookalike import gallery.parquet            into the space of the same model",
    "lookalike import gallery.parquet --create   create that space first",
    "lookalike import gallery.parquet --check    only validate the file",
    "lookalike import vectors.npy --space lite0 --trust",
    after="""
A file must have uri and embedding; id, sha256, media_type, width, height, caption, attributes (JSON), created_at and
updated_at are optional. Before it writes, import validates the whole file: dimensions, length 1, finite numbers,
duplicate uris, the model's fingerprint. Then it writes a thousand rows per transaction.

Nothing is embedded again. You can run import again at any time, also after an interruption: it skips what is already
stored. It leaves images with another sha256 unchanged, lists them, and exits with code 3.
""",
)


def export(
    path: Annotated[Path, typer.Argument(help="File to write, ending in .parquet or .npy.")],
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Embedding space. Default: the active one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write images and their embeddings to a Parquet or numpy file."""
    from app.archive import transfer
    from app.store import spaces

    with session.connection() as conn:
        chosen = spaces.active(conn) if space is None else spaces.get(conn, space)
        with progress.counted(f"exporting {chosen.name}", transfer.count_images(conn)) as advance_to:
            done = transfer.export(conn, chosen, path, force=force, progress=lambda rows: advance_to(rows, ""))
    output.out(f"{path}: {output.count(done.images, 'image')}, {done.embedded:,} with an embedding in {chosen.name}")


def import_(
    path: Annotated[
        Path, typer.Argument(help="Parquet file, or .npy file with a .jsonl (and optional .json) file beside it.")
    ],
    space: Annotated[
        str | None, typer.Option(metavar="NAME", help="Embedding space. Default: the one of the file's model.")
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Create the space that the file describes.")] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Accept a file without a fingerprint; you vouch for its model.")
    ] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="Scale embeddings to length 1.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace stored captions, attributes and embeddings.")
    ] = False,
    keep_ids: Annotated[bool, typer.Option("--keep-ids", help="Keep the file's ids for new images.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only validate the file; write nothing.")] = False,
    json: Json = False,
) -> None:
    """Import images with embeddings from a file, into the space of the same model."""
    from app.archive import transfer
    from app.archive.files import open_reader

    reader = open_reader(path)
    with session.connection() as conn:
        dimensions = (
            transfer.dimensions_of(conn, reader.origin)
            if create
            else transfer.target_space(conn, reader.origin, space, trust=trust).dimensions
        )
        with progress.counted(f"checking {path}", reader.origin.images or 0) as advance_to:
            rows = transfer.check(reader, dimensions, normalize=normalize, progress=lambda done: advance_to(done, ""))
        if reader.skipped:
            output.note(f"unknown columns skipped: {', '.join(reader.skipped)}; put them into attributes")
        if check:
            output.out(f"{path}: {output.count(rows, 'row')}, all valid")
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
            f"into {chosen.name}, {done.unchanged:,} unchanged"
        )
    if done.other_content:
        shown = ", ".join(done.other_content[:_LISTED])
        output.note(
            f"{output.count(len(done.other_content), 'image')} stored with other bytes, left unchanged: {shown}"
        )
        raise typer.Exit(PARTLY_REFUSED)
