"""What requests and answers look like: pydantic models, from which the OpenAPI document is made."""

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
        description="Conditions in the JSON filter grammar, passed to SQL as they are.",
        examples=[{"category": "animals", "price": {"$lt": 100}}],
    ),
]
K = Annotated[int, Field(ge=1, le=10_000, description="How many results.")]
MaxDistance = Annotated[
    float, Field(ge=0, description="Leaves out what is farther away: L2 distance of unit vectors, 0 to 2.")
]
Recall = Annotated[
    float, Field(gt=0, le=1, description="Share of the true neighbours to be found; 1 searches exactly. Default: 0.99")
]
Exclude = Annotated[list[ImageId], Field(max_length=10_000, description="Ids of images to leave out.")]
# Of little-endian floats, as numpy writes them; `vector_dtype` says which.
Vector = list[float] | str


def _kind_of_example(value: object) -> str:
    return "vector-example" if isinstance(value, list | str) else "id-example"


# Told apart before they are read, so that an error names one of them.
Example = Annotated[
    Annotated[ImageId, Tag("id-example")] | Annotated[Vector, Tag("vector-example")], Discriminator(_kind_of_example)
]


class Body(BaseModel):
    """JSON from a client: no unknown field, no conversion between types, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Parameters(BaseModel):
    """Path and query parameters, which come as text."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401 (pydantic's own)
        """Return the schema, computed once: flask_openapi3 asks for it at every request."""
        return _schema_of(cls, args, tuple(options.items()))


