"""The kinds of index, one a module: `KINDS` by name, in the order in which the trade-off lab builds them."""

from app.index.kinds.bits import BITS
from app.index.kinds.exact import EXACT
from app.index.kinds.hnsw import HNSW
from app.index.kinds.interface import RERANK, SEARCH_OPTIONS, Kind, Method
from app.index.kinds.ivfflat import IVFFLAT
from app.index.kinds.pca import PCA

KINDS: dict[str, Kind] = {kind.name: kind for kind in (EXACT, HNSW, IVFFLAT, PCA, BITS)}
METHODS: dict[str, Method] = {method.name: method for kind in KINDS.values() for method in kind.methods}

__all__ = ["KINDS", "METHODS", "RERANK", "SEARCH_OPTIONS", "Kind", "Method"]
