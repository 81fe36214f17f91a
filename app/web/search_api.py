"""POST /v1/search and GET /v1/images/{id}/similar. Imports `filters`, `image_header`, `queries`, `search`, `web`."""

import time

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app import filters, image_header, queries, search
from app.records import Answer
from app.search import Options
from app.web import bodies, docs
from app.web.models import (
    Image,
    ImagePath,
    Result,
    SearchAnswer,
    SearchBody,
    SearchOptions,
    SearchQuery,
    SimilarQuery,
    Timings,
)
from app.web.services import services

api = APIBlueprint("search", __name__, url_prefix="/v1", abp_tags=[Tag(name="search")])

_JSON_TEXT = {"type": "string", "contentMediaType": "application/json"}
_UPLOAD = docs.upload_of(
    properties={
        "k": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 10},
        "filter": {**_JSON_TEXT, "description": "Conditions in the JSON filter grammar, as JSON text."},
        "max_distance": {"type": "number", "minimum": 0},
        "exclude": {**_JSON_TEXT, "description": "Ids to leave out, as a JSON list."},
        "recall": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    }
)


@api.post(
    "/search",
    operation_id="search",
    summary="Search by a stored image, by a vector or by an uploaded picture",
    responses={200: SearchAnswer, **docs.errors_of(400, 404, 413, 415)},
    openapi_extensions=docs.body_of((bodies.JSON, SearchBody), (bodies.MULTIPART, _UPLOAD)),
)
def search_images(query: SearchQuery) -> Response:
    """The answer has min(k, matching images) results, nearest first.

    A picture is embedded by a worker; without a live one the answer is 503 at once.
    """
    began = time.perf_counter()
    if bodies.is_multipart():
        return _by_upload(query, began)
    body = bodies.read_json(SearchBody)
    options = _options(body, query)
    vector = None if body.vector is None else bodies.unit_vector(body.vector, body.vector_dtype)
    with services().database.connection() as conn:
        asked = time.perf_counter()
        if vector is None:
            answer = search.similar(conn, body.image_id or 0, **options)
        else:
            answer = search.search(conn, vector, **options)
        answered = time.perf_counter()
    return _respond(answer, query, began=began, asked=asked, answered=answered)


def _by_upload(query: SearchQuery, began: float) -> Response:
    settings = services().settings
    data, options = bodies.read_upload(SearchOptions, max_bytes=settings.max_image_bytes)
    # What is no image is refused here, worker or not.
    image_header.read(data, max_pixels=settings.max_image_pixels)
    with services().database.connection() as conn:
        embedding_asked = time.perf_counter()
        vector = queries.embed(conn, data, timeout=settings.query_timeout)
        asked = time.perf_counter()
        answer = search.search(conn, vector, **_options(options, query))
        answered = time.perf_counter()
    embed_ms = (asked - embedding_asked) * 1000
    return _respond(answer, query, began=began, asked=asked, answered=answered, embed_ms=embed_ms)


@api.get(
    "/images/<image_id>/similar",
    operation_id="similar",
    summary="Images like a stored one",
    responses={200: SearchAnswer, **docs.errors_of(404)},
)
def similar_images(path: ImagePath, query: SimilarQuery) -> Response:
    """The same search as POST /v1/search by image_id; the image itself is left out."""
    began = time.perf_counter()
    options: Options = {
        "k": query.k,
        "filter": None if query.filter is None else filters.parse(query.filter),
        "max_distance": query.max_distance,
        "exclude": query.exclude,
        "recall": query.recall,
        "explain": query.explain,
    }
    with services().database.connection() as conn:
        asked = time.perf_counter()
        answer = search.similar(conn, path.image_id, **options)
        answered = time.perf_counter()
    return _respond(answer, query, began=began, asked=asked, answered=answered)


def _options(given: SearchOptions, query: SearchQuery) -> Options:
    return {
        "k": given.k,
        "filter": given.filter,
        "max_distance": given.max_distance,
        "exclude": given.exclude,
        "recall": given.recall,
        "explain": query.explain,
    }


def _respond(
    answer: Answer, query: SearchQuery, *, began: float, asked: float, answered: float, embed_ms: float | None = None
) -> Response:
    body = SearchAnswer(
        space=answer.space,
        results=[
            Result(
                distance=neighbor.distance,
                similarity=1 - neighbor.distance**2 / 2,
                image=Image.model_validate(neighbor.image),
            )
            for neighbor in answer.neighbors
        ],
    )
    search_ms = (answered - asked) * 1000
    if query.explain:
        body.plan = answer.plan
        body.timings = Timings(
            embed_ms=None if embed_ms is None else round(embed_ms, 3),
            search_ms=round(search_ms, 3),
            total_ms=round((time.perf_counter() - began) * 1000, 3),
        )
    response = Response(body.model_dump_json(exclude_unset=True), mimetype=bodies.JSON)
    stages = ([] if embed_ms is None else [("embed", embed_ms)]) + [("search", search_ms)]
    response.headers["Server-Timing"] = ", ".join(f"{name};dur={duration:.3f}" for name, duration in stages)
    return response
