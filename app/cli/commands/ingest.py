"""`lookalike ingest`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, progress, session
from app.cli.help import examples
from app.errors import InvalidInputError

if TYPE_CHECKING:
    from app.db import Connection
    from app.ingest.find import Candidate, Refusal
    from app.ingest.register import Batch, Progress

PARTLY_REFUSED = 3
_LISTED = 50
_WATCH = "A folder that is watched"
_VIDEO = "Frames of videos"

EPILOG = examples(
    "lookalike ingest ~/photos                     a folder, with all that is in it",
    "lookalike ingest ~/photos --wait              … and wait until it is searchable",
    "lookalike ingest 'shots/*/front-*.png' a.jpg  patterns, single files",
    "lookalike ingest --manifest products.csv      a CSV: file,title,category,price",
    "lookalike ingest ~/photos --base-uri s3://bucket/photos",
    "lookalike ingest --watch /srv/incoming        what lands there is searchable at once, until Ctrl-C",
    "lookalike ingest clip.mp4 --fps 1             a frame a second; a file, rtsp://, http(s):// or /dev/video0",
    after="""
A CSV names its columns in its first line: file (a path, relative to the CSV) or uri (a URL, registered without being
fetched; or a path) says which image; caption or title is the caption; every other column becomes an attribute to
filter by. A column is a number where every value is one, true/false likewise, else text; --text NAME keeps it text.
Empty cells, and metadata that is not given, leave what the database has. Separators: comma, semicolon or tab; in
UTF-8. With a PATH and a manifest both are ingested, and a file in both has the manifest's metadata.

An image is known by its uri and its content: run it again whenever you like, interrupt it when you like. A file whose
bytes changed is embedded again. In folders, files with other endings and names that begin with a dot are passed over.

--watch takes one folder with all below it. A file is taken when its writer has closed it, or when it has not changed
for half a second, and waited for while its end is missing. Moved files keep their image, changed ones are embedded
again. Symbolic links are passed over. It outlives restarts of the database, and ends at Ctrl-C with exit code 0.

Exit codes: 0 all went in; 3 some were refused (not an image, unreadable, empty, too large), each listed with its
reason, and the others went in; 1 nothing could be done.
""",
)


@dataclass
class _Counts:
    """The sum of what has been committed so far."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    ids: list[int] = field(default_factory=list)
    refused: "list[Refusal]" = field(default_factory=list)

    def add(self, batch: "Batch") -> None:
        self.new += batch.new
        self.changed += batch.changed
        self.unchanged += batch.unchanged
        self.ids += batch.ids
        self.refused += batch.refused

    @property
    def done(self) -> int:
        return self.new + self.changed + self.unchanged + len(self.refused)


def ingest(
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH", help="Folders, files, patterns, CSVs.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="CSV", help="A CSV of images with their metadata; see below.")
    ] = None,
    base_uri: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Register URI/path-in-the-folder: where workers see the files, if not here."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Keep this column of the CSV as text. Repeatable.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the images are searchable.")] = False,
    worker_timeout: Annotated[
        float, typer.Option(min=0, help="With --wait: seconds to go on without any live worker.")
    ] = 60,
    json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Go on: files become images as they land in the folder.", rich_help_panel=_WATCH),
    ] = False,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Delete the images of files that are gone. Else kept.", rich_help_panel=_WATCH),
    ] = False,
    poll: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Look at the whole folder so often. Else told by the kernel; 2 on network filesystems.",
            rich_help_panel=_WATCH,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=0.001, max=1000, metavar="N", help="Frames a second of video time.", rich_help_panel=_VIDEO),
    ] = None,
    skip_similar: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="X",
            help="Leave out a frame that differs from the one before by less: 0 identical, 1 black to white.",
            rich_help_panel=_VIDEO,
        ),
    ] = 0,
    max_lag: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Most that frames wait for a worker: then a file pauses, a live source (60) drops frames.",
            rich_help_panel=_VIDEO,
        ),
    ] = None,
) -> None:
    """Register images, so that a worker embeds them and they become searchable."""
    given, patience = paths or [], worker_timeout if wait else None
    if fps is not None:
        from app.cli.commands import frames as command

        if watch or manifest or base_uri or text or not given:
            raise InvalidInputError("--fps wants videos, and none of --watch, --manifest, --base-uri and --text")
        command.frames(given, fps=fps, skip_similar=skip_similar, max_lag=max_lag, patience=patience, json=json)
        return
    _no_video(given, skip_similar=skip_similar, max_lag=max_lag)
    if watch:
        _watch(given, manifest or text or wait, base_uri=base_uri, delete=delete, poll=poll, json=json)
        return
    if delete or poll is not None:
        raise InvalidInputError(f"{'--delete' if delete else '--poll'} goes with --watch")
    _ingest(given, manifest, base_uri, text or [], patience, json=json)


