"""Dead rows that no counter counts twice; a comment on every object and column."""

from collections.abc import Sequence

from migrations.sources import comment, drop, load, loaded_by, uncomment, use_schema_path

revision: str = "0009"
down_revision: str = "0008"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None
# The oldest code that works during and after this revision; see docs/how-to/upgrade.md.
serves: str = "0008"

NEW: tuple[str, ...] = ("functions/dead_about.sql",)
CHANGED: tuple[str, ...] = ()
TABLES: tuple[str, ...] = tuple(path for path in loaded_by("0009") if path.startswith("tables/"))
SOURCES = NEW + CHANGED + TABLES


def upgrade() -> None:
    use_schema_path()
    load(revision, *SOURCES)
    comment(revision, *(path for path in loaded_by(revision) if path not in SOURCES))


def downgrade() -> None:
    use_schema_path()
    drop(*reversed(NEW))
    load(down_revision, *CHANGED)
    below = loaded_by(down_revision)
    uncomment(revision, *below)
    comment(down_revision, *TABLES)
