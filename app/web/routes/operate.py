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
from app.web.server_events import Streams
from app.web.services import Services, services

api = APIBlueprint("operate", __name__, url_prefix="/v1", abp_tags=[Tag(name="operation")])

_EVERY_SECONDS = 2.0
_EVENTS: dict[str, object] = {
    "description": "Server-sent events: an OperationAnswer in JSON, whenever it has changed; or an ErrorBody",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


@api.get(
    "/operation",
    operation_id="operation",
    summary="Spaces, queue, workers, index builds, latest failures",
    responses={200: OperationAnswer, **openapi.errors_of()},
)
def get_operation() -> Response:
    """What the page's Operate view shows, read once; counts stop at 100,000."""
    with services().database.connection() as conn:
        found = status.read_operator_view(conn)
    return _uncached(OperationAnswer(found).model_dump_json())


@api.get(
    "/operation/events",
    operation_id="operationEvents",
    summary="The same, live, by server-sent events",
    responses={200: _EVENTS, **openapi.errors_of()},
)
def get_events() -> Response:
    """A quarter of the server's threads serve streams at most; 503 beyond that: ask /v1/operation now and then."""
    stream = _streams(services()).open()
    if stream is None:
        refused = ServiceUnavailable("as many event streams are open as may be; poll /v1/operation instead")
        refused.retry_after = 30
        raise refused
    response = _uncached(stream, mimetype="text/event-stream")  # type: ignore[arg-type]
    response.headers["X-Accel-Buffering"] = "no"  # nginx would collect events
    return response


@api.get(
    "/failures",
    operation_id="failures",
    summary="Images that could not be embedded",
    responses={200: FailuresAnswer, **openapi.errors_of()},
)
def get_failures(query: FailuresQuery) -> Response:
    """Each with the step that failed and the reason."""
    with services().database.connection() as conn:
        found = jobs.failures(conn, limit=query.limit)
    return _uncached(FailuresAnswer(found).model_dump_json())


@api.post(
    "/failures/retry",
    operation_id="retryFailures",
    summary="Put failures back into the queue",
    responses={200: RetryAnswer, **openapi.errors_of(400, 403, 413, 415)},
    openapi_extensions=openapi.body_of((request_body.JSON, RetryBody)),
)
def retry_failures() -> Response:
    """Of the images named, or all; one that has no failure is passed over."""
    body = request_body.read_json(RetryBody)
    with services().database.connection() as conn:
        queued = jobs.retry(conn, image_ids=body.image_ids)
    return _uncached(RetryAnswer(queued=queued).model_dump_json())


def _streams(given: Services) -> Streams:
    from flask import current_app

    if "lookalike-streams" not in current_app.extensions:
        current_app.extensions["lookalike-streams"] = Streams(
            lambda: _told(given), most=max(1, given.settings.api_threads // 4), every=_EVERY_SECONDS
        )
    streams: Streams = current_app.extensions["lookalike-streams"]
    return streams


def _told(given: Services) -> str:
    """The state as JSON, or what hinders reading it: a stream outlives an outage of the database."""
    try:
        with given.database.connection() as conn:
            return OperationAnswer(status.read_operator_view(conn)).model_dump_json()
    except LookalikeError as error:
        return to_json({"error": {"code": kind_of(error).code, "message": str(error)}}).decode()


def _uncached(body: str, *, mimetype: str = request_body.JSON) -> Response:
    response = Response(body, mimetype=mimetype)
    response.headers["Cache-Control"] = "no-store"
    return response
