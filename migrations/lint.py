"""`python -m migrations.lint`: run squawk on each revision's SQL, to find statements that block searches or writes.

It needs no database.
"""

import io
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app import db
from app.db import schema

# The first revision creates the tables, so it can block nobody.
_FIRST = "0001"

# Excluded rules with the reason; a revision may add its own as lint_excluded.
EXCLUDED = {
    "require-statement-timeout": "a long statement may finish; migrations/guard.py limits how long others wait for it",
    "prefer-bigint-over-int": "dimensions and numbers of neighbours stay small; ids and counts of images are bigint",
    "prefer-bigint-over-smallint": "ids of spaces, attempts and buckets stay small, and every job row holds them",
}
# Rules that protect older code. They do not apply to a revision that serves only its own code.
EXCLUDED_WITHOUT_OLD_CODE = {
    "ban-drop-function": "its arguments or result change in this revision",
    "ban-drop-view": "its columns change in this revision",
}


def sql_of(config: Config, below: str, revision: str) -> str:
    """Return the SQL that Alembic would run for one revision."""
    config.output_buffer = io.StringIO()
    with redirect_stderr(io.StringIO()):
        command.upgrade(config, f"{below}:{revision}", sql=True)
    return config.output_buffer.getvalue()


def lint(config: Config) -> int:
    """Run squawk on every revision, print its findings, and return the number of revisions with findings."""
    faulty = 0
    for script in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
        if script.revision == _FIRST:
            continue
        excluded = {*EXCLUDED, *getattr(script.module, "lint_excluded", {})}
        if getattr(script.module, "serves", script.revision) == script.revision:
            excluded |= set(EXCLUDED_WITHOUT_OLD_CODE)
        command_ = [
            str(Path(sys.executable).with_name("squawk")),
            "--reporter=gcc",
            f"--pg-version={db.MIN_SERVER // 10000}.0",
            f"--exclude={','.join(sorted(excluded))}",
            f"--stdin-filepath={script.revision}.sql",
        ]
        text = sql_of(config, str(script.down_revision), script.revision)
        done = subprocess.run(command_, input=text, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            faulty += 1
            sys.stdout.write(done.stdout + done.stderr)
    return faulty


if __name__ == "__main__":
    sys.exit(lint(schema.config("")) > 0)
