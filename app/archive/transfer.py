"""Export images with their embeddings to a file, and import them.

An import checks the whole file before it writes anything, then writes one batch per transaction. If it is interrupted,
run it again: rows that are in the database already stay unchanged.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg.rows import scalar_row, tuple_row

from app.archive.files import create_archive
from app.archive.format import COLUMNS, EMBEDDING, Batch, Origin, Reader
from app.db import Connection, sql, translated
from app.db.vectors import halfvecs
from app.errors import InvalidInputError, LookalikeError, NotFoundError
from app.store import spaces
from app.store.spaces import Space

BATCH = 1000
_NORM_TOLERANCE = 1e-3  # as in jobs.finish
_INT4 = 2**31 - 1
_INT8 = 2**63 - 1

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """The number of images in a file, and of those with an embedding."""

    images: int
    embedded: int


@dataclass(slots=True)
class Imported:
    """The result of an import, in rows.

    `other_content` are the uris whose image has other bytes in the database; nothing of these rows is written.
    """

    rows: int = 0
    inserted: int = 0
    embedded: int = 0
    unchanged: int = 0
    other_content: list[str] = field(default_factory=list)


def export(
    conn: Connection, space: Space, path: Path, *, force: bool = False, progress: Progress | None = None
) -> Exported:
    """Write a snapshot of all images with their embeddings in `space` to a file. In autocommit.

    It reads in one REPEATABLE READ transaction, which holds back vacuum meanwhile. Memory stays bounded.
    """
    with translated(), conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        origin = Origin(
            fingerprint=space.fingerprint,
            dimensions=space.dimensions,
            space=space.name,
            model=space.model,
            preprocessing=space.preprocessing,
            index_options=space.index_options,
            images=count_images(conn),
            exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        images = embedded = 0
        with create_archive(path, origin, force=force) as writer:
            for batch in _pages(conn, space):
                writer.add(batch)
                images += len(batch.uris)
                embedded += int(batch.embedded.sum())
                if progress:
                    progress(images)
    return Exported(images, embedded)


def count_images(conn: Connection) -> int:
    """Return the exact number of images."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return int(cursor.execute(sql.query("count_all_images")).fetchone() or 0)


def _pages(conn: Connection, space: Space) -> Iterator[Batch]:
    after, first = 0, 1
    with conn.cursor(binary=True, row_factory=tuple_row) as cursor:
        while True:
            values = {"space_id": space.id, "after_id": after, "most": BATCH}
            rows: list[Any] = cursor.execute(sql.query("export_embeddings"), values).fetchall()
            if not rows:
                return
            *columns, embeddings = zip(*rows, strict=True)
            known = [one.to_numpy() for one in embeddings if one is not None]
            yield Batch(
                first=first,
                embeddings=np.stack(known) if known else np.zeros((0, space.dimensions), np.float16),
                embedded=np.array([one is not None for one in embeddings]),
                **{name: list(column) for name, column in zip(COLUMNS, columns, strict=True)},
            )
            after, first = int(rows[-1][0]), first + len(rows)


def target_space(conn: Connection, origin: Origin, name: str | None, *, trust: bool = False) -> Space:
    """Return the space that a file's embeddings belong to: that of its fingerprint, and of `name` if given.

    Raises:
        NotFoundError: there is no such space.
        InvalidInputError: the named space has another fingerprint, or the file has none and `trust` is not set.
    """
    known = spaces.ls(conn)
    if origin.fingerprint is None:
        if name is None or not trust:
            raise InvalidInputError(
                "the file does not say which model made its embeddings (no fingerprint); if you know that it is the "
                "model of a space, name the space and vouch for it: --space NAME --trust"
            )
        space = spaces.get(conn, name)
    else:
        fitting = [one for one in known if one.fingerprint == origin.fingerprint]
        if name is not None and (space := spaces.get(conn, name)) not in fitting:
            raise InvalidInputError(
                f"the file's embeddings are of {origin.model or 'a model'}, fingerprint {origin.fingerprint[:12]}…, "
                f"those of space {name} of {space.model} with {space.fingerprint[:12]}…: they cannot be compared"
            )
        if not fitting:
            existing = ", ".join(f"{one.name} ({one.fingerprint[:12]}…)" for one in known) or "none yet"
            raise NotFoundError(
                f"no embedding space has the file's fingerprint {origin.fingerprint[:12]}… "
                f"({origin.model or 'model unknown'}); the spaces are: {existing}; create it: --create"
            )
        space = fitting[0]
    if origin.dimensions not in (None, space.dimensions):
        raise InvalidInputError(
            f"the file has {origin.dimensions} dimensions, but space {space.name} has {space.dimensions}"
        )
    return space


