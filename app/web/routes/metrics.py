"""/metrics in Prometheus' text format, read from views in the database.

Workers store their counts in the database, so that all API processes report the same values.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from app.errors import LookalikeError
from app.monitoring import status
from app.monitoring.status import LatencyTotal, Status
from app.web.services import services

log = logging.getLogger(__name__)

_CACHE_SECONDS = 1.0
_MOST_REASONS = 20  # labels per space; the others are summed as "other"
_OTHER = "other"
_ALL = "all"
_DAY = 86_400
_STAGES = ("claim", "fetch", "lookup", "decode", "encode", "write")
# Bounds double: every fourth bucket of the database, from a millisecond to twelve days.
_STEP, _LAST = 4, 120

blueprint = Blueprint("metrics", __name__)


class _Cache:
    """Caches the text for a second, so that many scrapers cost no more than one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text = b""
        self._until = 0.0

    def text(self) -> bytes:
        with self._lock:
            if time.monotonic() >= self._until:
                registry = CollectorRegistry()
                registry.register(_Collector(*_read()))
                self._text = generate_latest(registry)
                self._until = time.monotonic() + _CACHE_SECONDS
            return self._text


@blueprint.record
def _create_cache(state: object) -> None:
    state.app.extensions["lookalike metrics"] = _Cache()  # type: ignore[attr-defined]


@blueprint.get("/metrics")
def get_metrics() -> Response:
    """Return 200 even if the database is down; `lookalike_up 0` is then the only metric."""
    from flask import current_app

    cache: _Cache = current_app.extensions["lookalike metrics"]
    response = Response(cache.text(), content_type=CONTENT_TYPE_LATEST)
    response.headers["Cache-Control"] = "no-store"
    return response


def _read() -> tuple[Status | None, list[LatencyTotal], dict[str, int]]:
    try:
        with services().database.connection() as conn:
            found = replace(status.read_status(conn), standbys=services().router.states())
            return found, status.latency_totals(conn), status.api_connections(conn)
    except LookalikeError as error:
        log.warning("the only metric is lookalike_up 0: %s", error)
        return None, [], {}


class _Collector(Collector):
    """One snapshot of the database as metric families."""

    def __init__(self, found: Status | None, totals: list[LatencyTotal], connections: dict[str, int]) -> None:
        self._found = found
        self._totals = totals
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("lookalike_up", "1 if the database answers.", 0 if self._found is None else 1)
        if self._found is not None:
            yield from _state(self._found)
            yield from _failures(self._found)
            yield from _workers(self._found)
            yield from _recall(self._found)
            yield from _standbys(self._found)
            yield from _latencies(self._totals)
            pool = GaugeMetricFamily("lookalike_api_connections", "Connections of all API processes.", labels=["state"])
            for state, count in self._connections.items():
                pool.add_metric([state], count)
            yield pool


def _state(found: Status) -> Iterator[Metric]:
    yield GaugeMetricFamily("lookalike_images", "Images, counted up to 100,000.", found.images)
    per_second = {one.space: one.images_per_second for one in found.freshness if one.period_seconds == 60}
    values = (
        ("space_active", "1 for the active space.", [(one.name, float(one.active)) for one in found.spaces]),
        (
            "space_embeddings",
            "Embeddings, counted up to 100,000.",
            [(one.name, one.embedded) for one in found.spaces],
        ),
        ("space_size_bytes", "Size of embeddings and indexes.", [(one.name, one.bytes) for one in found.spaces]),
        ("space_workers", "Live workers that serve the space.", [(one.name, one.live_workers) for one in found.spaces]),
        ("index_ready", "1 if the ANN index is valid.", [(one.name, bool(one.index_valid)) for one in found.spaces]),
        (
            "queue_jobs",
            "Jobs; beyond 100,000 an estimate.",
            [(one.name, one.queued_about) for one in found.spaces],
        ),
        (
            "queue_oldest_seconds",
            "Age of the oldest job; 0 if the queue is empty.",
            [(one.name, one.oldest_job_seconds or 0.0) for one in found.spaces],
        ),
        ("images_per_second", "Images made searchable per second, in the last minute.", list(per_second.items())),
    )
    for name, text, samples in values:
        family = GaugeMetricFamily(f"lookalike_{name}", text, labels=["space"])
        for space, value in samples:
            family.add_metric([space], value)
        yield family