def _no_video(given: list[str], *, skip_similar: float, max_lag: float | None) -> None:
    """Refuse what makes sense of videos alone."""
    from app.media import video

    if skip_similar or max_lag is not None:
        raise InvalidInputError(f"{'--skip-similar' if skip_similar else '--max-lag'} goes with --fps")
    for one in given:
        if video.is_video(one):
            raise InvalidInputError(f"{one} is a video; say how many frames a second to take: --fps 1")


def _watch(
    paths: list[str], other: object, *, base_uri: str | None, delete: bool, poll: float | None, json: bool
) -> None:
    from app.cli.commands import watch as command

    if len(paths) != 1 or other:
        raise InvalidInputError("--watch wants one folder, and neither --manifest, --text nor --wait")
    command.watch(paths[0], base_uri=base_uri, delete=delete, poll=poll, json=json)


def _ingest(
    paths: list[str],
    manifest: Path | None,
    base_uri: str | None,
    text: list[str],
    patience: float | None,
    *,
    json: bool,
) -> None:
    from app.ingest.find import find_images

    if not paths and not manifest:
        raise InvalidInputError("nothing to ingest: give a folder, a file, a pattern or --manifest CSV")
    found = find_images(paths, manifest=manifest, base_uri=base_uri, text=text)
    counts = _Counts(refused=list(found.refused))
    with session.connection() as conn:
        with _told_anyhow(counts, of=len(found.candidates)):
            _run(conn, found.candidates, counts)
        waiting = _wait(conn, counts.ids, patience) if patience is not None and counts.ids else None
    _tell_refused(counts.refused)
    if json:
        output.as_json(_result(counts, found.skipped, waiting))
    else:
        output.out(_sentence(counts, found.skipped, waiting))
    if counts.refused:
        raise typer.Exit(PARTLY_REFUSED)


def _run(conn: "Connection", candidates: "list[Candidate]", counts: _Counts) -> None:
    from app.ingest import register as domain

    settings = session.settings()
    first = len(counts.refused)
    batches = domain.register_images(
        conn,
        candidates,
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
    )
    with progress.counted("ingesting", len(candidates)) as advance_to:
        for batch in batches:
            counts.add(batch)
            refused = len(counts.refused)
            advance_to(counts.done - first, f"{refused} refused" if refused else "")


@contextmanager
def _told_anyhow(counts: _Counts, *, of: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if counts.ids:
            output.say(f"{len(counts.ids):,} of {of:,} images are in, and stay so; run it again for the rest")
        raise


def _wait(conn: "Connection", ids: list[int], patience: float) -> "Progress":
    from app.ingest import register as domain

    with progress.counted("embedding", len(ids)) as advance_to:

        def show(now: "Progress") -> None:
            notes = [f"{now.failed:,} failed"] * bool(now.failed)
            notes += ["no live worker; start one: lookalike worker"] * (not now.worker_alive)
            advance_to(now.done, ", ".join(notes))

        return domain.wait_until_searchable(conn, ids, patience=patience, progress=show)


def _tell_refused(refused: "list[Refusal]") -> None:
    for one in refused[:_LISTED]:
        output.say(f"refused: {output.shown(one.origin)}: {output.shown(one.reason)}")
    if len(refused) > _LISTED:
        output.say(f"… and {len(refused) - _LISTED:,} more; --json lists all")


def _result(counts: _Counts, skipped: int, waiting: "Progress | None") -> dict[str, object]:
    return {
        "new": counts.new,
        "changed": counts.changed,
        "unchanged": counts.unchanged,
        "refused": counts.refused,
        "skipped": skipped,
        "searchable": waiting.searchable if waiting else None,
        "failed": waiting.failed if waiting else None,
    }


def _sentence(counts: _Counts, skipped: int, waiting: "Progress | None") -> str:
    said = f"{counts.new:,} new, {counts.changed:,} changed, {counts.unchanged:,} unchanged"
    said += f", {len(counts.refused):,} refused"
    if skipped:
        said += f" ({output.count(skipped, 'other file')} passed over)"
    if waiting:
        said += f"; {waiting.searchable:,} searchable"
        if waiting.failed:
            said += f", {waiting.failed:,} failed: lookalike failures"
    return said
