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
_WATCH = "Watching a folder"
_VIDEO = "Video frames"

EPILOG = examples(
    "lookalike ingest ~/photos                      a folder, with subfolders",
    "lookalike ingest ~/photos --wait               … until it is searchable",
    "lookalike ingest 'shots/*/front-*.png' a.jpg   patterns and single files",
    "lookalike ingest --manifest products.csv       CSV: file,title,category,price",
    "lookalike ingest ~/photos --base-uri s3://bucket/photos",
    "lookalike ingest --watch /srv/incoming         new files as they arrive",
    "lookalike ingest clip.mp4 --fps 1              one frame per second of video",
    "lookalike ingest rtsp://camera/live --fps 2    also http(s):// or /dev/video0",
    after="""
You can run ingest again or interrupt it at any time, because an image is identified by its uri and content. A file
whose bytes changed is embedded again. In folders, ingest skips hidden files and files without an image's extension.

Manifest: the first line of the CSV names the columns. "file" (a path relative to the CSV) or "uri" (a path, or a URL
that is registered without a fetch) identifies the image. "caption" or "title" is the caption. All other columns become
attributes to filter by: numbers if every value is a number, true/false likewise, else text; --text COLUMN keeps it
text. Empty cells and missing metadata leave the database's values unchanged. The separator is comma, semicolon or tab,
the encoding UTF-8. You can give a PATH too; a file in both gets the manifest's metadata.

--watch covers one folder and its subfolders. It ingests a file once its writer closes it, or once it has not changed
for half a second; while its end is missing, it waits. A moved file keeps its image; a changed one is embedded again.
Symbolic links are skipped. Watching survives a restart of the database and ends at Ctrl-C with exit code 0.

Exit codes: 0 all files were ingested; 3 some were refused (not an image, unreadable, empty, too large) and listed with
a reason, the others were ingested; 1 nothing was done.
""",
)


@dataclass
class _Counts:
    """Sums over the batches that are committed."""

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
        Path | None, typer.Option(metavar="CSV", help="CSV of images with their metadata; see below.")
    ] = None,
    base_uri: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="Register files as URI/relative-path, if workers find them there instead of here."
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Keep this CSV column as text. Repeatable.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the images are searchable.")] = False,
    worker_timeout: Annotated[
        float, typer.Option(min=0, help="With --wait: give up after this many seconds without a live worker.")
    ] = 60,
    json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Keep running, and ingest files as they arrive.", rich_help_panel=_WATCH),
    ] = False,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete", help="Delete the images of deleted files. Default: keep them.", rich_help_panel=_WATCH
        ),
    ] = False,
    poll: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Rescan interval. Default: inotify events, or 2 on network file systems.",
            rich_help_panel=_WATCH,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1000, metavar="N", help="Frames to take per second of video.", rich_help_panel=_VIDEO
        ),
    ] = None,
    skip_similar: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="X",
            help="Skip a frame that differs from the one before by less than X: 0 identical, 1 black to white.",
            rich_help_panel=_VIDEO,
        ),
    ] = 0,
    max_lag: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Longest wait of a frame for a worker. Beyond it, a file pauses and a live source drops frames. "
            "Default: 60 for live sources.",
            rich_help_panel=_VIDEO,
        ),
    ] = None,
) -> None:
    """Register images; workers then embed them, and they become searchable."""
    given, patience = paths or [], worker_timeout if wait else None
    if fps is not None:
        from app.cli.commands import frames as command

        if watch or manifest or base_uri or text or not given:
            raise InvalidInputError("--fps needs videos, and excludes --watch, --manifest, --base-uri and --text")
        command.frames(given, fps=fps, skip_similar=skip_similar, max_lag=max_lag, patience=patience, json=json)
        return
    _check_no_video(given, skip_similar=skip_similar, max_lag=max_lag)
    if watch:
        _watch(given, manifest or text or wait, base_uri=base_uri, delete=delete, poll=poll, json=json)
        return
    if delete or poll is not None:
        raise InvalidInputError(f"{'--delete' if delete else '--poll'} goes with --watch")
    _ingest(given, manifest, base_uri, text or [], patience, json=json)


def _check_no_video(given: list[str], *, skip_similar: float, max_lag: float | None) -> None:
    """Raise InvalidInputError for videos, and for options that need --fps."""
    from app.media import video

    if skip_similar or max_lag is not None:
        raise InvalidInputError(f"{'--skip-similar' if skip_similar else '--max-lag'} goes with --fps")
    for one in given:
        if video.is_video(one):
            raise InvalidInputError(f"{one} is a video; give the frames to take per second: --fps 1")


def _watch(
    paths: list[str], other: object, *, base_uri: str | None, delete: bool, poll: float | None, json: bool
) -> None:
    from app.cli.commands import watch as command

    if len(paths) != 1 or other:
        raise InvalidInputError("--watch needs exactly one folder, and excludes --manifest, --text and --wait")
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
        with _reporting_partial(counts, of=len(found.candidates)):
            _run(conn, found.candidates, counts)
        waiting = _wait(conn, counts.ids, patience) if patience is not None and counts.ids else None
    _print_refused(counts.refused)
    if json:
        output.as_json(_result(counts, found.skipped, waiting))
    else:
        output.out(_summary(counts, found.skipped, waiting))
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
def _reporting_partial(counts: _Counts, *, of: int) -> Iterator[None]:
    """Report what is committed if the block fails."""
    try:
        yield
    except BaseException:
        if counts.ids:
            output.note(f"{len(counts.ids):,} of {of:,} images are registered; run it again for the rest")
        raise


def _wait(conn: "Connection", ids: list[int], patience: float) -> "Progress":
    from app.ingest import register as domain

    with progress.counted("embedding", len(ids)) as advance_to:

        def show(now: "Progress") -> None:
            notes = [f"{now.failed:,} failed"] * bool(now.failed)
            notes += ["no live worker; start one: lookalike worker"] * (not now.worker_alive)
            advance_to(now.done, ", ".join(notes))

        return domain.wait_until_searchable(conn, ids, patience=patience, progress=show)


def _print_refused(refused: "list[Refusal]") -> None:
    for one in refused[:_LISTED]:
        output.note(f"refused: {output.shown(one.origin)}: {output.shown(one.reason)}")
    if len(refused) > _LISTED:
        output.note(f"… and {len(refused) - _LISTED:,} more; --json lists all")


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


def _summary(counts: _Counts, skipped: int, waiting: "Progress | None") -> str:
    text = f"{counts.new:,} new, {counts.changed:,} changed, {counts.unchanged:,} unchanged"
    text += f", {len(counts.refused):,} refused"
    if skipped:
        text += f" ({output.count(skipped, 'other file')} skipped)"
    if waiting:
        text += f"; {waiting.searchable:,} searchable"
        if waiting.failed:
            text += f", {waiting.failed:,} failed: lookalike failures"
    return text
