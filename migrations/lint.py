"""`python -m migrations.lint`: squawk over the SQL of each revision, for statements that keep searches or writes out.

No database is needed.
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

# The first revision makes the tables: nobody is there yet who could be kept out.
_FIRST = "0001"

# What is not asked for, and why; a revision may say more of itself, as lint_excluded.
EXCLUDED = {
    "require-statement-timeout": "a long one may run to its end; migrations/guard.py bounds what others wait for it",
    "prefer-bigint-over-int": "dimensions and numbers of neighbours stay small; ids and counts of images are bigint",
    "prefer-bigint-over-smallint": "ids of spaces, attempts and buckets stay small, and are in every row of a job",
}
# What code of before may call. A revision that takes it away says so by serving no code but its own.
EXCLUDED_WITHOUT_OLD_CODE = {
    "ban-drop-function": "it has other arguments or another result from this revision on",
    "ban-drop-view": "it has other columns from this revision on",
}


def sql_of(config: Config, below: str, revision: str) -> str:
    """Return the SQL that Alembic would run for one revision."""
    config.output_buffer = io.StringIO()
    with redirect_stderr(io.StringIO()):
        command.upgrade(config, f"{below}:{revision}", sql=True)
    return config.output_buffer.getvalue()


def lint(config: Config) -> int:
    """Let squawk judge every revision of this configuration; return how many it found fault with, told on stdout."""
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
