"""`lookalike ingest --watch`."""

from pathlib import Path
from typing import TYPE_CHECKING

from app.cli import output, progress, session, signals

if TYPE_CHECKING:
    from app.ingest.find import Refusal
    from app.ingest.watch import Watch


def watch(folder: str, *, base_uri: str | None, delete: bool, poll: float | None, json: bool) -> None:
    """Keep the database in sync with a folder until a signal stops it, then print the counts."""
    from app.ingest.watch import Watch

    settings = session.settings()
    watched = Watch(
        Path(folder),
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        base_uri=base_uri,
        delete=delete,
        poll=poll,
    )
    with signals.stop_on_signals(watched.stop), session.database() as url, progress.line() as show:
        ready = False

        def report(refused: "list[Refusal]") -> None:
            nonlocal ready
            for one in refused:
                output.note(f"refused: {output.shown(one.origin)}: {output.shown(one.reason)}")
            if watched.caught_up and not watched.waiting and not ready:
                ready = True
                output.note(f"caught up: {_status_line(watched)}; watching {output.shown(watched.folder)}")
            show(_status_line(watched))

        output.note(f"scanning {output.shown(watched.folder)}, {_way(watched)}; Ctrl-C stops it")
        watched.run(lambda: session.connected(url, "lookalike watch"), report)
    if json:
        output.as_json(_result(watched))
    else:
        output.out(_status_line(watched))


def _way(watched: "Watch") -> str:
    return f"every {watched.polling:g} s" if watched.polling is not None else "then following inotify events"


def _result(watched: "Watch") -> dict[str, object]:
    counts, tracker = watched.counts, watched.tracker
    return {
        "new": counts.new,
        "changed": counts.changed,
        "unchanged": counts.unchanged,
        "renamed": counts.renamed,
        "deleted": counts.deleted,
        "kept": counts.kept,
        "refused": counts.refused,
        "skipped": counts.skipped.others,
        "links": counts.skipped.links,
        "closed_folders": counts.skipped.closed,
        "reconnects": counts.reconnects,
        "searchable": tracker.searchable,
        "failed": tracker.failed,
        "on_the_way": tracker.pending,
        "commit_to_searchable_p50": tracker.percentile(0.5),
        "commit_to_searchable_p95": tracker.percentile(0.95),
    }


def _status_line(watched: "Watch") -> str:
    counts, tracker = watched.counts, watched.tracker
    parts = (
        (counts.renamed, "renamed"),
        (counts.deleted, "deleted"),
        (counts.kept, "gone from the folder but kept (--delete removes them)"),
        (counts.refused, "refused"),
        (counts.skipped.others, "other files skipped"),
        (counts.skipped.links, "links skipped"),
        (counts.skipped.closed, "unreadable folders"),
        (counts.reconnects, "reconnects"),
        (watched.waiting, "files waiting"),
    )
    start = f"{counts.new:,} new, {counts.changed:,} changed, {counts.unchanged:,} unchanged"
    return signals.status_line(start, parts, tracker)
