"""Spaces that hold only the reduced form of another space's embeddings."""

import re
from collections.abc import Callable

import numpy as np
from psycopg import sql as pgsql
from psycopg.rows import scalar_row

from app.db import Connection, call, translated
from app.db.locking import retry_on_lock, wait_for_older_writers
from app.db.vectors import halfvecs
from app.errors import InvalidInputError
from app.index import candidates, transforms
from app.index.running import exclusive_build
from app.store import spaces
from app.store.spaces import Space

_BATCH = 2_000


def dimensions_of(text: str) -> int:
    """Return the dimensions of a transform in its text form, `pca:128`.

    Raises:
        InvalidInputError: the text is not a transform.
    """
    found = re.fullmatch(r"pca:(\d{1,4})", text.strip())
    if not found or not int(found[1]):
        raise InvalidInputError(f'"{text}" is not a transform; write pca and how many dimensions to keep: pca:128')
    return int(found[1])


def derive(
    conn: Connection,
    source: Space,
    *,
    name: str,
    dimensions: int,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
    patience: float = 60,
) -> Space:
    """Create a space of the reduced form of another space's embeddings, and fill it from there. In autocommit.

    The same model embeds new images, and the database reduces them and queries of the model's dimension. No image is
    embedded again. Images missing from the source, or locked by another transaction, are queued. The source can be
    dropped afterwards.

    Raises:
        InvalidInputError: the source has too few embeddings or dimensions, or is reduced itself.
        ConflictError: the name is taken, or a long transaction blocked it for `patience` seconds.
    """
    if source.encoded_dimensions is not None:
        raise InvalidInputError(f"space {source.name} holds a reduced form itself; derive from one of whole embeddings")
    if dimensions >= source.dimensions:
        raise InvalidInputError(f"{dimensions} dimensions are no fewer than the {source.dimensions} of {source.name}")
    with exclusive_build(conn, source):  # else another session could drop the transform, which nothing uses yet
        fitted = transforms.fit_reduced(candidates.sample(conn, source, seed), dimensions=dimensions, seed=seed)
        transform = candidates.store(conn, source, fitted)
        try:
            retry_on_lock(conn, "derive_space", name, source.name, transform, None, patience=patience)
        except BaseException:
            if not conn.broken:
                retry_on_lock(conn, "drop_transform", transform, patience=patience)
            raise
    made = spaces.get(conn, name)
    wait_for_older_writers(conn)
    fill(conn, made, source, report=report)
    spaces.backfill(conn, made)
    return made


def fill(conn: Connection, space: Space, source: Space, *, report: Callable[[str], None] | None = None) -> int:
    """Write the embeddings that a derived space lacks, in short transactions; return how many. In autocommit."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        transform = cursor.execute(
            "SELECT s.transform_id FROM lookalike.embedding_spaces s WHERE s.id = %s", (space.id,)
        ).fetchone()
    projection = candidates.load(conn, int(str(transform))).projection
    total, after, written = candidates.rows(conn, source), 0, 0
    while True:
        statement = pgsql.SQL(
            "SELECT e.image_id, e.embedding FROM {} e WHERE e.image_id > {} AND NOT EXISTS "
            "(SELECT FROM {} d WHERE d.image_id = e.image_id) ORDER BY e.image_id LIMIT {}"
        ).format(
            pgsql.Identifier("lookalike", source.table_name),
            pgsql.Literal(after),
            pgsql.Identifier("lookalike", space.table_name),
            pgsql.Literal(_BATCH),
        )
        with translated():
            part = next(candidates.read(conn, statement, source.dimensions), None)
        if part is None:
            return written
        ids, vectors = part
        after = int(ids[-1])
        reduced = projection.of(vectors.astype(np.float32))
        reduced /= np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), 1e-12)
        with translated(), conn.cursor(row_factory=scalar_row) as cursor:
            adopted = call(cursor, "adopt_embeddings", space.id, source.id, ids.tolist(), halfvecs(reduced))
            written += int(adopted.fetchone() or 0)
        if report:
            report(f"{written:,} of about {total:,} embeddings reduced")
