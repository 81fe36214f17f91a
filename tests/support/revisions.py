"""Create throwaway revisions after the newest one, in a folder of their own, as release N+1 would."""

import textwrap
from pathlib import Path

from alembic.config import Config

from app.db import schema

_TEXT = '''"""A revision of a test."""
import time
from alembic import op
from migrations.sources import build_index, concurrently, use_schema_path

revision: str = "{name}"
down_revision: str = "{below}"
branch_labels = None
depends_on = None
serves: str = "{serves}"


def upgrade() -> None:
{up}


def downgrade() -> None:
{down}
'''


def write(folder: Path, up: str, down: str = "pass", *, serves: str, name: str = "9001") -> Path:
    """Write a revision after the newest one; `up` and `down` are the bodies of its functions."""
    up, down = (textwrap.indent(textwrap.dedent(body).strip(), "    ") for body in (up, down))
    text = _TEXT.format(name=name, below=schema.head(), serves=serves, up=up, down=down)
    (folder / f"{name}_throwaway.py").write_text(text, encoding="utf-8")
    return folder


def config(url: str, folder: Path, **attributes: object) -> Config:
    """Return Alembic's configuration with the revisions in `folder` and the project's own."""
    made = schema.config(url, **attributes)
    made.set_main_option("path_separator", "os")
    own = Path(schema.__file__).parents[2] / "migrations/versions"
    made.set_main_option("version_locations", f"{own}:{folder}")
    return made
