"""Index choices of a space: transforms, candidates for re-ranking."""

from collections.abc import Sequence

from migrations.sources import drop, load, use_schema_path

revision: str = "0007"
down_revision: str = "0006"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

NEW: tuple[str, ...] = ()
CHANGED: tuple[str, ...] = ()
SOURCES = NEW + CHANGED


def upgrade() -> None:
    use_schema_path()
    load(revision, *SOURCES)


def downgrade() -> None:
    use_schema_path()
    load(down_revision, *CHANGED)
    drop(*reversed(NEW))
