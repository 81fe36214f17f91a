"""GET /v1/facets and /v1/sample."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.search import facets, filters
from app.web import openapi, read_your_writes, request_body
from app.web.page_schemas import FacetsAnswer, FacetsQuery, SampleAnswer, SampleQuery
from app.web.schemas import Image

api = APIBlueprint("gallery", __name__, url_prefix="/v1", abp_tags=[Tag(name="search")])


@api.get(
    "/facets",
    operation_id="facets",
    summary="Attributes to filter by",
    responses={200: FacetsAnswer, **openapi.errors_of()},
)
def get_facets(query: FacetsQuery) -> Response:
    """Attributes with their ranges or most common values. In a large gallery, counts come from a sample."""
    filter_ = None if query.filter is None else filters.parse(query.filter)
    found = read_your_writes.run(lambda conn: facets.facets(conn, filter=filter_, names=query.name or None))
    return Response(FacetsAnswer(found).model_dump_json(), mimetype=request_body.JSON)


@api.get(
    "/sample",
    operation_id="sample",
    summary="A sample of images",
    responses={200: SampleAnswer, **openapi.errors_of()},
)
def get_sample(query: SampleQuery) -> Response:
    """A random selection of searchable images; the latest ones if the filter matches few of a large gallery."""
    filter_ = None if query.filter is None else filters.parse(query.filter)
    found = read_your_writes.run(lambda conn: facets.sample(conn, filter=filter_, limit=query.limit, seed=query.seed))
    answer = SampleAnswer(images=[Image.model_validate(image) for image in found])
    return Response(answer.model_dump_json(), mimetype=request_body.JSON)
