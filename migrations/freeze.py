"""`python -m migrations.freeze REVISION`: record that REVISION loads every file in `sql/` changed since the last lock.

If an earlier revision loaded a file, its text as committed is first kept under `frozen/<that revision>/`; so run this
before you commit the change. REVISION's own list of sources must name the files, unless only their headers changed and
REVISION is 0009, which comments on every object.
"""

import json
import subprocess
import sys

from app.db import sql
from migrations.sources import FIRST_COMMENTED, FROZEN, LOCK, current, locked


def freeze(revision: str) -> list[str]:
    """Update `sql.lock` for `revision`; return the paths, below `sql/`, that it now loads."""
    before = locked() if LOCK.exists() else {}
    after, changed = {}, []
    for path, hashes in current().items():
        held = before.get(path, {})
        if _is_stored(held, hashes, revision):
            after[path] = {"revision": held["revision"], **hashes}
            continue
        if held and held["revision"] < revision:
            _keep(path, held["revision"])
        after[path] = {"revision": revision, **hashes}
        changed.append(path)
    LOCK.write_text(json.dumps(dict(sorted(after.items())), indent=1) + "\n", encoding="utf-8")
    return changed


def _is_stored(held: dict[str, str], hashes: dict[str, str], revision: str) -> bool:
    """Return whether the database has this text of a file already, so that `revision` need not load it.

    A changed header counts only after 0009, because 0009 comments on every object.
    """
    if held.get("sha256") != hashes["sha256"]:
        return False
    return revision == FIRST_COMMENTED or held["comment"] == hashes["comment"]


def _keep(path: str, revision: str) -> None:
    """Write the committed text of a file below `frozen/`, for the revision that loaded it."""
    kept = FROZEN / revision / path
    kept.parent.mkdir(parents=True, exist_ok=True)
    kind, name = path.removesuffix(".sql").split("/")
    file = sql.source(kind, name).relative_to(sql.ROOT)
    committed = subprocess.run(["git", "show", f"HEAD:sql/{file}"], check=True, capture_output=True, text=True)
    kept.write_text(committed.stdout, encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.writelines(f"{path}\n" for path in freeze(sys.argv[1]))