def dimensions_of(conn: Connection, origin: Origin) -> int:
    """Return the dimensions that embeddings of this file must have, whether or not its space exists."""
    for space in spaces.ls(conn):
        if space.fingerprint == origin.fingerprint:
            return space.dimensions
    if origin.dimensions is None:
        raise InvalidInputError("no space can be created from this file: it does not state its dimensions")
    return origin.dimensions


def create_space(conn: Connection, origin: Origin, name: str | None) -> Space:
    """Return the space that a file describes; create it if it does not exist. Waits as `spaces.create` does."""
    found = [one for one in spaces.ls(conn) if one.fingerprint == origin.fingerprint]
    if found:
        return found[0]
    wanted = {"fingerprint": origin.fingerprint, "model": origin.model, "dimensions": origin.dimensions}
    if missing := [key for key, value in wanted.items() if value is None]:
        raise InvalidInputError(f"no space can be created from this file: it does not state its {', '.join(missing)}")
    space_name = name or origin.space
    if space_name is None:
        raise InvalidInputError("the file names no space; name the new one: --space NAME")
    return spaces.create(
        conn,
        name=space_name,
        model=str(origin.model),
        weights=None,
        dimensions=int(str(origin.dimensions)),
        preprocessing=origin.preprocessing or {},
        fingerprint=str(origin.fingerprint),
        index_options=origin.index_options,
    )


