"""Rename and delete the images of a folder when its files move or disappear.

Connections are in autocommit: each statement is a transaction, and long lists take several.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from app.db import Connection, sql, translated
from app.errors import ConflictError
from app.ingest.find import Candidate, Refusal, candidate_in, is_percent_encoded

_PAGE = 10_000
_BATCH = 500


@dataclass(frozen=True, slots=True)
class WatchedFolder:
    """A folder; `base_uri`, if given, is registered in its place."""

    folder: Path
    base_uri: str | None

    def candidate(self, path: str) -> Candidate | Refusal:
        """Return the image to register for a file of the folder."""
        return candidate_in(self.folder, Path(path), self.base_uri)

    def uri(self, path: str) -> str | None:
        """Return the uri of a file of the folder; None if its name cannot be stored."""
        found = self.candidate(path)
        return found.uri if isinstance(found, Candidate) else None


def rename_images(conn: Connection, pairs: dict[str, str], folder: WatchedFolder) -> int:
    """Give the images of moved files (old path to new path) their new uris; return the number of renamed images."""
    named = [(folder.uri(old), folder.uri(new)) for old, new in pairs.items()]
    usable = [(old, new) for old, new in named if old is not None and new is not None]
    try:
        with translated():
            rows = conn.execute(
                sql.query("rename_images"), {"old": [old for old, _ in usable], "new": [new for _, new in usable]}
            ).fetchall()
    except ConflictError:  # another watcher renamed them first
        return 0
    return len(rows)


def delete_images(conn: Connection, uris: Sequence[str]) -> int:
    """Delete the images with these uris; return the number of deleted images."""
    deleted = 0
    for at in range(0, len(uris), _BATCH):
        with translated():
            rows = conn.execute(sql.query("delete_images_of_uris"), {"uris": list(uris[at : at + _BATCH])}).fetchall()
        deleted += len(rows)
    return deleted


def images_without_file(conn: Connection, folder: WatchedFolder) -> list[str]:
    """Return the uris of the folder's images in the database whose files do not exist."""
    prefix = (folder.base_uri or str(folder.folder)).rstrip("/") + "/"
    quoted = folder.base_uri is not None and is_percent_encoded(folder.base_uri)
    after, gone = 0, list[str]()
    while True:
        with translated():
            rows = conn.execute(sql.query("uris_below"), {"prefix": prefix, "after": after, "most": _PAGE}).fetchall()
        if not rows:
            return gone
        after = int(str(rows[-1][0]))
        for _, uri in rows:
            name = str(uri).removeprefix(prefix)
            if not os.path.lexists(folder.folder / (unquote(name) if quoted else name)):
                gone.append(str(uri))
