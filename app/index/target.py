"""What an index is built on, by the index choice of a space."""

from dataclasses import dataclass, replace

from app.errors import ConflictError
from app.index.spec import IndexSpec
from app.store.spaces import Space


@dataclass(frozen=True, slots=True)
class Target:
    """What an index is built on: the embeddings of a space, or the candidates of one of its transforms."""

    space: Space
    choice: IndexSpec
    transform: int | None = None

    @property
    def table(self) -> str:
        """The table, in schema lookalike."""
        return self.space.table_name if self.transform is None else f"candidates_{self.transform}"

    @property
    def column(self) -> tuple[str, str]:
        """The column and its operator class."""
        compression = self.choice.definition.compression
        if self.transform is None or compression is None:
            return "embedding", "halfvec_l2_ops"
        return compression.column, compression.operators

    @property
    def name(self) -> str:
        """The name of the index that serves."""
        return f"{self.table}_{self.choice.method}"

    @property
    def halfvec_dimensions(self) -> int:
        """What is indexed, as dimensions of a halfvec of as many bytes."""
        compression = self.choice.definition.compression
        if self.transform is None or compression is None:
            return self.space.dimensions
        return compression.bytes_of(self.choice.values[compression.option]) // 2


def target(space: Space) -> Target:
    """Return what the index of a space is built on."""
    choice = IndexSpec.of(space.index_options)
    return Target(space, choice, space.index_options.get("transform") if choice.fitted else None)


def with_options(space: Space, m: int | None = None, ef_construction: int | None = None) -> Target:
    """Return the target of a space with other options of the graph.

    Raises:
        ConflictError: the space is searched exactly.
        InvalidInputError: an option is out of range, or the index is not a graph.
    """
    now = target(space)
    if now.choice.method is None:
        raise ConflictError(
            f"space {space.name} is searched exactly, by choice; lookalike index choose gives it an index"
        )
    if m is None and ef_construction is None:
        return now
    m = now.choice.m if m is None else m
    return replace(now, choice=replace(now.choice, m=m, ef_construction=ef_construction or now.choice.ef_construction))