@cache
def _schema_of(model: type[Parameters], args: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return super(Parameters, model).model_json_schema(*args, **dict(options))


class ImagePath(Parameters):
    """The image that a path names."""

    # "example", since flask_openapi3 takes a schema's "examples" for the parameter's, which have another form.
    image_id: ImageId = Field(json_schema_extra={"example": 42})


class SearchQuery(Parameters):
    """Parameters of POST /v1/search beside its body."""

    explain: bool = Field(False, description="Put the plan and the timings into the answer.")
    min_lsn: str | None = Field(
        None, pattern=LSN_PATTERN, description="The Lookalike-Lsn of a write that the answer must show; see the header."
    )


class SimilarQuery(SearchQuery):
    """Parameters of a search for images like a stored one."""

    k: K = 10
    filter: str | None = Field(
        None,
        description="Conditions in the JSON filter grammar, as JSON text.",
        json_schema_extra={"example": '{"category": "animals"}'},
    )
    max_distance: MaxDistance | None = None
    exclude: Exclude = []
    recall: Recall | None = None


class ThumbnailQuery(Parameters):
    """Parameters of a thumbnail."""

    size: int = Field(256, ge=16, le=1024, description="Longest side in pixels; an image is never enlarged.")


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

    uri: str = Field(min_length=1, description="An absolute path, or a file, http(s) or object store URL.")
    caption: str | None = None
    attributes: dict[str, Any] = {}


class ImageUpload(Body):
    """What comes with an uploaded image."""

    caption: str | None = None
    attributes: dict[str, Any] = {}


class BatchBody(Body):
    """Images to add by their uris."""

    # Checked one by one, since an item that is malformed must not take the others with it.
    images: list[Any] = Field(
        min_length=1,
        max_length=1000,
        examples=[[{"uri": "https://example.com/cat.jpg", "caption": "a cat"}]],
    )


class BatchQuery(Parameters):
    """Parameters of a batch."""

    atomic: bool = Field(False, description="Add nothing where one item fails.")


class ListQuery(Parameters):
    """Parameters of a list of images."""

    filter: str | None = Field(
        None,
        description="Conditions in the JSON filter grammar, as JSON text.",
        json_schema_extra={"example": '{"category": "animals"}'},
    )
    limit: int = Field(100, ge=1, le=1000, description="How many images a page holds at most.")
    after: ImageId | None = Field(None, description="The next_after of the page before.")


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class ImagePatch(Body):
    """A JSON merge patch (RFC 7396): what is left out stays; null removes."""

    # May be left out, but not be null; what stands for "left out" is nobody's business.
    uri: str = Field(
        "",
        min_length=1,
        description="Another uri means another picture: it is embedded anew.",
        json_schema_extra=_without_default,
    )
    caption: str | None = None
    attributes: dict[str, Any] | None = None


class Image(BaseModel):
    """A stored image."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    uri: str
    sha256: str | None = Field(description="Of the file, in hex; null until it has been read.")
    media_type: str | None
    width: int | None = Field(description="In pixels, upright.")
    height: int | None
    caption: str | None
    attributes: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class ImagePage(BaseModel):
    """Images by id, ascending."""

    images: list[Image]
    next_after: int | None = Field(description="`after` of the next page; null on the last.")


class Result(BaseModel):
    """One image found."""

    model_config = ConfigDict(from_attributes=True)

    distance: float | None = Field(description="L2 distance of unit vectors, 0 to 2; null where words alone found it.")
    similarity: float | None = Field(description="Cosine similarity: 1 - distance²/2.")
    score: float | None = Field(None, description="With text: what the order is by.")
    text_score: float | None = Field(None, description="With text: how well the words fit; null where they do not.")
    group: str | None = Field(None, description="With group_by: the attribute's value.")
    image: Image


class Timings(BaseModel):
    """Milliseconds: getting the query's embedding, searching, and all together."""

    embed_ms: float | None = None
    search_ms: float
    total_ms: float


class SearchAnswer(BaseModel):
    """What a search found: nearest first, best first with text, in the order taken with diverse."""

    space: str | None = Field(description="The embedding space that was searched; null for words alone.")
    results: list[Result]
    complete: bool | None = Field(
        None,
        description="With max_distance: whether these are all within it; left out where recall below 1 has no proof.",
    )
    next_cursor: str | None = Field(None, description="With cursor: that of the next page; null on the last.")
    plan: dict[str, Any] | None = Field(None, description="How a plain search was done; with explain=1.")
    timings: Timings | None = Field(None, description="With explain=1.")
    sql: str | None = Field(None, description="With explain=1: a statement for psql that gives these results.")
    vector: str | None = Field(
        None,
        description="With explain=1 and an uploaded picture: its embedding, base64 of float16, to search by again.",
    )


class DuplicatesQuery(Parameters):
    """Parameters of the near-duplicates."""

    threshold: float = Field(0.35, ge=0, le=2, description="The longest step from one image of a group to another, L2.")
    filter: str | None = Field(
        None,
        description="Conditions in the JSON filter grammar, as JSON text.",
        json_schema_extra={"example": '{"category": "animals"}'},
    )
    limit: int = Field(100, ge=1, le=1000, description="How many groups, those of the smallest ids first.")


class DuplicateImage(BaseModel):
    """One image of a group."""

    distance: float = Field(description="L2 distance to the nearest other image of the group.")
    image: Image


class DuplicateGroup(BaseModel):
    """Images that a chain of near-duplicates holds together."""

    group: int = Field(description="The smallest id in the group.")
    images: list[DuplicateImage]


class DuplicatesAnswer(BaseModel):
    """Groups of near-duplicates."""

    total: int = Field(description="How many groups there are.")
    groups: list[DuplicateGroup]


class StatusAnswer(RootModel[Status]):
    """The state of the whole: images, embedding spaces, workers."""


class Health(BaseModel):
    """The process is up."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The service can answer: database reachable, schema as wanted, an embedding space active.

    Degraded: it answers, but for what `problems` says.
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
    """What went wrong: a code for programs, a message for people, the id that the server's log has it under."""

    code: str = Field(examples=["not_found"])
    message: str = Field(examples=["there is no image 42"])
    request_id: str
    fields: list[FieldError] = Field([], description="For 422: the fields that are malformed.")


class ErrorBody(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail


class BatchResult(BaseModel):
    """What became of one item of a batch: the status, with image or error, that it would have had alone."""

    index: int = Field(description="Its place in the request, from 0.")
    status: int = Field(examples=[201], description="424 where another item of an atomic batch failed.")
    image: Image | None = None
    error: ErrorDetail | None = None


class BatchAnswer(BaseModel):
    """What became of a batch, item by item, in the order of the request."""

    added: int
    failed: int
    results: list[BatchResult]
