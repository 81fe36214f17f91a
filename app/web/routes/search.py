"""POST /v1/search and GET /v1/images/{id}/similar."""

import base64
import time

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic_core import to_json

from app.db import Connection
from app.media.header import read_header
from app.search import filters
from app.search.modes import MODES, Mode
from app.search.request import Request, chosen_mode
from app.search.results import Hit, SearchResult
from app.search.run import run_image_search, run_search
from app.search.to_sql import statement
from app.store import spaces
from app.store.spaces import Space
from app.types import Embedding
from app.web import openapi, read_your_writes, recall_sampling, request_body
from app.web.schemas import ImagePath
from app.web.search_schemas import (
    Example,
    SearchAnswer,
    SearchBody,
    SearchOptions,
    SearchQuery,
    SimilarQuery,
    Timings,
    UploadOptions,
)
from app.web.services import services

api = APIBlueprint("search", __name__, url_prefix="/v1", abp_tags=[Tag(name="search")])

_JSON_TEXT = {"type": "string", "contentMediaType": "application/json"}
_TEXTS = ("vector_dtype", "strategy", *(name for name, mode in MODES.items() if mode.kind is str))


def _upload_property(mode: Mode) -> dict[str, object]:
    names = {"ge": "minimum", "le": "maximum", "max_length": "maxLength"}
    bounds = {names[name]: value for name, value in mode.bounds.items()}
    return {"type": "string" if mode.kind is str else "number", "description": mode.description, **bounds}


_UPLOAD = openapi.upload_of(
    properties={
        "k": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 10},
        "filter": {**_JSON_TEXT, "description": "Conditions in the JSON filter grammar, as JSON text."},
        "max_distance": {"type": "number", "minimum": 0},
        "exclude": {**_JSON_TEXT, "description": "Ids to leave out, as a JSON list."},
        "recall": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "strategy": {"type": "string", "enum": ["auto", "exact", "index"]},
        "like": {**_JSON_TEXT, "description": "More positive examples: a JSON list of ids and vectors."},
        "unlike": {**_JSON_TEXT, "description": "Negative examples: a JSON list of ids and vectors."},
        "vector_dtype": {"type": "string", "enum": ["float32", "float16"], "description": "The floats inside base64."},
        **{name: _upload_property(mode) for name, mode in MODES.items()},
    }
)


@api.post(
    "/search",
    operation_id="search",
    summary="Search by stored images, vectors, an uploaded picture or words",
    responses={200: SearchAnswer, **openapi.errors_of(400, 404, 409, 413, 415)},
    openapi_extensions={
        **openapi.body_of((request_body.JSON, SearchBody), (request_body.MULTIPART, _UPLOAD)),
        openapi.PARAMETERS: read_your_writes.PARAMETERS,
    },
)
def search_images(query: SearchQuery) -> Response:
    """Return min(k, matching images) results, nearest first.

    A picture is embedded by a worker; without a live one the answer is 503 at once.
    """
    began = time.perf_counter()
    if request_body.is_multipart():
        return _by_upload(query, began)
    body = request_body.read_json(SearchBody)
    vector = None if body.vector is None else request_body.unit_vector(body.vector, body.vector_dtype)

    def answer(conn: Connection) -> tuple[Request, SearchResult]:
        in_space = None if body.space is None else spaces.get(conn, body.space).id
        wanted = _request(body, query, vector=vector, image_id=body.image_id, in_space=in_space)
        return wanted, run_search(conn, wanted)

    asked = time.perf_counter()
    wanted, found = read_your_writes.run(answer, timeout=services().settings.search_timeout, min_lsn=query.min_lsn)
    return _respond(found, wanted, began=began, asked=asked, answered=time.perf_counter())


def _by_upload(query: SearchQuery, began: float) -> Response:
    settings = services().settings
    data, options = request_body.read_upload(UploadOptions, max_bytes=settings.max_image_bytes, text_fields=_TEXTS)
    # A body that is not an image is refused here, whether a worker is live or not.
    read_header(data, max_pixels=settings.max_image_pixels, max_frames=settings.max_image_frames)

    def wanted(space: Space, embeddings: list[Embedding]) -> Request:
        return _request(options, query, vector=embeddings[0], in_space=space.id)

    with (
        services().image_query_limit.acquire(),
        services().database.connection(timeout=settings.search_timeout) as conn,
    ):
        embedding_asked = time.perf_counter()
        asked_for, found, embed_seconds = run_image_search(
            conn,
            [data],
            wanted,
            timeout=settings.query_timeout,
            # The worker's answer comes through the primary; the search itself need not.
            answer=lambda asked: _run(asked, query, primary=conn),
        )
        answered = time.perf_counter()
    asked = embedding_asked + embed_seconds
    return _respond(found, asked_for, began=began, asked=asked, answered=answered, embed_ms=embed_seconds * 1000)


