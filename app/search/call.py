"""The SQL function that answers a request, and its arguments: to be called, or to be shown."""

from dataclasses import dataclass
from typing import LiteralString

from app.search.modes import MODES
from app.search.request import SUBJECTS, Request


@dataclass(frozen=True, slots=True)
class Call:
    """A SQL function of schema lookalike with named arguments, and the columns and order of its rows, in SQL."""

    function: LiteralString
    arguments: dict[str, object]
    columns: str = "s.distance"
    order: str = "s.distance, i.id"


def call_of(request: Request, query: object) -> Call:
    """Return the call that answers a request; `query` stands for the embedding that it searches by.

    A request for one page of many becomes the first page.
    """
    further = {
        "filter": request.filter,
        "max_distance": request.max_distance,
        "exclude": request.left_out or None,
        "recall": request.recall,
    }
    if request.mode is None:
        strategy = None if request.strategy == "auto" else request.strategy
        return Call("search", {"query": query, "k": request.k, **further, "strategy": strategy})
    mode = MODES[request.mode]
    value = {mode.argument: request.value} if mode.argument else {}
    if not SUBJECTS.intersection(request.given):
        filter_ = request.filter
        if request.left_out:
            filter_ = {"$and": [filter_ or {}, {"id": {"$nin": request.left_out}}]}
        return Call(
            mode.without_subject or mode.function, {**value, "k": request.k, "filter": filter_}, "s.score", mode.order
        )
    accepted = {name: given for name, given in further.items() if name in mode.accepts}
    arguments = {"query": query, **value, "k": request.k, **accepted}
    return Call(mode.function, arguments, mode.columns, mode.order)
