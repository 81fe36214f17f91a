"""GET /v1/duplicates."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.errors import QueryCanceledError
from app.search import duplicates, filters
from app.web import openapi, read_your_writes, request_body
from app.web.schemas import DuplicateGroup, DuplicateImage, DuplicatesAnswer, DuplicatesQuery, Image
from app.web.services import services

api = APIBlueprint("duplicates", __name__, url_prefix="/v1", abp_tags=[Tag(name="search")])


@api.get(
    "/duplicates",
    operation_id="duplicates",
    summary="Groups of near-duplicates",
    responses={200: DuplicatesAnswer, **openapi.errors_of()},
)
def list_duplicates(query: DuplicatesQuery) -> Response:
    """Runs one index search for each image that matches the filter.

    Returns 503 if that takes too long: send a narrower filter, or use `lookalike duplicates`.
    """
    filter_ = None if query.filter is None else filters.parse(query.filter)
    try:
        found = read_your_writes.run(
            lambda conn: duplicates.groups(conn, threshold=query.threshold, filter=filter_, limit=query.limit),
            timeout=services().settings.write_timeout,
        )
    except QueryCanceledError as error:
        raise QueryCanceledError(
            "comparing so many images takes longer than a request may; send a narrower filter, or run"
            ' "lookalike duplicates"'
        ) from error
    answer = DuplicatesAnswer(
        total=found.total,
        groups=[
            DuplicateGroup(
                group=one.group,
                images=[
                    DuplicateImage(distance=image.distance, image=Image.model_validate(image.image))
                    for image in one.images
                ],
            )
            for one in found.groups
        ],
    )
    return Response(answer.model_dump_json(), mimetype=request_body.JSON)
