"""Workers: embeddings by content, freshness as numbers, shares of the device."""

from collections.abc import Sequence

from migrations.sources import drop, load, use_schema_path

revision: str = "0004"
down_revision: str = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

NEW: tuple[str, ...] = ()
CHANGED: tuple[str, ...] = ("functions/enqueue_changed.sql", "functions/finish_jobs.sql")
SOURCES = NEW + CHANGED


def upgrade() -> None:
    use_schema_path()
    load(revision, *SOURCES)


def downgrade() -> None:
    use_schema_path()
    drop(*reversed(NEW))
    load(down_revision, *CHANGED)
