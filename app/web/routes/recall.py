"""GET /v1/recall."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.monitoring import recall
from app.web import openapi, request_body
from app.web.page_schemas import RecallAnswer, RecallQuery
from app.web.services import services

api = APIBlueprint("recall", __name__, url_prefix="/v1", abp_tags=[Tag(name="operation")])


@api.get(
    "/recall",
    operation_id="recall",
    summary="Measured recall of live searches",
    responses={200: RecallAnswer, **openapi.errors_of()},
)
def get_recall(query: RecallQuery) -> Response:
    """Estimates with 95 % intervals by period, plan and selectivity; the trend; changes of the search depth."""
    with services().database.connection() as conn:
        found = recall.read(conn, hours=query.hours, days=query.days)
    response = Response(RecallAnswer(found).model_dump_json(), mimetype=request_body.JSON)
    response.headers["Cache-Control"] = "no-store"
    return response
