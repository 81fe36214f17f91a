"""A graph of the embeddings."""

import math

from app.errors import InvalidInputError
from app.index.kinds.interface import PAGE, PAGE_ROOM, RESERVED, Kind, Method, Options, aligned

_ELEMENT = 128 + 8  # the element, and the list of its levels
_SERIAL = 40  # chunk headers, by measurement


def row_bytes(dimensions: int, m: int) -> int:
    """Return how much of maintenance_work_mem a row takes in the graph of a build, on average.

    A row has pgvector's element, its halfvec, and an array of neighbours on each of its levels: 2 m on the lowest, m on
    each above, of which it has 1 / (m - 1) on average. A neighbour takes 16 bytes. Measured by
    `bench.search.index_memory`.
    """
    above = 1 / (m - 1)
    return round(_ELEMENT + aligned(8 + 2 * dimensions) + 8 + 32 * m + above * (16 + 16 * m))


def index_bytes(rows: int, dimensions: int, m: int) -> int:
    """Return the size of a fresh index: each page holds as many whole elements with their neighbours as fit."""
    element = aligned(72 + 8 + 2 * dimensions) + 4
    neighbors = aligned(4 + round(6 * m * (2 + 1 / (m - 1)))) + 4
    if element + neighbors > PAGE_ROOM:
        return (2 + rows + math.ceil(rows / (PAGE_ROOM // neighbors))) * PAGE
    return (2 + math.ceil(rows / (PAGE_ROOM // (element + neighbors)))) * PAGE


def _graph_bytes(rows: int, dimensions: int, options: Options) -> int:
    """Return the memory of the whole graph; a serial build takes 40 bytes more a row, a parallel one 4 MB."""
    return rows * (row_bytes(dimensions, options["m"]) + _SERIAL) + RESERVED


def _complete(options: Options, default_m: int) -> Options:
    m = options.get("m", default_m)
    ef_construction = options.get("ef_construction", max(64, 2 * m))
    if ef_construction < 2 * m:
        raise InvalidInputError(f"ef_construction {ef_construction} is less than twice m {m}")
    return {"m": m, "ef_construction": ef_construction}


def _grid(_dimensions: int, _rows: int, fine: bool) -> list[str]:
    wide = (20, 40, 80, 160, 320, 640)
    builds = (
        ((8, 64, wide), (16, 64, wide), (24, 128, wide[:-1]))
        if fine
        else ((8, 64, (20, 60, 200)), (16, 64, (40, 100, 300)))
    )
    return [f"hnsw(m={m},ef_construction={width},ef_search={ef})" for m, width, depths in builds for ef in depths]


GRAPH = Method(
    name="hnsw",
    options={"m": (2, 100), "ef_construction": (4, 1000), "ef_search": (1, 1000)},
    complete=_complete,
    for_rows=lambda _options, _rows: {},
    with_options=lambda options: f"m = {options['m']}, ef_construction = {options['ef_construction']}",
    index_bytes=lambda rows, dimensions, options: index_bytes(rows, dimensions, options["m"]),
    build_bytes=_graph_bytes,
)
HNSW = Kind(name="hnsw", examples=("hnsw(m=16,ef_construction=64)",), methods=(GRAPH,), grid=_grid)
