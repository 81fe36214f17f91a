"""/v1/status, /healthz and /readyz."""

from dataclasses import replace
from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app import db
from app.db import schema, sql
from app.monitoring import status
from app.store import spaces
from app.store.spaces import Space
from app.web import openapi, request_body
from app.web.schemas import Health, Ready, StatusAnswer
from app.web.services import services

api = APIBlueprint("health", __name__, abp_tags=[Tag(name="operation")])


# With fewer embeddings, exact search is as fast as an index.
_SLOW_WITHOUT_INDEX = 10_000


@api.get(
    "/v1/status",
    operation_id="status",
    summary="Images, embedding spaces, queue, workers",
    responses={200: StatusAnswer, **openapi.errors_of()},
)
def get_status() -> Response:
    """Counts stop at 100,000, so that a request is cheap."""
    with services().database.connection() as conn:
        found = replace(status.read_status(conn), standbys=services().router.states())
    return Response(StatusAnswer(found).model_dump_json(), mimetype=request_body.JSON)


@api.get("/healthz", operation_id="health", summary="Liveness", responses={200: Health, **openapi.errors_of()})
def get_health() -> Response:
    """Does not check the database, because a restart of this process would not help."""
    return _uncached(Health().model_dump_json())


@api.get("/readyz", operation_id="ready", summary="Readiness", responses={200: Ready, **openapi.errors_of()})
def get_ready() -> Response:
    """Returns 503 with the reason if the database, the right schema revision or an active embedding space is missing.

    Returns 200 with status degraded if no worker is alive, or if the index is missing or not valid.
    """
    # A connection outside the pool reports why it fails; the pool reports only a timeout.
    with db.connect(services().database.url, autocommit=True, application="lookalike readiness") as conn:
        revision = schema.check(conn)
        space = spaces.active(conn)
        problems = _problems(conn, space, services().settings.index_min_rows)
    status: Literal["ready", "degraded"] = "degraded" if problems else "ready"
    ready = Ready(status=status, problems=problems, revision=revision, space=space.name)
    return _uncached(ready.model_dump_json())


def _problems(conn: db.Connection, space: Space, index_min_rows: int) -> list[str]:
    """Return the problems that degrade the service without stopping it."""
    values = {"space_id": space.id, "enough": max(index_min_rows, _SLOW_WITHOUT_INDEX)}
    with db.translated():
        row = conn.execute(sql.query("readiness"), values).fetchone()
    live_workers, index_valid, wants_index = row or (0, None, False)
    problems = []
    if not live_workers:
        problems.append("no worker is alive: images are not embedded, and searches by an uploaded image fail")
    if index_valid is False:
        problems.append("the index is not valid: a build is running or was interrupted; searches are exact meanwhile")
    elif index_valid is None and wants_index:
        problems.append("there is no index: searches are exact and slow")
    return problems


def _uncached(body: str) -> Response:
    response = Response(body, mimetype=request_body.JSON)
    response.headers["Cache-Control"] = "no-store"
    return response
