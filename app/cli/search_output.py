"""Search results as JSON or as a table."""

from typing import TYPE_CHECKING

from app.cli import output

if TYPE_CHECKING:
    from app.search.request import Request
    from app.search.results import Hit, SearchResult


_COLUMNS = {
    "group": "group",
    "id": ">id",
    "score": ">score",
    "distance": ">distance",
    "text_score": ">text score",
    "caption": "caption",
    "uri": "uri",
}


def as_json(found: "SearchResult", asked: "Request") -> dict[str, object]:
    """Return the API's answer as a dictionary, without fields that were not requested."""
    result: dict[str, object] = {"space": found.space, "results": [_result(hit, asked) for hit in found.hits]}
    if found.complete is not None:
        result["complete"] = found.complete
    if asked.mode == "cursor":
        result["next_cursor"] = found.next
    if asked.explain:
        result["plan"] = found.plan
    return result


def _result(hit: "Hit", asked: "Request") -> dict[str, object]:
    return {
        "distance": hit.distance,
        "similarity": None if hit.distance is None else 1 - hit.distance**2 / 2,
        **{name: getattr(hit, name) for name in asked.shows},
        "image": hit.image,
    }


def show(found: "SearchResult", asked: "Request") -> None:
    """Print a table to stdout, and to stderr whether it is complete and how to get the next page."""
    shown = ["group", "id", "score", "distance", "text_score", "caption", "uri"]
    absent = {"score", "text_score", "group"} - set(asked.shows) | ({"distance"} if found.space is None else set())
    columns = [_COLUMNS[name] for name in shown if name not in absent]
    output.table(columns, [[_cell(hit, column) for column in columns] for hit in found.hits])
    if not found.hits:
        output.note("nothing found" if found.space is None else f"nothing found in space {found.space}")
    elif found.complete:
        output.note(f"complete: these are all within {asked.max_distance:g}")
    elif found.complete is False:
        output.note(f"truncated: more images lie within {asked.max_distance:g}; raise -k to see them")
    if found.next is not None:
        output.note(f"next page: --after {found.next}")
    elif asked.mode == "cursor":
        output.note("that was the last page")
    if asked.explain:
        output.out("")
        output.table(["", "plan"], [(name, value) for name, value in (found.plan or {}).items()])


def _cell(hit: "Hit", column: str) -> object:
    values = {
        "group": hit.group,
        ">id": hit.image.id,
        ">distance": _number(hit.distance),
        ">score": _number(hit.score),
        ">text score": _number(hit.text_score),
        "caption": hit.image.caption and _short(hit.image.caption),
        "uri": hit.image.uri,
    }
    return values[column]


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _short(caption: str, most: int = 40) -> str:
    return caption if len(caption) <= most else caption[: most - 1] + "…"
