"""Lets images follow the files of a folder: renames and deletes them by uri. Connections are in autocommit: a call is a transaction, of a long
one each page."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from app.db import Connection, sql, translated
from app.errors import ConflictError
from app.ingest.find import Candidate, Refusal, of_folder, quotes

_PAGE = 10_000
_BATCH = 500


@dataclass(frozen=True, slots=True)
class WatchedFolder:
    """A folder, and the address that is registered in its place, if any."""

    folder: Path
    base_uri: str | None

    def candidate(self, path: str) -> Candidate | Refusal:
        """Return the image in a file of the folder."""
        return of_folder(Path(path), self.folder, self.base_uri)

    def uri(self, path: str) -> str | None:
        """Return the uri of a file of the folder; None where it can have none."""
        found = self.candidate(path)
        return found.uri if isinstance(found, Candidate) else None


def rename_images(conn: Connection, pairs: dict[str, str], place: WatchedFolder) -> int:
    """Give the images of moved files, old path to new, their new uris; return how many there were to rename."""
    named = [(place.uri(old), place.uri(new)) for old, new in pairs.items()]
    usable = [(old, new) for old, new in named if old is not None and new is not None]
    try:
        with translated():
            rows = conn.execute(
                sql.query("rename_images"), {"old": [old for old, _ in usable], "new": [new for _, new in usable]}
            ).fetchall()
    except ConflictError:  # another watcher was first
        return 0
    return len(rows)


def delete_images(conn: Connection, uris: Sequence[str]) -> int:
    """Delete the images of these uris, and return how many there were."""
    deleted = 0
    for at in range(0, len(uris), _BATCH):
        with translated():
            rows = conn.execute(sql.query("delete_images_of_uris"), {"uris": list(uris[at : at + _BATCH])}).fetchall()
        deleted += len(rows)
    return deleted


def images_without_file(conn: Connection, place: WatchedFolder) -> list[str]:
    """Return the uris of the folder's images in the database whose files are not there."""
    prefix = (place.base_uri or str(place.folder)).rstrip("/") + "/"
    quoted = place.base_uri is not None and quotes(place.base_uri)
    after, gone = 0, list[str]()
    while True:
        with translated():
            rows = conn.execute(sql.query("uris_below"), {"prefix": prefix, "after": after, "most": _PAGE}).fetchall()
        if not rows:
            return gone
        after = int(str(rows[-1][0]))
        for _, uri in rows:
            name = str(uri).removeprefix(prefix)
            if not os.path.lexists(place.folder / (unquote(name) if quoted else name)):
                gone.append(str(uri))
