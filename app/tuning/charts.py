"""Draw the report's charts: recall against latency, recall against bytes, costs of builds and writes."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.errors import ConfigurationError
from app.index.spec import IndexSpec
from app.tuning.apply import build_of
from app.tuning.pareto import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The axis is logarithmic in 1 - recall; a recall of 1 is drawn here.
_PERFECT = 2e-4


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a chart; index kinds differ in their marks, too."""

    paper: str
    ink: str
    faint: str
    line: str
    front: str
    kinds: dict[str, str]


LIGHT = Theme(
    "#ffffff",
    "#1f2328",
    "#6b7280",
    "#e3e6ea",
    "#9aa3ad",
    {
        "exact": "#5b6470",
        "hnsw": "#1f6feb",
        "ivfflat": "#d97706",
        "pca": "#0f8a5f",
        "bits": "#8b3fd1",
    },
)
DARK = Theme(
    "#14171c",
    "#e6e9ee",
    "#9aa3ad",
    "#2b313a",
    "#5d6671",
    {
        "exact": "#aab3bf",
        "hnsw": "#6ea8fe",
        "ivfflat": "#f5a742",
        "pca": "#4fd1a1",
        "bits": "#c79bff",
    },
)
_MARKS = {"exact": "s", "hnsw": "o", "ivfflat": "^", "pca": "D", "bits": "v"}
_OFFSETS = [(9, -13), (9, 6), (-9, 8), (-9, -14), (10, -26), (-10, 20), (10, 20), (-10, -28), (12, -40), (-12, 34)]
# Abbreviations of index options on a chart.
_SHORT = (("ef_construction=", "efc "), ("ef_search=", "ef "), ("=", " "), (",", ", "))
_TICKS_WIDE = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, _PERFECT)
_TICKS = (0.9, 0.5, 0.1, 0.01, 0.001, _PERFECT)


def png(points: Sequence[Point], *, title: str, subtitle: str) -> bytes:
    """Return all charts as one PNG in light colours."""
    return _render(_figure(points, LIGHT, title=title, subtitle=subtitle), "png")


def svg(points: Sequence[Point], theme: Theme) -> str:
    """Return all charts as inline SVG in these colours; it refers to no other file or host."""
    text = _render(_figure(points, theme, title=None, subtitle=None), "svg").decode()
    return text[text.index("<svg") :]


def _render(figure: "Figure", kind: str) -> bytes:
    from matplotlib import rc_context

    stream = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 130}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "lookalike"}):
        figure.savefig(stream, format=kind, facecolor=figure.get_facecolor(), **options)
    return stream.getvalue()


def _figure(points: Sequence[Point], theme: Theme, *, title: str | None, subtitle: str | None) -> "Figure":
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError("charts need matplotlib: pip install 'lookalike[report]'") from error
    family = ["Inter", "Segoe UI", "Helvetica Neue", "Arial", "DejaVu Sans", "sans-serif"]
    with rc_context({"font.family": "sans-serif", "font.sans-serif": family[-2:], "font.size": 9.5}):
        head = 0.9 if title else 0.0
        figure = Figure(figsize=(11, 9.4 + head), facecolor=theme.paper)
        top = 1 - (head + 0.55) / (9.4 + head)
        grid = figure.add_gridspec(2, 2, height_ratios=(1.35, 1), top=top, bottom=0.065, left=0.075, right=0.975,
                                   hspace=0.36, wspace=0.2)  # fmt: skip
        if title:
            figure.text(0.03, 1 - 0.42 / (9.4 + head), title, color=theme.ink, size=16, weight="bold")
            figure.text(0.03, 1 - 0.72 / (9.4 + head), subtitle or "", color=theme.faint, size=10)
        _recall_chart(
            figure.add_subplot(grid[0, :]), points, theme, lambda one: one.measured.p50_ms, lambda one: one.fast,
            title="Latency for recall", y="milliseconds per search, p50 (line: up to p95)", whisker=True,
        )  # fmt: skip
        _recall_chart(
            figure.add_subplot(grid[1, 0]), points, theme, lambda one: one.measured.bytes_per_image,
            lambda one: one.small, title="Storage for recall", y="bytes per image, table and index", whisker=False,
        )  # fmt: skip
        _build_chart(figure.add_subplot(grid[1, 1]), points, theme)
    return figure


def kind_of(point: Point) -> str:
    """Return the index kind of a point."""
    return str(point.measured.options.get("kind", "hnsw"))


def _short(text: str) -> str:
    for long, short in _SHORT:
        text = text.replace(long, short)
    return text


