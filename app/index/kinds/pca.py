"""Principal components of the embeddings, in a graph or in lists."""

from app.index.kinds.hnsw import GRAPH
from app.index.kinds.interface import Compression, Kind
from app.index.kinds.ivfflat import LISTS
from app.index.transforms import fit_components


def _grid(dimensions: int, _rows: int, fine: bool) -> list[str]:
    axes = max(min(128, dimensions // 2), 1)
    return [f"pca({axes},m=16)+rerank({depth})" for depth in ((20, 50, 100, 200) if fine else (20, 50, 100))]


PCA = Kind(
    name="pca",
    examples=("pca(128,m=16)+rerank(50)",),
    methods=(GRAPH, LISTS),
    grid=_grid,
    compression=Compression(
        option="dimensions",
        range=(1, 4000),
        column="reduced",
        operators="halfvec_l2_ops",
        bytes_of=lambda dimensions: 2 * dimensions,
        fit=fit_components,
    ),
)
