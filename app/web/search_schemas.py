"""Schemas of search requests and answers; the options of modes come from their table."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model, model_validator

from app.search.modes import MODES, Mode
from app.search.request import conflicting_options
from app.web.schemas import LSN_PATTERN, Body, Filter, Image, ImageId, Parameters

K = Annotated[int, Field(ge=1, le=10_000, description="Number of results.")]
MaxDistance = Annotated[
    float, Field(ge=0, description="Maximum distance of a result: L2 distance of unit vectors, 0 to 2.")
]
Recall = Annotated[
    float, Field(gt=0, le=1, description="Share of the true neighbours to find; 1 searches exactly. Default: 0.99")
]
Exclude = Annotated[list[ImageId], Field(max_length=10_000, description="Ids of images to leave out.")]
# A string is base64 of little-endian floats, as numpy writes them; `vector_dtype` is their type.
Vector = list[float] | str


def _kind_of_example(value: object) -> str:
    return "vector-example" if isinstance(value, list | str) else "id-example"


# The discriminator chooses one type before validation, so that an error names only that one.
Example = Annotated[
    Annotated[ImageId, Tag("id-example")] | Annotated[Vector, Tag("vector-example")], Discriminator(_kind_of_example)
]


class SearchQuery(Parameters):
    """Query parameters of POST /v1/search."""

    explain: bool = Field(False, description="Include plan, timings and SQL in the response.")
    min_lsn: str | None = Field(
        None, pattern=LSN_PATTERN, description="Lookalike-Lsn of a write that the search must see; see the header."
    )


class SimilarQuery(SearchQuery):
    """Query parameters of a search by a stored image."""

    k: K = 10
    filter: str | None = Field(
        None,
        description="Filter in the JSON filter grammar, as JSON text.",
        json_schema_extra={"example": '{"category": "animals"}'},
    )
    max_distance: MaxDistance | None = None
    exclude: Exclude = []  # noqa: RUF012 — pydantic copies it
    recall: Recall | None = None


_EXAMPLES = ("like", "unlike")


def _mode_field(mode: Mode) -> Any:  # noqa: ANN401 — pydantic's own
    bounds: dict[str, Any] = dict(mode.bounds)
    examples = list(mode.examples) or None
    return (mode.kind | None, Field(None, description=mode.description, examples=examples, **bounds))


if TYPE_CHECKING:
    _Modes = Body
else:
    _Modes = create_model("_Modes", __base__=Body, **{name: _mode_field(mode) for name, mode in MODES.items()})


class SearchOptions(_Modes):
    """What every search takes, and the modes, of which a search has at most one."""

    k: K = 10
    filter: Filter | None = None
    max_distance: MaxDistance | None = None
    exclude: Exclude = []  # noqa: RUF012 — pydantic copies it
    recall: Recall | None = None
    strategy: Literal["auto", "exact", "index"] | None = Field(
        None, description="Forces a plain search to be exact, or by index; auto, the default, chooses per query."
    )
    like: list[Example] = Field(
        [],
        max_length=100,
        description="Positive examples: ids of stored images, or vectors as in `vector`. An image or vector searched"
        " by is one of them. Stored examples are left out of the results.",
        examples=[[42, 43]],
    )
    unlike: list[Example] = Field([], max_length=100, description="Negative examples, which push results away.")
    vector_dtype: Literal["float32", "float16"] = Field("float32", description="The floats inside base64.")

    def given(self) -> set[str]:
        """Return the names of the options that were given a value, as app.search.request calls them."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {name for name, value in values.items() if value is not None and (value or name not in _EXAMPLES)}


class UploadOptions(SearchOptions):
    """What comes with an uploaded query image."""

    @model_validator(mode="after")
    def _one_search(self) -> Self:
        return _checked(self, self.given() | {"query"})


class SearchBody(SearchOptions):
    """A search by a stored image, a vector, examples or words."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("image_id", "vector", "like", "text")]}
    )

    image_id: ImageId | None = Field(None, description="A stored image, itself left out of the results.")
    vector: Vector | None = Field(
        None, description="An embedding in the active space: numbers, or base64 of little-endian floats."
    )
    space: str | None = Field(
        None,
        max_length=1000,
        description="The embedding space that the vectors of this request were made in; 409 if another one is active.",
        examples=["tf_efficientnet_lite0"],
    )

    @model_validator(mode="after")
    def _one_search(self) -> Self:
        given = self.given()
        examples = (*self.like, *self.unlike)
        if "space" in given and "vector" not in given and not any(isinstance(one, list | str) for one in examples):
            raise ValueError("space names the space of the vectors, but no vector is given")
        return _checked(self, {"query" if name == "vector" else name for name in given})


Options = TypeVar("Options", bound=SearchOptions)


def _checked(options: Options, given: set[str]) -> Options:
    problem = conflicting_options(given, lambda name: "vector" if name == "query" else name)
    if problem:
        raise ValueError(problem)
    return options


class Result(BaseModel):
    """One search result."""

    model_config = ConfigDict(from_attributes=True)

    distance: float | None = Field(description="L2 distance of unit vectors, 0 to 2; null for a match by words alone.")
    similarity: float | None = Field(description="Cosine similarity: 1 - distance²/2.")
    score: float | None = Field(None, description="With text: the score that results are ordered by.")
    text_score: float | None = Field(None, description="With text: relevance of the words; null without a match.")
    group: str | None = Field(None, description="With group_by: the attribute's value.")
    image: Image


class Timings(BaseModel):
    """Milliseconds for the query's embedding, the search, and the whole request."""

    embed_ms: float | None = None
    search_ms: float
    total_ms: float


class SearchAnswer(BaseModel):
    """Search results, nearest first; with text by score, with diverse in the order of selection."""

    space: str | None = Field(description="Embedding space of the search; null for words alone.")
    results: list[Result]
    complete: bool | None = Field(
        None,
        description="With max_distance: whether these are all images within it; missing if recall below 1 cannot"
        " prove it.",
    )
    next_cursor: str | None = Field(None, description="With cursor: the next page's cursor; null on the last page.")
    plan: dict[str, Any] | None = Field(None, description="With explain=1: the plan of a plain search.")
    timings: Timings | None = Field(None, description="With explain=1: durations in milliseconds.")
    sql: str | None = Field(None, description="With explain=1: a statement for psql that returns these results.")
    vector: str | None = Field(
        None,
        description="With explain=1 and an uploaded image: its embedding, base64 of float16, for further searches.",
    )
