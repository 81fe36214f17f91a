"""Search: the exact way at once where no index scan could be faster, and a scan as deep as its k asks for."""

from collections.abc import Sequence

from migrations.sources import drop, load, use_schema_path

revision: str = "0003"
down_revision: str = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

NEW: tuple[str, ...] = ()
CHANGED = ("functions/search_scan.sql",)
SOURCES = NEW + CHANGED


def upgrade() -> None:
    use_schema_path()
    load(revision, *SOURCES)


def downgrade() -> None:
    use_schema_path()
    drop(*reversed(NEW))
    load(down_revision, *CHANGED)