@api.get(
    "/images/<image_id>/similar",
    operation_id="similar",
    summary="Images like a stored one",
    responses={200: SearchAnswer, **openapi.errors_of(404)},
    openapi_extensions={openapi.PARAMETERS: read_your_writes.PARAMETERS},
)
def similar_images(path: ImagePath, query: SimilarQuery) -> Response:
    """The same search as POST /v1/search by image_id; the image itself is left out."""
    began = time.perf_counter()
    wanted = Request(
        image_id=path.image_id,
        k=query.k,
        filter=None if query.filter is None else filters.parse(query.filter),
        max_distance=query.max_distance,
        exclude=query.exclude,
        recall=query.recall,
        explain=query.explain,
    )
    asked = time.perf_counter()
    found = _run(wanted, query)
    return _respond(found, wanted, began=began, asked=asked, answered=time.perf_counter())


def _run(wanted: Request, query: SearchQuery, *, primary: Connection | None = None) -> SearchResult:
    return read_your_writes.run(
        lambda conn: run_search(conn, wanted),
        timeout=services().settings.search_timeout,
        min_lsn=query.min_lsn,
        primary=primary,
    )


def _request(
    given: SearchOptions,
    query: SearchQuery,
    *,
    vector: Embedding | None,
    image_id: int | None = None,
    in_space: int | None = None,
) -> Request:
    mode, value = chosen_mode({name: getattr(given, name) for name in MODES})
    return Request(
        in_space=in_space,
        query=vector,
        image_id=image_id,
        like=[one for one in given.like if isinstance(one, int)],
        unlike=[one for one in given.unlike if isinstance(one, int)],
        like_embeddings=_embeddings("like", given.like, given.vector_dtype),
        unlike_embeddings=_embeddings("unlike", given.unlike, given.vector_dtype),
        mode=mode,
        value=value,
        k=given.k,
        filter=given.filter,
        max_distance=given.max_distance,
        exclude=given.exclude,
        recall=given.recall,
        strategy=given.strategy,
        explain=query.explain,
    )


def _embeddings(field: str, examples: list[Example], dtype: str) -> list[Embedding]:
    return [
        request_body.unit_vector(one, dtype, field=f"{field}.{at}")
        for at, one in enumerate(examples)
        if not isinstance(one, int)
    ]


def _respond(
    found: SearchResult,
    asked_for: Request,
    *,
    began: float,
    asked: float,
    answered: float,
    embed_ms: float | None = None,
) -> Response:
    # Serialized from the records; tests compare the JSON with SearchAnswer. Options that were not given leave nothing.
    body: dict[str, object] = {"space": found.space, "results": [_result(hit, asked_for) for hit in found.hits]}
    if found.complete is not None:
        body["complete"] = found.complete
    if asked_for.mode == "cursor":
        body["next_cursor"] = found.next
    search_ms = (answered - asked) * 1000
    if asked_for.explain:
        body["plan"] = found.plan
        body["sql"] = statement(asked_for)
        if embed_ms is not None and asked_for.query is not None:
            body["vector"] = base64.b64encode(asked_for.query.astype("<f2").tobytes()).decode("ascii")
        body["timings"] = Timings(
            embed_ms=None if embed_ms is None else round(embed_ms, 3),
            search_ms=round(search_ms, 3),
            total_ms=round((time.perf_counter() - began) * 1000, 3),
        )
    response = Response(to_json(body), mimetype=request_body.JSON)
    stages = ([] if embed_ms is None else [("embed", embed_ms)]) + [("search", search_ms)]
    response.headers["Server-Timing"] = ", ".join(f"{name};dur={duration:.3f}" for name, duration in stages)
    recall_sampling.sample(response, asked_for, found)
    return response


def _result(hit: Hit, asked_for: Request) -> dict[str, object]:
    return {
        "distance": hit.distance,
        "similarity": None if hit.distance is None else 1 - hit.distance**2 / 2,
        "image": hit.image,
        **{name: getattr(hit, name) for name in asked_for.shows},
    }
