"""Grids of index specs worth a measurement, in the order of their builds."""

from app.index.kinds import KINDS


def quick(dimensions: int, rows: int) -> list[str]:
    """Return a coarse grid; a thousand images take less than two minutes."""
    return _grid(dimensions, rows, fine=False)


def standard(dimensions: int, rows: int) -> list[str]:
    """Return the full grid."""
    return _grid(dimensions, rows, fine=True)


def _grid(dimensions: int, rows: int, *, fine: bool) -> list[str]:
    return [text for kind in KINDS.values() for text in kind.grid(dimensions, rows, fine)]
