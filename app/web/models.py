"""What requests and answers look like: pydantic models, from which the OpenAPI document is made. Imports `records`."""

from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from app import records

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


class SearchOptions(Body):
    """What every search takes."""

    k: K = 10
    filter: Filter | None = None
    max_distance: MaxDistance | None = None
    exclude: Exclude = []
    recall: Recall | None = None


class SearchBody(SearchOptions):
    """A search by a stored image or by a vector: one of the two."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["image_id"]}, {"required": ["vector"]}]})

    image_id: ImageId | None = Field(None, description="A stored image, itself left out of the results.")
    vector: list[float] | str | None = Field(
        None, description="An embedding in the active space: numbers, or base64 of little-endian floats."
    )
    vector_dtype: Literal["float32", "float16"] = Field("float32", description="The floats inside base64.")

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.image_id is None) == (self.vector is None):
            raise ValueError("a search in JSON takes one of image_id and vector")
        return self


class ImageBody(Body):
    """An image to add by its uri."""

    uri: str = Field(min_length=1, description="An absolute path, or a file, http(s) or object store URL.")
    caption: str | None = None
    attributes: dict[str, Any] = {}


class ImageUpload(Body):
    """What comes with an uploaded image."""

    caption: str | None = None
    attributes: dict[str, Any] = {}


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


class Result(BaseModel):
    """One image found."""

    model_config = ConfigDict(from_attributes=True)

    distance: float = Field(description="L2 distance of unit vectors, 0 to 2.")
    similarity: float = Field(description="Cosine similarity: 1 - distance²/2.")
    image: Image


class Timings(BaseModel):
    """Milliseconds: getting the query's embedding, searching, and all together."""

    embed_ms: float | None = None
    search_ms: float
    total_ms: float


class SearchAnswer(BaseModel):
    """What a search found, nearest first."""

    space: str = Field(description="The embedding space that was searched.")
    results: list[Result]
    plan: dict[str, Any] | None = Field(None, description="How it was searched; with explain=1.")
    timings: Timings | None = Field(None, description="With explain=1.")


class StatusAnswer(RootModel[records.Status]):
    """The state of the whole: images, embedding spaces, workers."""


class Health(BaseModel):
    """The process is up."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The service can answer: database reachable, schema as wanted, an embedding space active."""

    status: Literal["ready"] = "ready"
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
