"""/v1/operation, its events, and /v1/failures."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic_core import to_json
from werkzeug.exceptions import ServiceUnavailable

from app.errors import LookalikeError
from app.monitoring import status
from app.store import jobs
from app.web import openapi, request_body
from app.web.errors import kind_of
from app.web.page_schemas import FailuresAnswer, FailuresQuery, OperationAnswer, RetryAnswer, RetryBody
from app.web.server_events import EventStreams
from app.web.services import Services, services

api = APIBlueprint("operate", __name__, url_prefix="/v1", abp_tags=[Tag(name="operation")])

_INTERVAL_SECONDS = 2.0
_EVENTS: dict[str, object] = {
    "description": "Server-sent events: an OperationAnswer or ErrorBody in JSON, at each change",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


@api.get(
    "/operation",
    operation_id="operation",
    summary="Spaces, queue, workers, index builds, latest failures",
    responses={200: OperationAnswer, **openapi.errors_of()},
)
def get_operation() -> Response:
    """Data of the page's Operate view. Counts stop at 100,000."""
    with services().database.connection() as conn:
        found = status.read_operator_view(conn)
    return _uncached(OperationAnswer(found).model_dump_json())


@api.get(
    "/operation/events",
    operation_id="operationEvents",
    summary="The same as server-sent events",
    responses={200: _EVENTS, **openapi.errors_of()},
)
def get_events() -> Response:
    """At most a quarter of the server's threads serve streams. Beyond that it returns 503: poll /v1/operation."""
    stream = _streams(services()).open()
    if stream is None:
        refused = ServiceUnavailable("too many event streams are open; poll /v1/operation instead")
        refused.retry_after = 30
        raise refused
    response = _uncached(stream, mimetype="text/event-stream")  # type: ignore[arg-type]
    response.headers["X-Accel-Buffering"] = "no"  # nginx would buffer events
    return response


@api.get(
    "/failures",
    operation_id="failures",
    summary="Images that could not be embedded",
    responses={200: FailuresAnswer, **openapi.errors_of()},
)
def get_failures(query: FailuresQuery) -> Response:
    """Failed images, each with the step and the reason."""
    with services().database.connection() as conn:
        found = jobs.failures(conn, limit=query.limit)
    return _uncached(FailuresAnswer(found).model_dump_json())


@api.post(
    "/failures/retry",
    operation_id="retryFailures",
    summary="Queue failed images again",
    responses={200: RetryAnswer, **openapi.errors_of(400, 403, 413, 415)},
    openapi_extensions=openapi.body_of((request_body.JSON, RetryBody)),
)
def retry_failures() -> Response:
    """Queues these images, or all failed ones. Images without a failure are skipped."""
    body = request_body.read_json(RetryBody)
    with services().database.connection() as conn:
        queued = jobs.retry(conn, image_ids=body.image_ids)
    return _uncached(RetryAnswer(queued=queued).model_dump_json())


def _streams(given: Services) -> EventStreams:
    from flask import current_app

    if "lookalike-streams" not in current_app.extensions:
        current_app.extensions["lookalike-streams"] = EventStreams(
            lambda: _state(given), limit=max(1, given.settings.api_threads // 4), interval=_INTERVAL_SECONDS
        )
    streams: EventStreams = current_app.extensions["lookalike-streams"]
    return streams


def _state(given: Services) -> str:
    """Return the state as JSON, or an error, because a stream survives an outage of the database."""
    try:
        with given.database.connection() as conn:
            return OperationAnswer(status.read_operator_view(conn)).model_dump_json()
    except LookalikeError as error:
        return to_json({"error": {"code": kind_of(error).code, "message": str(error)}}).decode()


def _uncached(body: str, *, mimetype: str = request_body.JSON) -> Response:
    response = Response(body, mimetype=mimetype)
    response.headers["Cache-Control"] = "no-store"
    return response
