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


# Below so many embeddings the exact search is as quick.
_SLOW_WITHOUT_INDEX = 10_000


@api.get(
    "/v1/status",
    operation_id="status",
    summary="Images, embedding spaces, queue, workers",
    responses={200: StatusAnswer, **openapi.errors_of()},
)
def get_status() -> Response:
    """Counts stop at 100,000, so that asking is cheap."""
    with services().database.connection() as conn:
        found = replace(status.read_status(conn), standbys=services().reads.states())
    return Response(StatusAnswer(found).model_dump_json(), mimetype=request_body.JSON)


@api.get("/healthz", operation_id="health", summary="The process is up", responses={200: Health, **openapi.errors_of()})
def get_health() -> Response:
    """Says nothing about the database: a restart of this process would not mend that."""
    return _uncached(Health().model_dump_json())


@api.get(
    "/readyz", operation_id="ready", summary="The service can answer", responses={200: Ready, **openapi.errors_of()}
)
def get_ready() -> Response:
    """503 with what is missing: the database, the schema's revision, an active embedding space.

    200 with status degraded where it answers, but no worker is alive or the index is missing or not valid.
    """
    # By a connection of its own, whose error says why it cannot be; a pool only says that it waited.
    with db.connect(services().database.url, autocommit=True, application="lookalike readiness") as conn:
        revision = schema.check(conn)
        space = spaces.active(conn)
        problems = _problems(conn, space, services().settings.index_min_rows)
    status: Literal["ready", "degraded"] = "degraded" if problems else "ready"
    ready = Ready(status=status, problems=problems, revision=revision, space=space.name)
    return _uncached(ready.model_dump_json())


def _problems(conn: db.Connection, space: Space, index_min_rows: int) -> list[str]:
    """What works worse than it could, but keeps no one from being answered."""
    values = {"space_id": space.id, "enough": max(index_min_rows, _SLOW_WITHOUT_INDEX)}
    with db.translated():
        row = conn.execute(sql.query("readiness"), values).fetchone()
    live_workers, index_valid, wants_index = row or (0, None, False)
    problems = []
    if not live_workers:
        problems.append("no worker is alive: pictures are not embedded, so one cannot be searched by")
    if index_valid is False:
        problems.append("the index is not valid: being built, or left by a build cut off; searches are exact meanwhile")
    elif index_valid is None and wants_index:
        problems.append("there is no index: searches are exact, and slow")
    return problems


def _uncached(body: str) -> Response:
    response = Response(body, mimetype=request_body.JSON)
    response.headers["Cache-Control"] = "no-store"
    return response
