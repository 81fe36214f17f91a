"""`lookalike status`, `failures` and `retry`."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.help import Json, examples
from app.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from app.db import Connection
    from app.monitoring.status import SpaceStatus, Status

_CAPPED = 100_000  # the status views stop counting here
_MOST_REASONS = 8
_DAY = 86_400

EPILOG = examples(
    "lookalike status           spaces, queues, freshness, failures, workers",
    "lookalike status --watch   live display",
    "lookalike status --json | jq '.spaces[0].queued_about'",
    after="Long queues are cheap: they are counted up to 100,000 jobs, and estimated beyond (about 2,000,000).",
)
FAILURES_EPILOG = examples("lookalike failures --limit 20", "lookalike failures --json", "lookalike retry")
RETRY_EPILOG = examples(
    "lookalike retry                all failed images, in every space",
    "lookalike retry 17 42          these images",
    "lookalike retry --space NAME   failed images of one space",
)


def status(
    json: Annotated[bool, typer.Option("--json", help="Print JSON in the form of GET /v1/status.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Update the display until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between updates of --watch.")] = 2,
) -> None:
    """Show searchable, queued and failed images, freshness, and workers."""
    if json and watch:
        raise InvalidInputError("--json and --watch exclude each other; run status --json repeatedly instead")
    with session.connection() as conn:
        if watch:
            _watch(conn, interval)
            return
        found = _read(conn)
    if json:
        output.as_json(found)
        return
    output.out(_headline(found))
    for table in _tables(found):
        output.out("")
        output.table(table.columns, table.rows)
    for advice in _advice(found):
        output.note(advice)


def _read(conn: "Connection") -> "Status":
    from app.db import replicas
    from app.monitoring import status as domain

    return replace(domain.read_status(conn), standbys=replicas.check_standbys(session.settings(), conn))


def _watch(conn: "Connection", interval: float) -> None:
    """Update the display until interrupted; without a terminal, print one report after the other."""
    from rich.console import Group as Stack
    from rich.text import Text

    if not sys.stdout.isatty():
        while True:
            found = _read(conn)
            output.out(f"{datetime.now().astimezone():%H:%M:%S} {_headline(found)}")
            for table in _tables(found):
                output.table(table.columns, table.rows)
            sys.stdout.flush()
            time.sleep(interval)
    with output.live() as shown:
        while True:
            found = _read(conn)
            parts: list[object] = [Text(f"{_headline(found)}, {datetime.now().astimezone():%H:%M:%S}")]
            for table in _tables(found):
                parts += [Text(""), output.made_table(table.columns, table.rows)]
            parts += [Text(output.shown(advice), style="yellow") for advice in _advice(found)]
            shown.update(Stack(*parts), refresh=True)  # type: ignore[arg-type]
            time.sleep(interval)


@dataclass(frozen=True, slots=True)
class _Table:
    columns: list[str]
    rows: list[tuple[object, ...]]


def _headline(found: "Status") -> str:
    text = f"{output.count(found.images, 'image', capped=_CAPPED)}, schema {found.revision}"
    return text if found.spaces else f"{text}; no embedding space yet: the first worker creates one (lookalike worker)"


def _tables(found: "Status") -> Iterator[_Table]:
    """Yield the tables that have rows."""
    made = (
        _spaces(found),
        _freshness(found),
        _recall(found),
        _failures(found),
        _workers(found),
        _standbys(found),
    )
    yield from (table for table in made if table.rows)


def _spaces(found: "Status") -> _Table:
    return _Table(
        ["space", "", ">embedded", ">queued", ">oldest", ">failed", ">workers", ">size", "index"],
        [
            (
                one.name,
                "active" if one.active else "",
                _number(one.embedded),
                f"{one.queued:,}" if one.queued < _CAPPED else f"about {one.queued_about:,}",
                output.age(one.oldest_job_seconds),
                _number(one.failed),
                one.live_workers,
                output.size(one.bytes),
                _index(one),
            )
            for one in found.spaces
        ],
    )


def _freshness(found: "Status") -> _Table:
    """Return the periods with any activity: last minute, last hour."""
    return _Table(
        ["freshness", "period", ">images/s", ">searchable p50", ">p95", ">queries/s", ">query p50", ">p95", ">reused"],
        [
            (
                one.space,
                f"last {output.age(one.period_seconds)}",
                f"{one.images_per_second:.1f}",
                output.latency(one.searchable_p50),
                output.latency(one.searchable_p95),
                f"{one.queries_per_second:.1f}",
                output.latency(one.query_p50),
                output.latency(one.query_p95),
                f"{one.reused:,}",
            )
            for one in found.freshness
            if one.images or one.queries or one.failed
        ],
    )


def _recall(found: "Status") -> _Table:
    """Return the recall of the last day, over all plans and filters."""
    return _Table(
        ["recall", "period", ">searches checked", ">recall", ">95 % interval", ">goal"],
        [
            (
                one.space,
                f"last {output.age(one.period_seconds)}",
                f"{one.searches:,}",
                f"{one.recall:.3f}",
                f"{one.low:.3f} to {one.high:.3f}",
                f"{one.goal:.3f}",
            )
            for one in found.recall
            if one.plan is None and one.selectivity is None and one.period_seconds == _DAY and one.recall is not None
        ],
    )


def _failures(found: "Status") -> _Table:
    return _Table(
        ["failed in", "step", ">images", "reason"],
        [(one.space, one.step, f"{one.images:,}", one.reason) for one in found.failures[:_MOST_REASONS]],
    )


def _workers(found: "Status") -> _Table:
    return _Table(
        ["worker", "device", "state", "spaces", ">embedded", ">failed", ">queries", "last error"],
        [
            (
                one.name,
                one.device,
                one.state if one.alive else "lost",
                ", ".join(one.spaces),
                f"{one.images_embedded:,}",
                f"{one.images_failed:,}",
                f"{one.queries_answered:,}",
                one.last_error,
            )
            for one in found.workers
        ],
    )


def _standbys(found: "Status") -> _Table:
    return _Table(
        ["standby", "searches", ">lag", "why not"],
        [(one.host, "yes" if one.fit else "no", output.latency(one.lag_seconds), one.reason) for one in found.standbys],
    )


def _number(number: int) -> str:
    return f"{number:,}{'+' if number >= _CAPPED else ''}"


def _index(space: "SpaceStatus") -> str:
    if space.index_name is None:
        return "none (exact search)"
    return "ready" if space.index_valid else "not valid: a build is running or has failed"


def _advice(found: "Status") -> Iterator[str]:
    from app.monitoring import recall

    unserved = [space for space in found.spaces if space.queued and not space.live_workers]
    if unserved and not any(worker.alive for worker in found.workers):
        yield "images are queued, but no worker is alive: lookalike worker"
    elif unserved:
        options = " ".join(f"--space {space.name}" for space in unserved)
        yield f"images are queued in spaces that no live worker serves: lookalike worker {options}"
    active = next((space.name for space in found.spaces if space.active), "")
    if warning := recall.warning_text(recall.current_estimate(found.recall, active)):
        yield warning
    if any(space.failed for space in found.spaces):
        yield "some images failed; lookalike failures lists the reasons"


def failures(
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of failures, newest first.")] = 100,
    json: Json = False,
) -> None:
    """List images that could not be embedded, with reasons."""
    from app.store import jobs

    with session.connection() as conn:
        found = jobs.failures(conn, limit=limit)
    if json:
        output.as_json(found)
    elif not found:
        output.note("no failures")
    else:
        output.table(
            [">id", "space", "failed at", "step", ">tries", "reason", "uri"],
            [
                (
                    one.image_id,
                    one.space,
                    f"{one.failed_at.astimezone():%Y-%m-%d %H:%M:%S}",
                    one.step,
                    one.attempts,
                    one.reason,
                    one.uri,
                )
                for one in found
            ],
        )


def retry(
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="Images to retry. Default: all failed ones.")
    ] = None,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Only failures in this embedding space.")] = None,
) -> None:
    """Put failed images back into the queue."""
    from app.store import jobs, spaces

    with session.connection() as conn:
        in_space = spaces.get(conn, space) if space else None
        queued = jobs.retry(conn, image_ids=ids or None, space=in_space)
    if ids and not queued:
        raise NotFoundError(f"no failures of {', '.join(map(str, ids))}; lookalike failures lists all")
    output.out(f"{output.count(queued, 'job')} queued again")