def check(reader: Reader, dimensions: int, *, normalize: bool = False, progress: Progress | None = None) -> int:
    """Check a whole file without a database; return the number of its rows.

    Raises:
        InvalidInputError: a row is not valid; the message names the first bad row and column.
    """
    digests = bytearray()  # 16 bytes per row, so that a duplicate uri is found in a file of any size
    for batch in reader.batches(BATCH):
        _check_texts(reader.path, batch)
        _check_embeddings(reader.path, batch, dimensions, normalize=normalize)
        digests += b"".join(hashlib.blake2b(uri.encode(), digest_size=16).digest() for uri in batch.uris)
        if progress:
            progress(len(digests) // 16)
    kept = np.frombuffer(digests, dtype="S16")
    order = np.argsort(kept, kind="stable")
    if len(same := np.flatnonzero(kept[order][1:] == kept[order][:-1])):
        one, other = sorted((int(order[same[0]]) + 1, int(order[same[0] + 1]) + 1))
        raise InvalidInputError(f'{reader.path}, row {other}, column "uri": the same as that of row {one}')
    return len(kept)


def load(
    conn: Connection,
    reader: Reader,
    space: Space,
    *,
    normalize: bool = False,
    overwrite: bool = False,
    keep_ids: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Write the rows of a file that `check` has passed, one batch per transaction. In autocommit.

    `normalize` scales embeddings to length 1; `overwrite` replaces the captions, attributes and embeddings in the
    database; `keep_ids` gives new images the ids of the file. Call it again after an interruption.

    Raises:
        LookalikeError: a batch was not written; the message names its rows, and those before them are written.
    """
    done = Imported()
    for batch in reader.batches(BATCH):
        last = batch.first + len(batch.uris) - 1
        try:
            with translated(), conn.transaction():
                row: Any = conn.execute(
                    sql.query("import_embeddings"),
                    _values(batch, space, normalize=normalize, overwrite=overwrite, keep_ids=keep_ids),
                ).fetchone()
        except LookalikeError as error:
            raise type(error)(
                f"{reader.path}, rows {batch.first} to {last} were not written, those before were: {error}"
            ) from error
        done.rows = last
        done.inserted += row[0]
        done.embedded += row[1]
        done.unchanged += row[2]
        done.other_content += row[3]
        if progress:
            progress(last)
    return done


def _values(batch: Batch, space: Space, *, normalize: bool, overwrite: bool, keep_ids: bool) -> dict[str, object]:
    embeddings: list[npt.NDArray[np.float32] | None] = [None] * len(batch.uris)
    for row, vector in zip(np.flatnonzero(batch.embedded), batch.embeddings, strict=True):
        values = vector.astype(np.float64)
        embeddings[row] = (values / np.linalg.norm(values) if normalize else values).astype(np.float32)
    return {
        "space_id": space.id,
        "uris": batch.uris,
        "embeddings": halfvecs(embeddings),
        "hashes": batch.sha256s,
        "media_types": batch.media_types,
        "widths": batch.widths,
        "heights": batch.heights,
        "captions": batch.captions,
        "attributes": batch.attributes,
        "created_ats": batch.created_ats,
        "updated_ats": batch.updated_ats,
        "ids": batch.ids if keep_ids else None,
        "overwrite": overwrite,
    }


def _check_embeddings(path: Path, batch: Batch, dimensions: int, *, normalize: bool) -> None:
    rows = batch.first + np.flatnonzero(batch.embedded)
    if not len(rows):
        return
    if batch.embeddings.shape[1] != dimensions:
        found = batch.embeddings.shape[1]
        raise _bad(path, int(rows[0]), EMBEDDING, f"{found} dimensions, but the space has {dimensions}")
    values = batch.embeddings.astype(np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise _bad(path, int(rows[~finite][0]), EMBEDDING, "one of its numbers is missing or not finite")
    lengths = np.linalg.norm(values, axis=1)
    wrong = lengths == 0 if normalize else np.abs(lengths - 1) > _NORM_TOLERANCE
    if wrong.any():
        way = "" if normalize else "; scale embeddings to it: --normalize"
        raise _bad(path, int(rows[wrong][0]), EMBEDDING, f"length {lengths[wrong][0]:g}, not 1{way}")


def _check_texts(path: Path, batch: Batch) -> None:
    for n in range(len(batch.uris)):
        for name, problem in _problems(batch, n):
            if problem:
                raise _bad(path, batch.first + n, name, problem)


def _problems(batch: Batch, n: int) -> Iterator[tuple[str, str | None]]:
    """Yield each column of a row with the reason why its value is not valid, or None."""
    uri, sha256, image_id = batch.uris[n], batch.sha256s[n], batch.ids[n]
    yield "uri", "is missing or empty" if not uri else None
    for name, text in (("uri", uri), ("caption", batch.captions[n]), ("media_type", batch.media_types[n])):
        yield name, "holds a NUL character, which PostgreSQL cannot store" if text and "\0" in text else None
    yield "sha256", f"{len(sha256)} bytes, not 32" if sha256 is not None and len(sha256) != 32 else None
    for name, size in (("width", batch.widths[n]), ("height", batch.heights[n])):
        yield name, f"{size} is not a size in pixels" if size is not None and not 0 < size <= _INT4 else None
    yield "id", f"{image_id} is not a valid id" if image_id is not None and not 0 < image_id <= _INT8 else None
    yield "attributes", _attributes_problem(batch.attributes[n])


def _attributes_problem(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(found, dict):
        return "not a JSON object"
    return "holds a NUL character, which PostgreSQL cannot store" if "\\u0000" in text else None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid in JSON")


def _bad(path: Path, row: int, column: str, problem: str) -> InvalidInputError:
    return InvalidInputError(f'{path}, row {row}, column "{column}": {problem}')
