"""The SQL that a request stands for, to be run in psql as it is."""

import json
import math
from collections.abc import Sequence

import numpy as np

from app.search.call import Call, call_of
from app.search.request import Request
from app.types import Embedding

_ROW = "i.id, i.caption, i.uri, i.attributes"


class _Expression(str):
    """SQL that stands for itself, unquoted."""

    __slots__ = ()


def statement(request: Request) -> str:
    """Return one statement that gives the results of a request, in their order; a request is one that `run` takes.

    A request for one page of many becomes the first page. Values are quoted literals, vectors are written out.
    """
    call = _call(request)
    given = {name: _literal(value) for name, value in call.arguments.items() if value is not None}
    lines = ",\n         ".join(f"{name} => {value}" for name, value in given.items())
    return (
        f"SELECT {_ROW}, {call.columns}\n"
        f"FROM lookalike.{call.function}(\n         {lines}) s\n"
        f"JOIN lookalike.images i USING (id)\n"
        f"ORDER BY {call.order};"
    )


def _call(request: Request) -> Call:
    if request.mode is None and request.image_id is not None and not request.given & {"like", "unlike"}:
        # lookalike.similar leaves the image itself out.
        call = call_of(request, None)
        arguments = {**call.arguments, "exclude": request.exclude or None}
        return Call("similar", {"image_id": request.image_id, **arguments}, call.columns, call.order)
    return call_of(request, _query(request))


def _query(request: Request) -> object:
    stored = [] if request.image_id is None else [request.image_id]
    if not request.given & {"like", "unlike"}:
        return (
            request.query if request.query is not None else _Expression(f"lookalike.embedding_of({request.image_id})")
        )
    given = [] if request.query is None else [request.query]
    arguments = {
        '"like"': [*stored, *request.like],
        "unlike": request.unlike,
        "like_embeddings": [*given, *request.like_embeddings],
        "unlike_embeddings": request.unlike_embeddings,
    }
    examples = ", ".join(f"{name} => {_literal(value)}" for name, value in arguments.items() if value)
    return _Expression(f"lookalike.example_query({examples})")


def _literal(value: object) -> str:
    match value:
        case _Expression():
            return value
        case str():
            return _text(value)
        case dict():
            return _text(json.dumps(value, ensure_ascii=False))
        case float():
            return repr(value) if math.isfinite(value) else f"'{value}'"
        case np.ndarray():
            return _vector(value)
        case list() | tuple():
            return _list(value)
    return str(value)


def _text(value: str) -> str:
    """Return a literal that means the same whatever standard_conforming_strings is."""
    quoted = "'" + value.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def _list(values: Sequence[int] | Sequence[Embedding]) -> str:
    if isinstance(values[0], np.ndarray):
        return "ARRAY[" + ", ".join(_literal(one) for one in values) + "]"
    return "'{" + ",".join(str(one) for one in dict.fromkeys(values)) + "}'"


def _vector(vector: Embedding) -> str:
    return "'[" + ",".join(f"{value:.5g}" for value in vector.tolist()) + "]'::halfvec"
