"""JSON errors, all in one shape, each with the request id.

`KINDS` maps each error class to its HTTP status and its `code`, by which programs distinguish errors. A value that is
not valid gives 422, a body that is not JSON gives 400.
"""

import logging
import os
import re
from dataclasses import dataclass
from http import HTTPStatus

from flask import Flask, Response, g, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from app import errors
from app.web import auth
from app.web.schemas import ErrorBody, ErrorDetail, FieldError

logger = logging.getLogger(__name__)

_MEMBERS = ("id-example", "vector-example", "str")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Kind:
    """HTTP status and code of an error class, and seconds until a retry makes sense."""

    status: int
    code: str
    retry_after: int | None = None


# The most specific class first.
KINDS: tuple[tuple[type[errors.LookalikeError], Kind], ...] = (
    (errors.InvalidInputError, Kind(422, "invalid_input")),
    (errors.AuthenticationError, Kind(401, "unauthorized")),
    (errors.ForbiddenError, Kind(403, "forbidden")),
    (errors.NotFoundError, Kind(404, "not_found")),
    (errors.SpaceChangedError, Kind(409, "space_changed")),
    (errors.BuildRunningError, Kind(409, "build_running")),
    (errors.ConflictError, Kind(409, "conflict")),
    (errors.TransientImageError, Kind(503, "image_unavailable", retry_after=5)),
    (errors.ImageError, Kind(422, "image_error")),
    (errors.NoWorkerError, Kind(503, "no_worker", retry_after=10)),
    (errors.QueryTimeoutError, Kind(503, "query_timeout", retry_after=2)),
    (errors.DatabaseRefusedError, Kind(503, "database_refused", retry_after=5)),
    (errors.QueryCanceledError, Kind(503, "query_canceled", retry_after=5)),
    (errors.DatabaseUnavailableError, Kind(503, "database_unavailable", retry_after=2)),
    (errors.OverloadedError, Kind(503, "overloaded", retry_after=1)),
    (errors.StorageError, Kind(503, "storage_unavailable", retry_after=5)),
    (errors.SchemaError, Kind(503, "schema_mismatch", retry_after=10)),
    (errors.ConfigurationError, Kind(500, "misconfigured")),
    (errors.LookalikeError, Kind(500, "internal_error")),
)


class InvalidRequestError(errors.InvalidInputError):
    """A request with malformed fields; `fields` lists them with reasons."""

    def __init__(self, message: str, fields: list[FieldError]) -> None:
        super().__init__(message)
        self.fields = fields


class ImageSourceError(errors.LookalikeError):
    """The file of a stored image cannot be read; `gone` means that it no longer exists."""

    def __init__(self, message: str, *, gone: bool) -> None:
        super().__init__(message)
        self.gone = gone


def invalid_request(error: ValidationError) -> InvalidRequestError:
    """Return pydantic's error as ours, with all fields; the message names the first three."""
    fields = []
    for one in error.errors(include_url=False, include_context=False):
        # Leave out pydantic's names for the members of a union.
        parts = [str(part) for part in one["loc"] if not str(part).startswith(("list[", "function-", "tagged-"))]
        name = ".".join(part for part in parts if part not in _MEMBERS)
        given = repr(one["input"])
        shown = "" if one["type"] in ("missing", "value_error") else f", got {given[:80]}{'…' * (len(given) > 80)}"
        fields.append(FieldError(field=name, message=one["msg"].removeprefix("Value error, ") + shown))
    message = "; ".join(f"{one.field}: {one.message}" if one.field else one.message for one in fields[:3])
    return InvalidRequestError(message, fields)


def refuse_invalid(error: ValidationError) -> Response:
    """Raise pydantic's error as ours; a callback of flask_openapi3."""
    raise invalid_request(error)


def register(app: Flask) -> None:
    """Give every request an id, and return every error as JSON."""
    app.before_request(_assign_request_id)
    app.after_request(_add_headers)
    app.register_error_handler(errors.LookalikeError, _from_lookalike)
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(Exception, _from_defect)


def request_id() -> str:
    """Return the id of this request: the client's X-Request-ID if it is well-formed, else a new one."""
    if "request_id" not in g:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
    return str(g.request_id)


def _assign_request_id() -> None:
    request_id()


def _add_headers(response: Response) -> Response:
    response.headers["X-Request-ID"] = request_id()
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if response.mimetype != "text/html":
        # If a browser opens the response directly, its content must not run, load or post anything.
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
    return response


def kind_of(error: errors.LookalikeError) -> Kind:
    """Return the status and code of this error."""
    if isinstance(error, ImageSourceError):
        return Kind(410, "image_gone") if error.gone else Kind(502, "image_unavailable")
    return next(kind for kinds, kind in KINDS if isinstance(error, kinds))


def _from_lookalike(error: errors.LookalikeError) -> Response:
    kind = kind_of(error)
    if kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        level = logging.ERROR if kind.status == HTTPStatus.INTERNAL_SERVER_ERROR else logging.WARNING
        logger.log(level, "%s %s: %s [request %s]", request.method, request.path, error, request_id())
    response = _error(kind.status, kind.code, str(error), getattr(error, "fields", None))
    authenticate = auth.challenge(error)
    if authenticate is not None:
        response.headers["WWW-Authenticate"] = authenticate
    if kind.retry_after is not None:
        response.headers["Retry-After"] = str(kind.retry_after)
    return response


def _from_http(error: HTTPException) -> Response | HTTPException:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    if status < HTTPStatus.BAD_REQUEST or error.response is not None:
        return error  # a redirect, or a response made by the view
    message = error.description or HTTPStatus(status).phrase
    if status == HTTPStatus.NOT_FOUND and request.routing_exception is not None:
        message = f"there is nothing at {request.path}; /docs lists the routes"
    response = _error(status, HTTPStatus(status).phrase.lower().replace(" ", "_"), message)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _from_defect(error: Exception) -> Response:
    logger.error("%s %s failed [request %s]", request.method, request.path, request_id(), exc_info=error)
    return _error(500, "internal_error", "internal error; the server's log has the details under this request id")


def detail_of(code: str, message: str, fields: list[FieldError] | None = None) -> ErrorDetail:
    """Return an error as responses contain it."""
    return ErrorDetail(code=code, message=message, request_id=request_id(), fields=fields or [])


def _error(status: int, code: str, message: str, fields: list[FieldError] | None = None) -> Response:
    body = ErrorBody(error=detail_of(code, message, fields))
    return Response(body.model_dump_json(), status=status, mimetype="application/json")