def _dress(axes: "Axes", theme: Theme, title: str) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_title(title, loc="left", color=theme.ink, size=12, weight="bold", pad=10)
    axes.tick_params(colors=theme.faint, which="both", length=0)
    axes.grid(visible=True, which="major", color=theme.line, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.xaxis.label.set_color(theme.faint)
    axes.yaxis.label.set_color(theme.faint)


def _miss(point: Point) -> float:
    return max(1 - point.measured.recall, _PERFECT)


def _recall_chart(
    axes: "Axes",
    points: Sequence[Point],
    theme: Theme,
    value: Callable[[Point], float],
    on_front: Callable[[Point], bool],
    *,
    title: str,
    y: str,
    whisker: bool,
) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullLocator

    axes.set_xscale("log")
    front = sorted((one for one in points if on_front(one)), key=_miss)
    axes.plot([_miss(one) for one in front], [value(one) for one in front], color=theme.front, linewidth=1.2, zorder=1)
    for kind, colour in theme.kinds.items():
        here = [one for one in points if kind_of(one) == kind]
        for one in here:
            bold = on_front(one)
            if whisker:
                axes.plot([_miss(one)] * 2, [value(one), one.measured.p95_ms], color=colour, linewidth=1, alpha=0.35)
            axes.scatter(
                [_miss(one)], [value(one)], s=52 if bold else 24, marker=_MARKS[kind], color=colour,
                alpha=1 if bold else 0.55, linewidths=0, zorder=3,
            )  # fmt: skip
        if here:
            axes.scatter([], [], s=40, marker=_MARKS[kind], color=colour, linewidths=0, label=kind)
    for one in points:
        if one.current:
            axes.scatter(
                [_miss(one)], [value(one)], s=190, facecolors="none", edgecolors=theme.ink, linewidths=1.6, zorder=4
            )
    worst = max((_miss(one) for one in points), default=0.1)
    ticks = _TICKS_WIDE if whisker else _TICKS
    shown = [tick for tick in ticks if tick <= worst * 1.6]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FixedFormatter(["1" if tick == _PERFECT else f"{1 - tick:g}" for tick in shown]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(max(worst * 1.6, 0.002), _PERFECT * 0.62)
    if whisker:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.margins(y=0.16)
    else:
        axes.set_ylim(0, 1.12 * max((value(one) for one in points), default=1))
    axes.yaxis.set_major_formatter(lambda number, _: f"{number:g}" if number < 1e3 else f"{number:,.0f}")
    axes.set_xlabel("recall@k, tie-aware; better: further right and lower")
    axes.set_ylabel(y)
    _dress(axes, theme, title)
    if whisker:
        axes.legend(
            loc="upper left", frameon=False, labelcolor=theme.ink, ncols=6, bbox_to_anchor=(0.16, 1.085),
            handletextpad=0.2, columnspacing=1.2,
        )  # fmt: skip
    _label(axes, theme, [(one, _miss(one), value(one)) for one in points if on_front(one) or one.current],
           [(_miss(one), value(one)) for one in points])  # fmt: skip


def _label(
    axes: "Axes", theme: Theme, wanted: Sequence[tuple[Point, float, float]], marks: Sequence[tuple[float, float]]
) -> None:
    """Label points, each at the first offset that covers no mark and no other label; skip it if there is none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke

    figure = axes.get_figure(root=True)
    if figure is None:
        return
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.canvas.draw()
    inside = axes.get_window_extent(renderer)
    taken: list[Any] = []
    dots = [axes.transData.transform(mark) for mark in marks]
    for point, x, y in sorted(wanted, key=lambda one: not one[0].current):
        text = _short(point.measured.choice) + ("  (in use)" if point.current else "")
        for right, up in _OFFSETS:
            note = axes.annotate(
                text, (x, y), xytext=(right, up), textcoords="offset points", size=8.2, color=theme.ink,
                ha="left" if right > 0 else "right" if right < 0 else "center", zorder=5,
                path_effects=[withStroke(linewidth=2.5, foreground=theme.paper)],
                arrowprops={"arrowstyle": "-", "color": theme.front, "linewidth": 0.6} if abs(up) > 14 else None,
            )  # fmt: skip
            box = note.get_window_extent(renderer)
            room = inside.x0 - 4 < box.x0 and box.x1 < inside.x1 + 8 and inside.y0 < box.y0 and box.y1 < inside.y1
            clear = not any(box.overlaps(other) for other in taken) and not any(box.contains(*dot) for dot in dots)
            if room and clear:
                taken.append(box)
                break
            note.remove()


def _build_chart(axes: "Axes", points: Sequence[Point], theme: Theme) -> None:
    """Draw one bar per build, because specs that differ only in search options share a build."""
    builds: dict[str, Point] = {}
    for one in points:
        builds.setdefault(build_of(IndexSpec.of(one.measured.options)), one)
    shown = sorted(builds.items(), key=lambda item: item[1].measured.build_seconds)
    longest = max((one.measured.build_seconds for _, one in shown), default=1.0) or 1.0
    for n, (name, one) in enumerate(shown):
        seconds = one.measured.build_seconds
        axes.barh(n, seconds, color=theme.kinds.get(kind_of(one), theme.faint), height=0.62)
        text = f"{_short(name)}   {seconds:.1f} s, {one.measured.insert_ms:.1f} ms/row"
        axes.annotate(
            text, (seconds, n), xytext=(6, 0), textcoords="offset points", va="center", size=8.2, color=theme.ink
        )
    axes.set_yticks([])
    axes.set_ylim(-0.7, max(len(shown) - 0.3, 3))
    axes.set_xlim(0, longest * 2.1)  # room for the label of the longest bar
    axes.set_xlabel("seconds to build")
    _dress(axes, theme, "Time of a build, and of writing a row")
    axes.grid(visible=False, axis="y")
