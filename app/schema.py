"""Schema revisions: migrate, and tell whether database and code agree. Imports `db` and `errors`."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app import db
from app.errors import SchemaError

_MIGRATIONS = Path(__file__).parents[1] / "migrations"


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["url"] = url
    return config


def head() -> str:
    """Return the revision that this code wants."""
    revision = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    if revision is None:
        raise SchemaError(f"no migrations under {_MIGRATIONS}; the installation is incomplete")
    return revision


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database up to `revision`, one transaction a revision. Needs the right to create a schema."""
    with db.translated():
        command.upgrade(_config(url), revision)


def downgrade(url: str, revision: str = "-1") -> None:
    """Take the database down by one revision, or to `revision`; what a revision would lose, it says by itself."""
    with db.translated():
        command.downgrade(_config(url), revision)


def current(connection: db.Connection) -> str | None:
    """Return the database's revision; None where the schema is not there."""
    row = connection.execute("SELECT to_regclass('lookalike.alembic_version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return None
    row = connection.execute("SELECT version_num FROM lookalike.alembic_version").fetchone()
    return None if row is None else str(row[0])


def check(connection: db.Connection) -> None:
    """Raise SchemaError, in one line, unless the database stands at the revision that this code wants."""
    found, wanted = current(connection), head()
    if found == wanted:
        return
    if found is None:
        raise SchemaError('the database has no Lookalike schema yet; run "lookalike migrate"')
    known = {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}
    if found in known:
        raise SchemaError(f'the database is at revision {found}, this code wants {wanted}; run "lookalike migrate"')
    raise SchemaError(f"the database is at revision {found}, newer than this code ({wanted}); upgrade Lookalike")
