"""The request of a run, the run, and its measurements."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

QUERIES = 200
SAMPLE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The request of a run: all that its numbers depend on, except the data and the machine.

    `choices` are index specs in their text form. `sample` is the maximum number of rows. `queries` images are held out
    to search by; with `files`, these are used instead. `clients` are numbers of concurrent clients, for `seconds` each.
    Each query is timed `rounds` times. `workers` is the number of parallel workers of an index build.
    """

    choices: tuple[str, ...]
    k: int = 10
    queries: int = QUERIES
    sample: int = SAMPLE
    seed: int = 0
    label: str | None = None
    files: tuple[str, ...] = ()
    source: str = "held-out"
    clients: tuple[int, ...] = (1, 4)
    seconds: float = 2.0
    rounds: int = 3
    workers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A row of `lookalike.measurements`: the results of one choice."""

    choice: str
    options: dict[str, Any]
    rows: int
    k: int
    recall: float
    recall_floor: float
    label_precision: float | None
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p95_ceiling_ms: float
    qps: dict[str, float]
    build_seconds: float
    insert_ms: float
    index_bytes: int
    table_bytes: int
    memory_bytes: int
    query_ms: list[float] = field(repr=False)
    query_recalls: list[float] = field(repr=False)
    measured_at: datetime | None = None

    @property
    def bytes_per_image(self) -> float:
        """Bytes per image of the embedding with all its indexes."""
        return (self.table_bytes + self.index_bytes) / max(self.rows, 1)

    @property
    def index_bytes_per_image(self) -> float:
        """Bytes per image of the ANN index alone."""
        return self.index_bytes / max(self.rows, 1)

    @property
    def best_qps(self) -> float:
        """The highest rate of queries per second, over all numbers of clients."""
        return max(self.qps.values(), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A row of `lookalike.measurement_runs`; `choices` is the number of those measured."""

    id: int
    started_at: datetime
    ended_at: datetime | None
    space: str
    fingerprint: str
    dimensions: int
    rows_total: int
    request: Request
    conditions: dict[str, Any]
    choices: int = 0
