"""Requests and responses of the page's own routes: facets, samples, operation, recall."""

from pydantic import ConfigDict, Field, RootModel

from app.monitoring import recall, status
from app.search import facets
from app.store.jobs import Failure
from app.web.schemas import Body, Image, ImageId, Parameters


class FacetsQuery(Parameters):
    """Query parameters of the facets."""

    filter: str | None = Field(
        None,
        description="Filter in the JSON filter grammar, as JSON text: only matching images.",
        json_schema_extra={"example": '{"category": "animals"}'},
    )
    name: list[str] = Field([], max_length=100, description="Only this attribute. Repeatable.")


class FacetsAnswer(RootModel[facets.Facets]):
    """Attributes to filter by, with their values."""


class SampleQuery(Parameters):
    """Query parameters of a sample of the gallery."""

    filter: str | None = Field(
        None,
        description="Filter in the JSON filter grammar, as JSON text: only matching images.",
        json_schema_extra={"example": '{"category": "animals"}'},
    )
    limit: int = Field(48, ge=1, le=200, description="Number of images.")
    seed: int = Field(0, ge=0, lt=2**31, description="Random seed of the selection.")


class SampleAnswer(Body):
    """A sample of the gallery."""

    model_config = ConfigDict(extra="forbid")

    images: list[Image]


class FailuresQuery(Parameters):
    """Query parameters of the failures."""

    limit: int = Field(100, ge=1, le=1000, description="Maximum number of failures, newest first.")


class FailuresAnswer(RootModel[list[Failure]]):
    """Images that could not be embedded, with step and reason, newest first."""


class RetryBody(Body):
    """The failures to put back into the queue."""

    image_ids: list[ImageId] | None = Field(
        None, max_length=10_000, description="Images to retry. Default: all failed ones.", examples=[[42]]
    )


class RetryAnswer(Body):
    """Number of jobs that were queued again."""

    queued: int


class OperationAnswer(RootModel[status.OperatorView]):
    """Snapshot of spaces, queue, workers, index builds and the latest failures."""


class RecallQuery(Parameters):
    """Query parameters of the recall: length of the trend."""

    hours: int = Field(48, ge=1, le=2160, description="Number of latest hours that have checks.")
    days: int = Field(30, ge=1, le=90, description="Number of latest days that have checks.")


class RecallAnswer(RootModel[recall.Recall]):
    """Measured recall of live searches: estimates, trend, changes of the search depth."""
