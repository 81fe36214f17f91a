"""POST /v1/images:batch: many images in one request, each with its own result."""

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from psycopg import Rollback
from pydantic import ValidationError

from app.errors import InvalidInputError, LookalikeError
from app.store import images
from app.web import openapi, request_body
from app.web.errors import InvalidRequestError, detail_of, invalid_request, kind_of
from app.web.idempotency import PARAMETERS, idempotent, write_transaction
from app.web.schemas import BatchAnswer, BatchBody, BatchQuery, BatchResult, Image, ImageBody

api = APIBlueprint("batch", __name__, url_prefix="/v1", abp_tags=[Tag(name="images")])

MAX_ITEMS = 1000
NDJSON = "application/x-ndjson"
_CREATED = 201
_MIXED = 207
_LINE: dict[str, object] = {
    "type": "string",
    "description": "One ImageBody per line; the response has one BatchResult per line.",
}


class _NotDoneError(LookalikeError):
    """Another item of an atomic batch failed."""


@api.post(
    "/images:batch",
    operation_id="addImages",
    summary="Add up to 1,000 images by uri",
    responses={201: BatchAnswer, 207: BatchAnswer, **openapi.errors_of(400, 413, 415)},
    openapi_extensions={
        **openapi.body_of((request_body.JSON, BatchBody), (NDJSON, _LINE)),
        openapi.PARAMETERS: PARAMETERS,
    },
)
@idempotent
def add_images(query: BatchQuery) -> Response:
    """Returns 201 if all items were added, else 207. Each result has the status of a single request.

    A failed item does not affect the others. With atomic=1, nothing is added if any item fails, and the other items get
    status 424. NDJSON, with one item per line, gets one result per line, in the same order.
    """
    lines = request.mimetype == NDJSON
    items = _items(
        request_body.read_lines()
        if lines
        else request_body.read_json(BatchBody, max_bytes=request_body.MAX_BATCH_BYTES).images
    )
    done: list[object] = []
    with write_transaction() as conn, conn.transaction() as attempt:
        made = iter(images.add_many(conn, [one for one in items if isinstance(one, images.NewImage)]))
        done = [one if isinstance(one, LookalikeError) else next(made) for one in items]
        if query.atomic and any(isinstance(one, LookalikeError) for one in done):
            undone = _NotDoneError("not added, because another item of this atomic batch failed")
            done = [one if isinstance(one, LookalikeError) else undone for one in done]
            raise Rollback(attempt)
    results = [_result(index, one) for index, one in enumerate(done)]
    added = sum(one.status == _CREATED for one in results)
    status = _CREATED if added == len(results) else _MIXED
    if lines:
        text = "".join(one.model_dump_json(exclude_unset=True) + "\n" for one in results)
        return Response(text, status=status, mimetype=NDJSON)
    answer = BatchAnswer(added=added, failed=len(results) - added, results=results)
    return Response(answer.model_dump_json(exclude_unset=True), status=status, mimetype=request_body.JSON)


def _items(given: list[object]) -> list[images.NewImage | LookalikeError]:
    if not 1 <= len(given) <= MAX_ITEMS:
        message = f"{len(given):,} items were sent; a batch has 1 to {MAX_ITEMS:,}"
        raise InvalidInputError(message)
    return [_item(one) for one in given]


def _item(given: object) -> images.NewImage | LookalikeError:
    if isinstance(given, LookalikeError):
        return given
    try:
        body = ImageBody.model_validate(given)
    except ValidationError as error:
        return invalid_request(error)
    return images.NewImage(body.uri, body.caption, body.attributes)


def _result(index: int, one: object) -> BatchResult:
    if isinstance(one, _NotDoneError):
        return BatchResult(index=index, status=424, error=detail_of("not_done", str(one)))
    if isinstance(one, LookalikeError):
        kind = kind_of(one)
        fields = one.fields if isinstance(one, InvalidRequestError) else None
        return BatchResult(index=index, status=kind.status, error=detail_of(kind.code, str(one), fields))
    return BatchResult(index=index, status=_CREATED, image=Image.model_validate(one))
