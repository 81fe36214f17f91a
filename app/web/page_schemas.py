"""Requests and answers of the routes that the page stands on: facets, samples, operation."""

from pydantic import ConfigDict, Field, RootModel

from app.monitoring import recall, status
from app.search import facets
from app.store.jobs import Failure
from app.web.schemas import Body, Image, ImageId, Parameters


class FacetsQuery(Parameters):
    """Parameters of the facets."""

    filter: str | None = Field(
        None,
        description="Only images that pass these conditions in the JSON filter grammar, as JSON text.",
        json_schema_extra={"example": '{"category": "animals"}'},
    )
    name: list[str] = Field([], max_length=100, description="Only these attributes; repeat it for several.")


class FacetsAnswer(RootModel[facets.Facets]):
    """What there is to filter by."""


class SampleQuery(Parameters):
    """Parameters of a sample of the gallery."""

    filter: str | None = Field(
        None,
        description="Only images that pass these conditions in the JSON filter grammar, as JSON text.",
        json_schema_extra={"example": '{"category": "animals"}'},
    )
    limit: int = Field(48, ge=1, le=200, description="How many images.")
    seed: int = Field(0, ge=0, lt=2**31, description="Another seed, another selection.")


class SampleAnswer(Body):
    """Some images of the gallery."""

    model_config = ConfigDict(extra="forbid")

    images: list[Image]


class FailuresQuery(Parameters):
    """Parameters of the failures."""

    limit: int = Field(100, ge=1, le=1000, description="How many, the latest first.")


class FailuresAnswer(RootModel[list[Failure]]):
    """Images that could not be embedded, with step and reason; the latest first."""


class RetryBody(Body):
    """Which failures to put back into the queue."""

    image_ids: list[ImageId] | None = Field(
        None, max_length=10_000, description="Those of these images; left out, all.", examples=[[42]]
    )


class RetryAnswer(Body):
    """How many jobs were put back into the queue."""

    queued: int


class OperationAnswer(RootModel[status.OperatorView]):
    """Spaces, queue, workers, index builds and the latest failures, at one moment."""


class RecallQuery(Parameters):
    """How far back the trend goes."""

    hours: int = Field(48, ge=1, le=2160, description="How many hours with checks, the latest ones.")
    days: int = Field(30, ge=1, le=90, description="How many days with checks, the latest ones.")


class RecallAnswer(RootModel[recall.Recall]):
    """What live searches find of their true neighbours: estimates, trend, changes of the search depth."""
