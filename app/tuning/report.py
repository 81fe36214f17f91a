"""The report of a run: one HTML file that needs no other, and a PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import ConfigurationError
from app.tuning import charts
from app.tuning.pareto import Point
from app.tuning.records import Run

_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True, slots=True)
class Files:
    """Where a report was written."""

    html: Path
    png: Path


def write(folder: Path, run: Run, points: Sequence[Point]) -> Files:
    """Write `tradeoffs-RUN.html` and `.png` into the folder; ConfigurationError where it cannot be written."""
    files = Files(folder / f"tradeoffs-{run.id}.html", folder / f"tradeoffs-{run.id}.png")
    picture = charts.png(points, title=f"Trade-offs of space {run.space}", subtitle=subtitle(run, points))
    page = html(run, points)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.png.write_bytes(picture)
        files.html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write the report to {folder}: {error.strerror}; see --report") from error
    return files


def subtitle(run: Run, points: Sequence[Point]) -> str:
    """Return in one line what was measured."""
    rows = points[0].measured.rows if points else 0
    of = f", a sample of {run.rows_total:,}" if run.request.sample < run.rows_total else ""
    k = points[0].measured.k if points else run.request.k
    queries = len(points[0].measured.query_recalls) if points else run.request.queries
    return (
        f"{rows:,} images × {run.dimensions} dimensions{of} · k {k} · {queries} {run.request.source} queries · "
        f"{run.started_at:%Y-%m-%d %H:%M} UTC · {run.conditions.get('cpu', '?')}, "
        f"{run.conditions.get('cores', '?')} cores"
    )


def html(run: Run, points: Sequence[Point]) -> str:
    """Return the report as a page that follows the reader's light or dark setting."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    settings = run.conditions.get("settings") or {}
    return environment.get_template(_TEMPLATE.name).render(
        run=run,
        points=points,
        subtitle=subtitle(run, points),
        clients=sorted({int(name) for point in points for name in point.measured.qps}),
        label=run.request.label,
        findings=findings(points),
        settings=sorted(settings.items()),
        light=Markup(charts.svg(points, charts.LIGHT)),  # noqa: S704 — our own drawing
        dark=Markup(charts.svg(points, charts.DARK)),  # noqa: S704
    )


def findings(points: Sequence[Point]) -> list[str]:
    """Return what the numbers say: what is in use, and the quickest and the smallest for common recalls."""
    said = []
    current = next((one.measured for one in points if one.current), None)
    if current:
        said.append(
            f"In use: {current.choice}: recall {current.recall:.3f} at {current.p50_ms:.2f} ms "
            f"(p95 {current.p95_ms:.2f}), {current.bytes_per_image:,.0f} bytes an image."
        )
    for least in (0.95, 0.99, 0.999):
        enough = [one.measured for one in points if one.measured.recall >= least]
        if not enough:
            said.append(f"Recall {least:g}: no measured choice reaches it.")
            continue
        quick = min(enough, key=lambda one: one.p50_ms)
        indexed = [one for one in enough if one.options.get("kind") != "exact"] or enough
        small = min(indexed, key=lambda one: (one.bytes_per_image, one.p50_ms))
        text = f"Recall {least:g}: the quickest is {quick.choice}, {quick.p50_ms:.2f} ms (p95 {quick.p95_ms:.2f})"
        if small is quick:
            said.append(f"{text}, and none is smaller: {small.bytes_per_image:,.0f} bytes an image.")
        else:
            said.append(
                f"{text}, {quick.bytes_per_image:,.0f} bytes an image; the smallest {small.choice}, "
                f"{small.bytes_per_image:,.0f} bytes, {small.p50_ms:.2f} ms."
            )
    return said