def _failures(found: Status) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "lookalike_failed_images",
        "Failed images, among the latest 10,000 per space.",
        labels=["space", "step", "reason"],
    )
    counts: dict[tuple[str, str, str], int] = {}
    reasons: dict[str, int] = {}
    for one in found.failures:
        reasons[one.space] = reasons.get(one.space, 0) + 1
        reason = one.reason if reasons[one.space] <= _MOST_REASONS else _OTHER
        key = (one.space, one.step, reason)
        counts[key] = counts.get(key, 0) + one.images
    for labels, count in counts.items():
        family.add_metric(labels, count)
    yield family


def _workers(found: Status) -> Iterator[Metric]:
    family = InfoMetricFamily(
        "lookalike_worker", "Live workers with their state.", labels=["worker", "device", "version", "state"]
    )
    for one in found.workers:
        if one.alive:
            family.add_metric([one.name, one.device, one.version, one.state], {"spaces": ",".join(one.spaces)})
    yield family


def _recall(found: Status) -> Iterator[Metric]:
    """Yield the recall of the last day, by plan and selectivity; the total has "all" in both labels."""
    labels = ["space", "plan", "selectivity"]
    of_day = [one for one in found.recall if one.period_seconds == _DAY and one.searches]
    for name, text, value in (
        ("recall", "Mean recall of the live searches checked in the last day.", lambda one: one.recall),
        ("recall_low", "Lower end of the recall's 95 % interval.", lambda one: one.low),
        ("recall_high", "Upper end of the recall's 95 % interval.", lambda one: one.high),
        ("recall_goal", "Recall that these searches requested.", lambda one: one.goal),
        ("recall_below_goal", "1 if the whole interval is below the goal.", lambda one: float(bool(one.below))),
        ("recall_searches", "Live searches checked in the last day.", lambda one: one.searches),
    ):
        family = GaugeMetricFamily(f"lookalike_{name}", text, labels=labels)
        for one in of_day:
            family.add_metric([one.space, one.plan or _ALL, one.selectivity or _ALL], value(one))
        yield family
    if found.samples_waiting is not None:
        yield GaugeMetricFamily(
            "lookalike_recall_samples_waiting", "Sampled searches that wait for a check.", found.samples_waiting
        )


def _standbys(found: Status) -> Iterator[Metric]:
    fit = GaugeMetricFamily("lookalike_standby_fit", "1 if searches go to the standby.", labels=["host"])
    lag = GaugeMetricFamily("lookalike_standby_lag_seconds", "Lag behind the primary, if known.", labels=["host"])
    for one in found.standbys:
        fit.add_metric([one.host], float(one.fit))
        if one.lag_seconds is not None:
            lag.add_metric([one.host], one.lag_seconds)
    yield fit
    yield lag


def _latencies(totals: list[LatencyTotal]) -> Iterator[Metric]:
    by_key: dict[tuple[str, str], list[LatencyTotal]] = {}
    for one in totals:
        by_key.setdefault((one.space, one.measure), []).append(one)
    for measure, text in (
        ("searchable", "Time from the insert or change of an image to its committed embedding."),
        ("query", "Time from the request for a query image's embedding to the result."),
    ):
        family = HistogramMetricFamily(f"lookalike_{measure}_seconds", text, labels=["space"])
        for (space, name), counts in by_key.items():
            if name == measure:
                _add(family, [space], counts)
        yield family
    stages = HistogramMetricFamily("lookalike_stage_seconds", "Duration of worker stages.", labels=["space", "stage"])
    for (space, name), counts in by_key.items():
        if name in _STAGES:
            _add(stages, [space, name], counts)
    yield stages
    for measure, name, text in (
        ("reused", "reused_images", "Embeddings copied from an image with the same bytes."),
        ("failed", "failed_attempts", "Images that failed."),
    ):
        counter = CounterMetricFamily(f"lookalike_{name}", text, labels=["space"])
        for (space, found), counts in by_key.items():
            if found == measure:
                counter.add_metric([space], sum(one.count for one in counts))
        yield counter


def _add(family: HistogramMetricFamily, labels: list[str], counts: Iterable[LatencyTotal]) -> None:
    """Add one histogram; the last bucket of the database has no upper bound."""
    kept = list(counts)
    buckets = [
        (f"{0.001 * 2 ** (bound / _STEP):g}", float(sum(one.count for one in kept if one.bucket <= bound)))
        for bound in range(0, _LAST, _STEP)
    ]
    buckets.append(("+Inf", float(sum(one.count for one in kept))))
    family.add_metric(labels, buckets, sum(one.seconds for one in kept))
