"""No index: searches compare the query with each embedding."""

from app.index.kinds.interface import Kind

EXACT = Kind(name="exact", examples=("exact",), methods=(), grid=lambda _dimensions, _rows, _fine: ["exact"])
