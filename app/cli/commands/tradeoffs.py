"""`lookalike tradeoffs`: measure index choices on your own images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.cli import output, progress, session
from app.cli.help import Json, examples
from app.errors import ConfigurationError, ConflictError, InvalidInputError, LookalikeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgvector import HalfVector

    from app.db import Connection
    from app.store.spaces import Space
    from app.tuning.metrics import Vectors
    from app.tuning.pareto import Point
    from app.tuning.progress import Progress
    from app.tuning.records import Run

EPILOG = examples(
    "lookalike tradeoffs --quick            a coarse grid; two minutes on the demo",
    "lookalike tradeoffs --label category   also measure precision by attribute",
    "lookalike tradeoffs --queries a.jpg --queries b.jpg",
    'lookalike tradeoffs --choice "hnsw(m=12,ef_construction=100,ef_search=80)"',
    "lookalike tradeoffs --resume           finish the last run",
    "lookalike tradeoffs --show             table and report of the last run",
    after="""
The command builds each choice on a sample of your embeddings in a scratch database, on your server or the one of
--scratch-url. It only reads your own tables, in short statements. lookalike.measurements stores every result with its
raw times, and lookalike tune chooses from them. Ctrl-C loses at most one build.
""",
)
_LEAST_LOGGED = 10


def tradeoffs(
    quick: Annotated[bool, typer.Option("--quick", help="Measure a coarse grid, each choice once.")] = False,
    choice: Annotated[
        list[str] | None,
        typer.Option(metavar="CHOICE", help="Index choice to measure. Repeatable. Default: a grid of choices."),
    ] = None,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Space. Default: the active one.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Number of neighbours per search.")] = 10,
    queries: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Query image, instead of held-out images. Repeatable. Needs a worker."),
    ] = None,
    logged: Annotated[
        bool, typer.Option("--logged", help="Use the latest live searches sampled by the recall monitor as queries.")
    ] = False,
    query_count: Annotated[
        int | None, typer.Option(min=10, max=10_000, help="Number of images to hold out as queries.")
    ] = None,
    sample: Annotated[int, typer.Option(min=100, help="Maximum number of images to measure on.")] = 100_000,
    label: Annotated[
        str | None,
        typer.Option(metavar="ATTRIBUTE", help="Also measure how often neighbours share the query's value."),
    ] = None,
    clients: Annotated[
        str | None, typer.Option(metavar="N,N", help="Numbers of concurrent clients for the throughput. Default: 1,4.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the sample and of the order of searches.")] = 0,
    build_workers: Annotated[
        int | None, typer.Option(min=0, max=64, help="Parallel workers of an index build. Default: half the cores.")
    ] = None,
    scratch_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Server for the scratch database. Default: your database's.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the last run with its own options.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Measure nothing; show the last run.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for the HTML and PNG report. Default: LOOKALIKE_HOME."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure index choices on a sample of your images: recall, latency, throughput, bytes, build time."""
    from app.store import spaces
    from app.tuning import results
    from app.tuning import run as lab
    from app.tuning.records import Request

    with session.database() as url, session.connected(url, "lookalike cli") as conn:
        chosen = spaces.active(conn) if space is None else spaces.get(conn, space)
        if show:
            _show(conn, _last(conn, chosen), chosen, report, json=json)
            return
        live = None
        if resume:
            run = results.interrupted(conn, chosen)
            images = [_read(Path(name)) for name in run.request.files]
            if run.request.source == "logged":
                raise ConflictError(f"run {run.id} used live searches, which are not stored; start a new run")
            output.note(f"resuming run {run.id}: {run.choices} of {len(run.request.choices)} choices are measured")
        else:
            from app.index.spec import parse_spec
            from app.tuning import grid
            from app.tuning.apply import current_text

            wanted = choice or (grid.quick if quick else grid.standard)(
                chosen.dimensions, min(sample, lab.count_rows(conn, chosen))
            )
            if queries and logged:
                raise InvalidInputError("--queries and --logged: choose one")
            images = [_read(file) for file in queries or ()]
            files = tuple(str(file.absolute()) for file in queries or ())
            count = query_count or _query_count(conn, chosen, quick=quick)
            live = _logged(conn, chosen, count) if logged else None
            run = lab.start(
                conn,
                chosen,
                Request(
                    choices=tuple(dict.fromkeys([str(parse_spec(one)) for one in wanted] + [current_text(chosen)])),
                    k=k,
                    queries=len(files) or (count if live is None else len(live)),
                    sample=sample,
                    seed=seed,
                    label=label,
                    files=files,
                    source="file" if files else "logged" if logged else "held-out",
                    clients=_numbers(clients) if clients else (1, 4),
                    seconds=0.5 if quick else 2.0,
                    rounds=1 if quick else 3,
                    workers=build_workers if build_workers is not None else _half_the_cores(conn),
                ),
            )
            if live is not None:
                output.note(f"using {len(live)} live searches; they are not stored, so you cannot resume this run")
        vectors = live if live is not None else _embedded(conn, images, chosen)
        try:
            with progress.share(f"run {run.id}") as show_share:
                lab.resume(
                    url,
                    run,
                    scratch_url=scratch_url,
                    queries=vectors,
                    callback=lambda now: show_share(now.done, _note(now)),
                )
        except (KeyboardInterrupt, LookalikeError):
            output.note(f"run {run.id} is not complete; lookalike tradeoffs --resume finishes it")
            raise
        _show(conn, results.get(conn, run.id), chosen, report, json=json)


