"""GET /v1/tradeoffs."""

from datetime import datetime

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import ConfigDict, Field

from app.store import spaces
from app.tuning import pareto, results
from app.tuning.apply import current_text
from app.tuning.pareto import Point
from app.tuning.records import Run
from app.web import openapi, request_body
from app.web.schemas import Body, Parameters
from app.web.services import services

api = APIBlueprint("tradeoffs", __name__, url_prefix="/v1", abp_tags=[Tag(name="operation")])


class TradeoffsQuery(Parameters):
    """Query parameters of the trade-offs."""

    space: str | None = Field(
        None,
        description="Embedding space. Default: the active one.",
        json_schema_extra={"example": "lite0"},
    )
    run: int | None = Field(None, ge=1, lt=2**63, description="Run of this space. Default: the last one with results.")


class TradeoffsRun(Body):
    """A trade-off run and its conditions."""

    model_config = ConfigDict(extra="forbid")

    id: int
    started_at: datetime
    ended_at: datetime | None = Field(description="null if the run was interrupted or is in progress.")
    rows: int = Field(description="Number of images measured on: all, or a sample.")
    rows_total: int = Field(description="Number of images in the space at that time.")
    k: int
    queries: int
    label: str | None = Field(description="Attribute of label_precision.")
    conditions: dict[str, object] = Field(description="Hardware, versions, settings.")


class TradeoffsPoint(Body):
    """One index choice; times in milliseconds. `floor` and `ceiling` are 95 % confidence bounds."""

    model_config = ConfigDict(extra="forbid")

    choice: str
    kind: str
    recall: float
    recall_floor: float
    label_precision: float | None
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p95_ceiling_ms: float
    qps: dict[str, float] = Field(description="Queries per second, by the number of concurrent clients.")
    build_seconds: float
    insert_ms: float
    bytes_per_image: float = Field(description="Embedding, primary key and ANN index.")
    index_bytes_per_image: float = Field(description="The ANN index alone.")
    memory_bytes: int = Field(description="Memory that a build of the index uses.")
    current: bool = Field(description="Whether the space uses this choice now.")
    fast: bool = Field(description="No other choice has as much recall at a lower p50.")
    small: bool = Field(description="No other choice with an index has as much recall with fewer bytes.")
    best: bool = Field(description="Every other choice is worse in recall, p50 or bytes.")


class TradeoffsAnswer(Body):
    """Measured index choices of a space, highest recall first."""

    model_config = ConfigDict(extra="forbid")

    space: str
    current: str = Field(description="The index choice in use.")
    run: TradeoffsRun | None = Field(description="null if nothing was measured yet; run lookalike tradeoffs.")
    points: list[TradeoffsPoint]


@api.get(
    "/tradeoffs",
    operation_id="tradeoffs",
    summary="Measured index choices: recall, latency, throughput, bytes, build cost",
    responses={200: TradeoffsAnswer, **openapi.errors_of(404)},
)
def get_tradeoffs(query: TradeoffsQuery) -> Response:
    """Measurements of the last `lookalike tradeoffs`, with flags for unbeaten choices and the one in use."""
    with services().database.connection() as conn:
        space = spaces.active(conn) if query.space is None else spaces.get(conn, query.space)
        run = results.latest(conn, space) if query.run is None else results.of_space(conn, space, query.run)
        measured = [] if run is None else results.measurements(conn, run)
    current = current_text(space)
    points = pareto.points(measured, current)
    answer = TradeoffsAnswer(
        space=space.name,
        current=current,
        run=None if run is None else _run(run, points),
        points=[_point(point) for point in points],
    )
    return Response(answer.model_dump_json(), mimetype=request_body.JSON)


def _run(run: Run, points: list[Point]) -> TradeoffsRun:
    return TradeoffsRun(
        id=run.id,
        started_at=run.started_at,
        ended_at=run.ended_at,
        rows=points[0].measured.rows if points else 0,
        rows_total=run.rows_total,
        k=run.request.k,
        queries=run.request.queries,
        label=run.request.label,
        conditions=run.conditions,
    )


def _point(point: Point) -> TradeoffsPoint:
    one = point.measured
    return TradeoffsPoint(
        choice=one.choice,
        kind=str(one.options.get("kind")),
        recall=one.recall,
        recall_floor=one.recall_floor,
        label_precision=one.label_precision,
        p50_ms=one.p50_ms,
        p95_ms=one.p95_ms,
        p99_ms=one.p99_ms,
        p95_ceiling_ms=one.p95_ceiling_ms,
        qps=one.qps,
        build_seconds=one.build_seconds,
        insert_ms=one.insert_ms,
        bytes_per_image=one.bytes_per_image,
        index_bytes_per_image=one.index_bytes_per_image,
        memory_bytes=one.memory_bytes,
        current=point.current,
        fast=point.fast,
        small=point.small,
        best=point.best,
    )
