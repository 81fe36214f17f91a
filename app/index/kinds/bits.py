"""Signs of the embeddings along rotated axes, in a graph or in lists."""

from app.index.kinds.hnsw import GRAPH
from app.index.kinds.interface import Compression, Kind, lists_for, shares
from app.index.kinds.ivfflat import LISTS
from app.index.transforms import fit_bits


def _grid(dimensions: int, rows: int, fine: bool) -> list[str]:
    whole, lists = max(dimensions // 8 * 8, 8), max(lists_for(rows), 4)
    depths = (50, 100, 200, 400) if fine else (50, 100, 200)
    probes = shares(lists, (0.05, 0.1, 0.2, 0.4) if fine else (0.1, 0.25))
    return [
        *(f"bits({min(512, whole)},m=8)+rerank({depth})" for depth in depths),
        *(f"bits({min(1024, whole)},lists={lists},probes={n})+rerank(50)" for n in probes),
    ]


BITS = Kind(
    name="bits",
    examples=("bits(512,m=8)+rerank(100)", "bits(512,lists=1000,probes=30)+rerank(200)"),
    methods=(GRAPH, LISTS),
    grid=_grid,
    default_m=8,
    compression=Compression(
        option="bits",
        range=(8, 16384),
        column="bits",
        operators="bit_hamming_ops",
        bytes_of=lambda bits: bits // 8,
        fit=fit_bits,
    ),
)