def _query_count(conn: "Connection", space: "Space", *, quick: bool) -> int:
    """Return the number of images to hold out: 200 (100 if quick), at most an eighth of the gallery, at least 20."""
    from app.tuning import run as lab

    return max(min(100 if quick else 200, lab.count_rows(conn, space) // 8), 20)


def _last(conn: "Connection", space: "Space") -> "Run":
    from app.errors import NotFoundError
    from app.tuning import results

    found = results.latest(conn, space)
    if found is None:
        raise NotFoundError(f"space {space.name} has no measurements yet; run: lookalike tradeoffs")
    return found


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise InvalidInputError(f'--clients "{text}": write numbers separated by commas, such as 1,4,16') from error
    if not found or found[0] < 1 or found[-1] > 200:
        raise InvalidInputError(f'--clients "{text}": each number must be 1 to 200')
    return found


def _half_the_cores(conn: "Connection") -> int:
    """Return half the cores, because production needs the others, or the server's limit if that is lower."""
    import os

    row = conn.execute("SELECT current_setting('max_parallel_maintenance_workers')::int").fetchone()
    return min((os.cpu_count() or 2) // 2, int(str(row[0])) if row else 0)


def _embedded(conn: "Connection", images: "Sequence[bytes]", space: "Space") -> "Vectors | None":
    """Return the embeddings of these query images, made by a worker; None without images."""
    if not images:
        return None
    import numpy as np

    from app.store import query_images

    timeout = session.settings().query_timeout
    found = []
    with progress.counted("queries", len(images)) as advance_to:
        for n, image in enumerate(images, 1):
            found.append(query_images.embed(conn, image, timeout=timeout, space=space))
            advance_to(n, "")
    return np.stack(found)


def _read(file: Path) -> bytes:
    try:
        if data := file.read_bytes():
            return data
    except OSError as error:
        raise InvalidInputError(f"cannot read {file}: {error.strerror}") from error
    raise InvalidInputError(f"{file} is empty")


def _logged(conn: "Connection", space: "Space", most: int) -> "Vectors":
    """Return the vectors of the latest live searches that the recall monitor sampled.

    Raises:
        ConflictError: there are too few.
    """
    import numpy as np

    from app.db import sql, vectors

    rows = conn.execute(sql.query("logged_queries"), {"space_id": space.id, "most": most}).fetchall()
    if len(rows) < _LEAST_LOGGED:
        raise ConflictError(
            f"only {output.count(len(rows), 'live search')} without a filter in space {space.name}, but "
            f"{_LEAST_LOGGED} are needed; the recall monitor samples a share of them: docs/how-to/monitor-recall.md"
        )
    return np.stack([vectors.unit(cast("HalfVector", row[0])) for row in rows])


def _show(conn: "Connection", run: "Run", space: "Space", folder: Path | None, *, json: bool) -> None:
    from app.tuning import pareto, results
    from app.tuning import report as reports
    from app.tuning.apply import current_text

    points = pareto.points(results.measurements(conn, run), current_text(space))
    if json:
        output.as_json({"run": run, "points": [_plain(point) for point in points]})
    else:
        output.out(reports.subtitle(run, points))
        _table(points, label=run.request.label)
        for line in reports.findings(points):
            output.note(line)
    try:
        files = reports.write(folder or session.settings().home.absolute(), run, points)
    except ConfigurationError as error:
        if folder:
            raise
        output.note(f"no report: {error}")
    else:
        output.note(f"report: {files.html}\n        {files.png}")


def _plain(point: "Point") -> dict[str, object]:
    from dataclasses import asdict

    measured = asdict(point.measured)
    del measured["query_ms"], measured["query_recalls"]
    flags = {"current": point.current, "fast": point.fast, "small": point.small, "best": point.best}
    return {**measured, "bytes_per_image": point.measured.bytes_per_image, **flags}


def _table(points: "list[Point]", *, label: str | None) -> None:
    clients = sorted({int(name) for point in points for name in point.measured.qps})
    columns = ["", "choice", ">recall", *([f">same {label}"] if label else []), ">p50 ms", ">p95", ">p99"]
    columns += [f">{n}×q/s" for n in clients]
    columns += [">bytes/image", ">index", ">build s", ">write ms"]
    rows = []
    for point in points:
        one = point.measured
        precision = "–" if one.label_precision is None else f"{one.label_precision:.3f}"
        rows.append(
            [
                ("●" if point.best else " ") + (" in use" if point.current else ""),
                one.choice,
                f"{one.recall:.4f}",
                *([precision] if label else []),
                f"{one.p50_ms:.2f}",
                f"{one.p95_ms:.2f}",
                f"{one.p99_ms:.2f}",
                *(f"{one.qps[str(n)]:,.0f}" if str(n) in one.qps else None for n in clients),
                f"{one.bytes_per_image:,.0f}",
                f"{one.index_bytes_per_image:,.0f}",
                f"{one.build_seconds:.1f}",
                f"{one.insert_ms:.2f}",
            ]
        )
    output.table(columns, rows)
    output.out("●  not beaten: every other choice is worse in recall, p50 or bytes")


def _note(now: "Progress") -> str:
    left = output.age(now.seconds_left)
    return f"{f'{left} left, ' if left else ''}{now.now}"
