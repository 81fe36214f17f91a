"""Pydantic models of requests and responses; the OpenAPI document is generated from them."""

from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from app.monitoring.status import Status

LSN_PATTERN = r"^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$"

ImageId = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Filter = Annotated[
    dict[str, Any],
    Field(
        description="Filter in the JSON filter grammar; it is passed to SQL unchanged.",
        examples=[{"category": "animals", "price": {"$lt": 100}}],
    ),
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


class ThumbnailQuery(Parameters):
    """Query parameters of a thumbnail."""

    size: int = Field(256, ge=16, le=1024, description="Longest side in pixels. Smaller images are not enlarged.")


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
