"""`python -m migrations.freeze REVISION`: record that REVISION loads every file of `sql/` changed since the last lock.

A file that an earlier revision loaded is first kept, as committed, under `frozen/<that revision>/`; so run it before
committing the change. REVISION's own list of sources must name the files.
"""

import json
import subprocess
import sys

from app.db import sql
from migrations.sources import FROZEN, LOCK, current, locked


def freeze(revision: str) -> list[str]:
    """Update `sql.lock` for `revision`; return the paths, below `sql/`, that it now loads anew."""
    before = locked() if LOCK.exists() else {}
    changed = [path for path, digest in current().items() if before.get(path, {}).get("sha256") != digest]
    after = {path: before[path] for path in current() if path in before}
    for path in changed:
        earlier = before.get(path, {}).get("revision")
        if earlier is not None and earlier < revision:
            kept = FROZEN / earlier / path
            kept.parent.mkdir(parents=True, exist_ok=True)
            kind, name = path.removesuffix(".sql").split("/")
            file = sql.source(kind, name).relative_to(sql.ROOT)
            committed = subprocess.run(["git", "show", f"HEAD:sql/{file}"], check=True, capture_output=True, text=True)
            kept.write_text(committed.stdout, encoding="utf-8")
        after[path] = {"revision": revision, "sha256": current()[path]}
    LOCK.write_text(json.dumps(dict(sorted(after.items())), indent=1) + "\n", encoding="utf-8")
    return changed


if __name__ == "__main__":
    sys.stdout.writelines(f"{path}\n" for path in freeze(sys.argv[1]))
