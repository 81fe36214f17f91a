"""The SQL that a request stands for, to be run in psql as it is."""

import json
import math
from collections.abc import Sequence

from app.search.request import Request
from app.types import Embedding

_ROW = "i.id, i.caption, i.uri, i.attributes"


def statement(request: Request) -> str:
    """Return one statement that gives the results of a request, in their order; a request is one that `run` takes.

    A request for one page of many becomes the first page. Values are quoted literals, vectors are written out.
    """
    function, columns, order = _function(request)
    arguments = {**_subject(request, function), **_options(request, function)}
    lines = ",\n         ".join(f"{name} => {value}" for name, value in arguments.items())
    return (
        f"SELECT {_ROW}, {columns}\n"
        f"FROM lookalike.{function}(\n         {lines}) s\n"
        f"JOIN lookalike.images i USING (id)\n"
        f"ORDER BY {order};"
    )


def _function(request: Request) -> tuple[str, str, str]:
    """The SQL function, the columns of its result worth showing, and the order of its rows."""
    if request.text is not None:
        if _by_look(request):
            return "search_fused", "s.score, s.distance, s.text_score", "s.score DESC, i.id"
        return "search_text", "s.score", "s.score DESC, i.id"
    if request.diverse is not None:
        return "search_diverse", "s.distance", "s.rank"
    if request.distinct is not None:
        return "search_distinct", "s.distance", "s.distance, i.id"
    if request.group_by is not None:
        return "search_grouped", "s.group_value, s.distance", "s.distance, i.id"
    if request.cursor is not None:
        return "search_page", "s.distance", "s.distance, i.id"
    if _examples(request):
        return "search", "s.distance", "s.distance, i.id"
    return "similar" if request.image_id is not None else "search", "s.distance", "s.distance, i.id"


def _subject(request: Request, function: str) -> dict[str, str]:
    if function == "search_text":
        return {"words": _text(request.text or "")}
    if function == "similar":
        return {"image_id": str(request.image_id)}
    words = {"words": _text(request.text)} if request.text is not None else {}
    return {"query": _query(request), **words}


def _query(request: Request) -> str:
    stored = [] if request.image_id is None else [request.image_id]
    if not _examples(request):
        return _vector(request.query) if request.query is not None else f"lookalike.embedding_of({stored[0]})"
    given = [] if request.query is None else [request.query]
    arguments = {
        '"like"': _ids([*stored, *request.like]),
        "unlike": _ids(request.unlike),
        "like_embeddings": _vectors([*given, *request.like_embeddings]),
        "unlike_embeddings": _vectors(request.unlike_embeddings),
    }
    return f"lookalike.example_query({', '.join(f'{name} => {value}' for name, value in arguments.items() if value)})"


def _options(request: Request, function: str) -> dict[str, str]:
    seen = [] if request.image_id is None or function == "similar" else [request.image_id]
    exclude = [*request.exclude, *seen, *request.like, *request.unlike]
    filter_ = request.filter
    options = {"k": str(request.k)}
    if function == "search_text" and exclude:
        filter_ = {"$and": [filter_ or {}, {"id": {"$nin": exclude}}]}
        exclude = []
    if function == "search_diverse":
        options["lambda"] = _number(request.diverse)
    if function == "search_distinct":
        options["threshold"] = _number(request.distinct)
    if function == "search_grouped":
        options["group_by"] = _text(request.group_by or "")
    options |= {
        "filter": _text(json.dumps(filter_, ensure_ascii=False)) if filter_ is not None else "",
        "max_distance": _number(request.max_distance),
        "exclude": _ids(exclude),
        "recall": _number(request.recall) if function != "search_page" else "",
        "strategy": _text(request.strategy) if request.strategy not in (None, "auto") else "",
    }
    return {name: value for name, value in options.items() if value}


def _examples(request: Request) -> bool:
    return bool(request.like or request.unlike or request.like_embeddings or request.unlike_embeddings)


def _by_look(request: Request) -> bool:
    return request.image_id is not None or request.query is not None or _examples(request)


def _text(value: str | None) -> str:
    """A literal that means the same whatever standard_conforming_strings is."""
    value = value or ""
    quoted = "'" + value.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return repr(float(value)) if math.isfinite(value) else f"'{value}'"


def _ids(ids: Sequence[int]) -> str:
    return "'{" + ",".join(map(str, dict.fromkeys(ids))) + "}'" if ids else ""


def _vector(vector: Embedding) -> str:
    return "'[" + ",".join(f"{value:.5g}" for value in vector.tolist()) + "]'::halfvec"


def _vectors(vectors: Sequence[Embedding]) -> str:
    return "ARRAY[" + ", ".join(map(_vector, vectors)) + "]" if vectors else ""
