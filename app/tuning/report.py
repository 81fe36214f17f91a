"""Write the report of a run: a self-contained HTML file and a PNG."""

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
    """The files of a report."""

    html: Path
    png: Path


def write(folder: Path, run: Run, points: Sequence[Point]) -> Files:
    """Write `tradeoffs-RUN.html` and `.png` into the folder.

    Raises:
        ConfigurationError: the folder cannot be written, or matplotlib is not installed.
    """
    files = Files(folder / f"tradeoffs-{run.id}.html", folder / f"tradeoffs-{run.id}.png")
    picture = charts.png(points, title=f"Trade-offs of space {run.space}", subtitle=subtitle(run, points))
    page = html(run, points)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.png.write_bytes(picture)
        files.html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the report to {folder}: {error.strerror}; choose another folder: --report"
        ) from error
    return files


def subtitle(run: Run, points: Sequence[Point]) -> str:
    """Return a line about the data, the queries, the date and the machine of a run."""
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
    """Return the report as an HTML page in light and dark colours."""
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
        light=Markup(charts.svg(points, charts.LIGHT)),  # noqa: S704 — drawn by charts
        dark=Markup(charts.svg(points, charts.DARK)),  # noqa: S704
    )


def findings(points: Sequence[Point]) -> list[str]:
    """Return the findings as sentences: the index in use, and the fastest and the smallest for common recalls."""
    lines = []
    current = next((one.measured for one in points if one.current), None)
    if current:
        lines.append(
            f"In use: {current.choice}: recall {current.recall:.3f} at {current.p50_ms:.2f} ms "
            f"(p95 {current.p95_ms:.2f}), {current.bytes_per_image:,.0f} bytes per image."
        )
    for least in (0.95, 0.99, 0.999):
        enough = [one.measured for one in points if one.measured.recall >= least]
        if not enough:
            lines.append(f"Recall {least:g}: no measured choice reaches it.")
            continue
        fastest = min(enough, key=lambda one: one.p50_ms)
        indexed = [one for one in enough if one.options.get("kind") != "exact"] or enough
        smallest = min(indexed, key=lambda one: (one.bytes_per_image, one.p50_ms))
        text = f"Recall {least:g}: the fastest is {fastest.choice}, {fastest.p50_ms:.2f} ms (p95 {fastest.p95_ms:.2f})"
        if smallest is fastest:
            lines.append(f"{text}; it is also the smallest: {smallest.bytes_per_image:,.0f} bytes per image.")
        else:
            lines.append(
                f"{text}, {fastest.bytes_per_image:,.0f} bytes per image; the smallest is {smallest.choice}, "
                f"{smallest.bytes_per_image:,.0f} bytes, {smallest.p50_ms:.2f} ms."
            )
    return lines
