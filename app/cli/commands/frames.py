"""`lookalike ingest VIDEO --fps N`."""

from typing import TYPE_CHECKING

import typer

from app.cli import output, progress, session, signals
from app.errors import ImageError, InvalidInputError

if TYPE_CHECKING:
    from app.ingest.frames import FrameIngest

_REFUSED = 3


def frames(
    given: list[str],
    *,
    fps: float,
    skip_similar: float,
    max_lag: float | None,
    patience: float | None,
    json: bool,
) -> None:
    """Ingest the frames of these videos one after the other; a live source runs until a signal stops it."""
    from app.ingest.frames import FrameIngest
    from app.media import uploads, video
    from app.media.limits import limits_of

    settings = session.settings()
    limits = limits_of(settings)
    found = [video.source_of(one, limits) for one in given]
    if len(found) > 1 and any(one.live for one in found):
        raise InvalidInputError("a live source never ends: give it alone, and run one process per source")
    storage = uploads.open_storage(settings)
    done: list[FrameIngest] = []
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        for one in done:
            one.stop()

    with signals.stop_on_signals(stop), session.database() as url, progress.line() as show:
        for source in found:
            if stopped:
                break
            one = FrameIngest(
                source,
                fps=fps,
                limits=limits,
                storage=storage,
                skip_similar=skip_similar,
                max_lag=max_lag,
            )
            done.append(one)
            try:
                one.run(
                    lambda: session.connected(url, "lookalike frames"),
                    lambda one=one: show(_status_line(one)),  # type: ignore[misc]
                    patience=patience,
                )
            except ImageError as error:
                one.trouble = error.reason
            if one.trouble:
                output.note(f"refused: {output.shown(source.name)}: {output.shown(one.trouble)}")
    _print(done, json=json)
    if any(one.trouble for one in done):
        raise typer.Exit(_REFUSED)


def _print(done: "list[FrameIngest]", *, json: bool) -> None:
    if json:
        output.as_json([_result(one) for one in done])
    else:
        for one in done:
            output.out(_status_line(one))


def _result(one: "FrameIngest") -> dict[str, object]:
    counts, tracker = one.counts, one.tracker
    return {
        "source": one.source.name,
        "decoded": counts.read.decoded,
        "new": counts.new,
        "unchanged": counts.unchanged,
        "similar": counts.similar,
        "dropped": counts.dropped,
        "corrupt": counts.read.corrupt,
        "reconnects": counts.reconnects,
        "searchable": tracker.searchable,
        "failed": tracker.failed,
        "on_the_way": tracker.pending,
        "commit_to_searchable_p50": tracker.percentile(0.5),
        "commit_to_searchable_p95": tracker.percentile(0.95),
        "trouble": one.trouble,
    }


def _status_line(one: "FrameIngest") -> str:
    counts, tracker = one.counts, one.tracker
    parts = (
        (counts.unchanged, "unchanged"),
        (counts.similar, "skipped as similar to the frame before"),
        (counts.dropped, "dropped as too late"),
        (counts.read.corrupt, "corrupt"),
        (counts.reconnects, "reconnects"),
    )
    start = f"{output.shown(one.source.name)}: {output.count(counts.new, 'new frame')}"
    return signals.status_line(start, parts, tracker)
