"""Grids of index specs worth a measurement, in the order of their builds."""

import math


def quick(dimensions: int, rows: int) -> list[str]:
    """Return a coarse grid; a thousand images take less than two minutes."""
    axes, bits, wide = _reduced(dimensions)
    lists = _lists(rows)
    return [
        "exact",
        *_hnsw(8, 64, (20, 60, 200)),
        *_hnsw(16, 64, (40, 100, 300)),
        *(f"pca({axes},m=16)+rerank({depth})" for depth in (20, 50, 100)),
        *(f"bits({bits},m=8)+rerank({depth})" for depth in (50, 100, 200)),
        *(f"bits({wide},lists={lists},probes={probes})+rerank(50)" for probes in _shares(lists, (0.1, 0.25))),
    ]


def standard(dimensions: int, rows: int) -> list[str]:
    """Return the full grid."""
    axes, bits, wide = _reduced(dimensions)
    lists = _lists(rows)
    return [
        "exact",
        *_hnsw(8, 64, (20, 40, 80, 160, 320, 640)),
        *_hnsw(16, 64, (20, 40, 80, 160, 320, 640)),
        *_hnsw(24, 128, (20, 40, 80, 160, 320)),
        *(f"ivfflat(lists={lists},probes={probes})" for probes in _shares(lists, (0.02, 0.05, 0.1, 0.2))),
        *(f"pca({axes},m=16)+rerank({depth})" for depth in (20, 50, 100, 200)),
        *(f"bits({bits},m=8)+rerank({depth})" for depth in (50, 100, 200, 400)),
        *(f"bits({wide},lists={lists},probes={probes})+rerank(50)" for probes in _shares(lists, (0.05, 0.1, 0.2, 0.4))),
    ]


def _hnsw(m: int, ef_construction: int, ef_search: tuple[int, ...]) -> list[str]:
    return [f"hnsw(m={m},ef_construction={ef_construction},ef_search={ef})" for ef in ef_search]


def _reduced(dimensions: int) -> tuple[int, int, int]:
    """Return numbers to try: of principal components, of bits in a graph, of bits in lists."""
    whole = max(dimensions // 8 * 8, 8)
    return max(min(128, dimensions // 2), 1), min(512, whole), min(1024, whole)


def _lists(rows: int) -> int:
    return max(round(math.sqrt(rows)), 4)


def _shares(lists: int, shares: tuple[float, ...]) -> list[int]:
    return sorted({max(round(lists * share), 1) for share in shares})
