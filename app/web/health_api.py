"""/v1/status, /healthz and /readyz. Imports `db`, `schema`, `spaces`, `status`, `web`."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app import db, schema, spaces, status
from app.web import bodies, docs
from app.web.models import Health, Ready, StatusAnswer
from app.web.services import services

api = APIBlueprint("health", __name__, abp_tags=[Tag(name="operation")])


@api.get(
    "/v1/status",
    operation_id="status",
    summary="Images, embedding spaces, queue, workers",
    responses={200: StatusAnswer, **docs.errors_of()},
)
def get_status() -> Response:
    """Counts stop at 100,000, so that asking is cheap."""
    with services().database.connection() as conn:
        found = status.read(conn)
    return Response(StatusAnswer(found).model_dump_json(), mimetype=bodies.JSON)


@api.get("/healthz", operation_id="health", summary="The process is up", responses={200: Health, **docs.errors_of()})
def get_health() -> Response:
    """Says nothing about the database: a restart of this process would not mend that."""
    return _uncached(Health().model_dump_json())


@api.get("/readyz", operation_id="ready", summary="The service can answer", responses={200: Ready, **docs.errors_of()})
def get_ready() -> Response:
    """503 with what is missing: the database, the schema's revision, an active embedding space."""
    # By a connection of its own, whose error says why it cannot be; a pool only says that it waited.
    with db.connect(services().database.url, autocommit=True, application="lookalike readiness") as conn:
        schema.check(conn)
        space = spaces.active(conn)
    return _uncached(Ready(revision=schema.head(), space=space.name).model_dump_json())


def _uncached(body: str) -> Response:
    response = Response(body, mimetype=bodies.JSON)
    response.headers["Cache-Control"] = "no-store"
    return response
