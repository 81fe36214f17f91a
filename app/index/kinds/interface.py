"""What a kind of index and an access method answer, so that no other module asks for their names."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.index.transforms import Matrix, Transform

# Least and greatest value of an option.
Range = tuple[int, int]
Options = Mapping[str, int]

RERANK: Range = (1, 10_000)
# Options that change a search, not the index.
SEARCH_OPTIONS = ("ef_search", "probes", "rerank")
PAGE = 8192
PAGE_ROOM = 8192 - 24 - 8  # without header and pgvector's own end
RESERVED = 4 * 2**20  # what a build keeps for itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """An access method of pgvector, with its options in the order of the text form.

    `complete` returns defaults for open options, given the kind's default `m`, and raises InvalidInputError if values
    contradict each other. `for_rows` returns the options that follow from the number of rows. `with_options` returns
    the WITH clause of CREATE INDEX. `index_bytes` and `build_bytes` (memory for an undisturbed build) take rows,
    dimensions of the indexed halfvec and complete options.
    """

    name: str
    options: Mapping[str, Range]
    complete: Callable[[Options, int], Options]
    for_rows: Callable[[Options, int], Options]
    with_options: Callable[[Options], str]
    index_bytes: Callable[[int, int, Options], int]
    build_bytes: Callable[[int, int, Options], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """What a kind indexes instead of embeddings: candidates, which the embeddings rank again.

    `option` is the number that the text form gives first, with its `range`. `bytes_of` returns the bytes of a
    candidate. `fit` takes a sample of embeddings, shape (n, dimensions), the option and a seed.
    """

    option: str
    range: Range
    column: str
    operators: str
    bytes_of: Callable[[int], int]
    fit: Callable[[Matrix, int, int], Transform]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of index. The first of `methods` is the default; without any, searches are exact.

    `grid` returns choices that are worth a measurement, by dimensions, rows and whether the grid is fine.
    """

    name: str
    examples: tuple[str, ...]
    methods: tuple[Method, ...]
    grid: Callable[[int, int, bool], list[str]]
    default_m: int = 16
    compression: Compression | None = None

    def method(self, options: Options) -> Method | None:
        """Return the access method that the options ask for: IVFFlat if they name lists."""
        return next((one for one in self.methods if "lists" in one.options and "lists" in options), None) or next(
            iter(self.methods), None
        )

    def ranges(self, options: Options) -> dict[str, Range]:
        """Return the options that the kind takes beside these, in the order of the text form."""
        method, compression = self.method(options), self.compression
        first = {} if compression is None else {compression.option: compression.range}
        last = {} if compression is None else {"rerank": RERANK}
        return {**first, **(method.options if method else {}), **last}


def aligned(size: int) -> int:
    """Return a size in bytes, rounded up to PostgreSQL's alignment."""
    return (size + 7) // 8 * 8


def lists_for(rows: int) -> int:
    """Return how many IVFFlat lists suit this many rows: their square root."""
    return max(1, min(round(math.sqrt(rows)), 32768))


def shares(lists: int, parts: tuple[float, ...]) -> list[int]:
    """Return these parts of a number of lists as whole numbers, without repetition."""
    return sorted({max(round(lists * part), 1) for part in parts})
