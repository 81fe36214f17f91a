"""Pydantic models of requests and responses; the OpenAPI document is generated from them."""

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag, create_model, model_validator

from app.monitoring.status import Status
from app.search.modes import MODES, Mode
from app.search.request import conflicting_options

LSN_PATTERN = r"^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$"

ImageId = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Filter = Annotated[
    dict[str, Any],
    Field(
        description="Filter in the JSON filter grammar; it is passed to SQL unchanged.",
        examples=[{"category": "animals", "price": {"$lt": 100}}],
    ),
]
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


class Body(BaseModel):
    """A JSON body: unknown fields, type conversions and NaN are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Parameters(BaseModel):
    """Path and query parameters, which arrive as text."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401 (pydantic's own)
        """Return the schema from a cache, because flask_openapi3 reads it at every request."""
        return _schema_of(cls, args, tuple(options.items()))


@cache
def _schema_of(model: type[Parameters], args: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return super(Parameters, model).model_json_schema(*args, **dict(options))


class ImagePath(Parameters):
    """Path parameters of one image."""

    # "example", because flask_openapi3 mistakes a schema's "examples" for the parameter's, which differ in form.
    image_id: ImageId = Field(json_schema_extra={"example": 42})


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
    exclude: Exclude = []
    recall: Recall | None = None


class ThumbnailQuery(Parameters):
    """Query parameters of a thumbnail."""

    size: int = Field(256, ge=16, le=1024, description="Longest side in pixels. Smaller images are not enlarged.")


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
        description="The embedding space that the vectors of this request were made in; 409 where another is active.",
        examples=["tf_efficientnet_lite0"],
    )

    @model_validator(mode="after")
    def _one_search(self) -> Self:
        given = self.given()
        examples = (*self.like, *self.unlike)
        if "space" in given and "vector" not in given and not any(isinstance(one, list | str) for one in examples):
            raise ValueError("space says whose the vectors are, and no vector is given")
        return _checked(self, {"query" if name == "vector" else name for name in given})


Options = TypeVar("Options", bound=SearchOptions)


def _checked(options: Options, given: set[str]) -> Options:
    problem = conflicting_options(given, lambda name: "vector" if name == "query" else name)
    if problem:
        raise ValueError(problem)
    return options


class ImageBody(Body):
    """An image to add by its uri."""

    uri: str = Field(min_length=1, description="Absolute path, or file, http(s) or object store URL.")
    caption: str | None = None
    attributes: dict[str, Any] = {}


class ImageUpload(Body):
    """Form fields beside an uploaded image."""

    caption: str | None = None
    attributes: dict[str, Any] = {}


class BatchBody(Body):
    """Images to add by their uris."""

    # Each item is validated by itself, because a malformed item must not affect the others.
    images: list[Any] = Field(
        min_length=1,
        max_length=1000,
        examples=[[{"uri": "https://example.com/cat.jpg", "caption": "a cat"}]],
    )


class BatchQuery(Parameters):
    """Query parameters of a batch."""

    atomic: bool = Field(False, description="Add nothing if any item fails.")


class ListQuery(Parameters):
    """Query parameters of a list of images."""

    filter: str | None = Field(
        None,
        description="Filter in the JSON filter grammar, as JSON text.",
        json_schema_extra={"example": '{"category": "animals"}'},
    )
    limit: int = Field(100, ge=1, le=1000, description="Maximum number of images per page.")
    after: ImageId | None = Field(None, description="next_after of the previous page.")


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class ImagePatch(Body):
    """A JSON merge patch (RFC 7396): missing fields stay unchanged; null removes a value."""

    # Optional but not nullable; the schema hides the default, which only marks a missing field.
    uri: str = Field(
        "",
        min_length=1,
        description="New uri. The image is then embedded again.",
        json_schema_extra=_without_default,
    )
    caption: str | None = None
    attributes: dict[str, Any] | None = None


class Image(BaseModel):
    """A stored image."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    uri: str
    sha256: str | None = Field(description="Hash of the file, in hex; null until a worker has read it.")
    media_type: str | None
    width: int | None = Field(description="In pixels, after rotation to upright.")
    height: int | None
    caption: str | None
    attributes: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class ImagePage(BaseModel):
    """Images by id, ascending."""

    images: list[Image]
    next_after: int | None = Field(description="`after` of the next page; null on the last page.")


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


class DuplicatesQuery(Parameters):
    """Query parameters of the near-duplicates."""

    threshold: float = Field(
        0.35, ge=0, le=2, description="Maximum L2 distance between two neighbours of a group's chain."
    )
    filter: str | None = Field(
        None,
        description="Filter in the JSON filter grammar, as JSON text.",
        json_schema_extra={"example": '{"category": "animals"}'},
    )
    limit: int = Field(100, ge=1, le=1000, description="Maximum number of groups, smallest ids first.")


class DuplicateImage(BaseModel):
    """One image of a group."""

    distance: float = Field(description="L2 distance to the nearest other image of the group.")
    image: Image


class DuplicateGroup(BaseModel):
    """Images connected by a chain of near-duplicates."""

    group: int = Field(description="Smallest id in the group.")
    images: list[DuplicateImage]


class DuplicatesAnswer(BaseModel):
    """Groups of near-duplicates."""

    total: int = Field(description="Total number of groups.")
    groups: list[DuplicateGroup]


class StatusAnswer(RootModel[Status]):
    """State of images, embedding spaces, queue and workers."""


class Health(BaseModel):
    """The process is running."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The service can answer: the database is reachable, the schema matches, an embedding space is active.

    Degraded: it answers, with the `problems` listed.
    """

    status: Literal["ready", "degraded"] = "ready"
    problems: list[str] = []
    revision: str
    space: str


class FieldError(BaseModel):
    """A malformed field of a request."""

    field: str
    message: str


class ErrorDetail(BaseModel):
    """An error: a code for programs, a message for people, and the request id, which is also in the server's log."""

    code: str = Field(examples=["not_found"])
    message: str = Field(examples=["there is no image 42"])
    request_id: str
    fields: list[FieldError] = Field([], description="For 422: the malformed fields.")


class ErrorBody(BaseModel):
    """Body of every error response."""

    error: ErrorDetail


class BatchResult(BaseModel):
    """Result of one batch item: the status, image or error that it would have had as a single request."""

    index: int = Field(description="Position in the request, from 0.")
    status: int = Field(examples=[201], description="424 if another item of an atomic batch failed.")
    image: Image | None = None
    error: ErrorDetail | None = None


class BatchAnswer(BaseModel):
    """Results of a batch, in the order of the request."""

    added: int
    failed: int
    results: list[BatchResult]
