"""The modes of a search: each is chosen by an option and answered by a SQL function of its own.

This table is the one place that names a mode. The HTTP schema, the options of the command line, the check of what can
be combined, the call of the SQL function and the SQL that is shown derive from it. Modes exclude each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import LiteralString

_ALL = frozenset({"filter", "max_distance", "exclude", "recall"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """An option that chooses a SQL function.

    `argument` is the SQL parameter that takes the option's value; None if the value is a cursor. `accepts` are the
    further options that the function takes beside k. `order` and `columns` are of its rows, in SQL. `shows` are the
    fields of a hit that an answer has only in this mode. `bounds` are limits of the value, named as pydantic does.
    """

    option: str
    kind: type[float] | type[str]
    function: LiteralString
    argument: str | None
    description: str
    help: str
    metavar: str
    flag: str
    accepts: frozenset[str] = _ALL
    without_subject: LiteralString | None = None  # the function that needs no embedding to search by
    columns: str = "s.distance"
    order: str = "s.distance, i.id"
    shows: tuple[str, ...] = ()
    bounds: Mapping[str, float] = field(default_factory=dict)
    examples: tuple[str, ...] = ()


MODES = {
    mode.option: mode
    for mode in (
        Mode(
            option="text",
            kind=str,
            function="search_fused",
            argument="words",
            accepts=_ALL - {"max_distance"},
            without_subject="search_text",
            columns="s.score, s.distance, s.text_score",
            order="s.score DESC, i.id",
            shows=("score", "text_score"),
            bounds={"max_length": 1000},
            examples=("red teapot",),
            description="Words in caption and attributes; with an image, both rank by reciprocal rank fusion.",
            flag="--text",
            metavar="WORDS",
            help="Search captions and attributes; with an image, by both.",
        ),
        Mode(
            option="diverse",
            kind=float,
            function="search_diverse",
            argument="lambda",
            order="s.rank",
            bounds={"ge": 0, "le": 1},
            description="Lambda of maximal marginal relevance: 1 is the plain order, 0 the most diverse.",
            flag="--diverse",
            metavar="LAMBDA",
            help="Near images that differ from each other: 1 is the plain order, 0 the most diverse.",
        ),
        Mode(
            option="distinct",
            kind=float,
            function="search_distinct",
            argument="threshold",
            bounds={"ge": 0, "le": 2},
            description="Leaves out images within this distance of a better result; near-duplicates: 0.35",
            flag="--distinct",
            metavar="THRESHOLD",
            help="No two results within this distance; near-duplicates: 0.35.",
        ),
        Mode(
            option="group_by",
            kind=str,
            function="search_grouped",
            argument="group_by",
            columns="s.group_value, s.distance",
            shows=("group",),
            bounds={"max_length": 1000},
            description="An attribute, such as product or size.w: the best result of each value.",
            flag="--group-by",
            metavar="ATTRIBUTE",
            help="The best result of each value of an attribute.",
        ),
        Mode(
            option="cursor",
            kind=str,
            function="search_page",
            argument=None,
            accepts=_ALL - {"recall"},  # a page is exact, whatever recall asks for
            examples=("start",),
            description='Exact pages: "start" for the first, then the next_cursor of the page before. k may change.',
            flag="--after",
            metavar="CURSOR",
            help='Page by page: "start", then the cursor that the last page printed.',
        ),
    )
}
