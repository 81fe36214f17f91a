"""Lists of embeddings around the means of a k-means."""

import math

from app.errors import InvalidInputError
from app.index.kinds.interface import PAGE, PAGE_ROOM, RESERVED, Kind, Method, Options, aligned, lists_for, shares


def _index_bytes(rows: int, dimensions: int, options: Options) -> int:
    """Return the size of a fresh index: each list has pages of its own, the last of them half full."""
    lists, held = options["lists"], PAGE_ROOM // (aligned(8 + 8 + 2 * dimensions) + 4)
    return (1 + math.ceil(rows / held) + lists // 2 + math.ceil(lists / held)) * PAGE


def _sample_bytes(_rows: int, dimensions: int, options: Options) -> int:
    """Return what pgvector's k-means holds: 50 samples a list, and four numbers a sample and list."""
    lists = options["lists"]
    return 50 * lists * (8 + 4 * dimensions + 4 * lists) + RESERVED


def _complete(options: Options, _default_m: int) -> Options:
    if options.get("probes", 0) > options.get("lists", math.inf):
        raise InvalidInputError(f"probes {options['probes']} of {options['lists']} lists: choose no more than lists")
    return {}


def _grid(_dimensions: int, rows: int, fine: bool) -> list[str]:
    lists = max(lists_for(rows), 4)
    return [f"ivfflat(lists={lists},probes={n})" for n in shares(lists, (0.02, 0.05, 0.1, 0.2))] if fine else []


LISTS = Method(
    name="ivfflat",
    options={"lists": (1, 32768), "probes": (1, 32768)},
    complete=_complete,
    for_rows=lambda options, rows: {"lists": options.get("lists", lists_for(rows))},
    with_options=lambda options: f"lists = {options['lists']}",
    index_bytes=_index_bytes,
    build_bytes=_sample_bytes,
)
IVFFLAT = Kind(name="ivfflat", examples=("ivfflat(lists=141,probes=12)",), methods=(LISTS,), grid=_grid)
