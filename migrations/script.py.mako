"""${message}"""

from collections.abc import Sequence

from migrations.sources import drop, load, use_schema_path

revision: str = "${up_revision}"
down_revision: str = "${down_revision}"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None
# The oldest code that works during and after this revision; see docs/how-to/upgrade.md.
serves: str = "${up_revision}"

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
