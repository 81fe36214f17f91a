"""Copy a sample of a space into a scratch database in short statements, and compute the true answers on the way."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from psycopg import sql as pgsql
from psycopg.rows import scalar_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.db.vectors import END, HEAD, pack_rows, unpack_rows
from app.errors import ConflictError
from app.store import spaces
from app.store.spaces import Space
from app.tuning.metrics import Exact, Ids, Truth, Vectors

# A statement on the source takes tenths of a second, so none holds back vacuum.
_BATCH = 2000

LEAST_ROWS = 20
_SPARE = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """A space in the scratch database, with queries of shape (queries, dimensions) and their true answers.

    `table_bytes` are those of the embeddings with their primary key. `labels` are by image id, `query_labels` in the
    order of the queries. `spare_ids` are images without embeddings in the scratch database; the write test gives them
    those in `spare`.
    """

    space: Space
    rows: int
    table_bytes: int
    queries: Vectors
    truths: list[Truth]
    labels: dict[int, str]
    query_labels: list[str | None]
    spare_ids: list[int]
    spare: Vectors


def draw(
    source: Connection,
    scratch: Connection,
    space: Space,
    *,
    rows: int,
    queries: int | Vectors,
    k: int,
    seed: int,
    label: str | None,
    progress: Callable[[int, int], None] | None = None,
) -> Sample:
    """Copy at most `rows` embeddings, drawn by seed; hold out `queries` more, or search by the given vectors.

    Both connections are in autocommit. The same seed draws the same sample of the same images.

    Raises:
        ConflictError: the space has too few embeddings.
    """
    held = queries if isinstance(queries, int) else min(50, len(queries))
    ids = _drawn_ids(source, space, seed=seed, most=rows + held)
    if len(ids) < held + LEAST_ROWS:
        raise ConflictError(
            f"space {space.name} has {len(ids):,} embeddings, too few to measure with {held} held out as queries; "
            f"{held + LEAST_ROWS} are needed, or fewer queries: --query-count"
        )
    held_ids, kept = ids[:held], np.sort(ids[held:])
    found_ids, held_vectors = _embeddings(source, space, held_ids)
    asked = held_vectors if isinstance(queries, int) else queries.astype(np.float16).astype(np.float32)
    labels = _labels(source, found_ids, label)
    query_labels = [labels.get(int(one)) if isinstance(queries, int) else None for one in found_ids[: len(asked)]]
    query_labels += [None] * (len(asked) - len(query_labels))
    exact, stored = Exact(asked, k), 0
    row_labels: dict[int, str] = {}
    made = _make_space(scratch, space)
    with translated():
        for start in range(0, len(kept), _BATCH):
            part_ids, vectors = _embeddings(source, space, kept[start : start + _BATCH])
            if label:
                row_labels |= _labels(source, part_ids, label)
            _store(scratch, made, part_ids, vectors)
            exact.add(part_ids, vectors)
            stored += len(part_ids)
            if progress:
                progress(start + len(part_ids), len(kept))
        _store_images(scratch, found_ids)
        scratch.execute(
            pgsql.SQL("VACUUM (ANALYZE) lookalike.images, {}").format(pgsql.Identifier("lookalike", made.table_name))
        )
        found = scratch.execute(sql.query("embedding_table_bytes"), {"space_id": made.id}).fetchone()
    spare = slice(0, _SPARE)
    return Sample(
        space=made,
        rows=stored,
        table_bytes=int(str(found[0] if found else 0)),
        queries=asked,
        truths=exact.truths(),
        labels=row_labels,
        query_labels=query_labels,
        spare_ids=[int(one) for one in found_ids[spare]],
        spare=held_vectors[spare],
    )


def _drawn_ids(source: Connection, space: Space, *, seed: int, most: int) -> Ids:
    statement = pgsql.SQL(
        "SELECT e.image_id FROM {} e ORDER BY hashint8extended(e.image_id, %s), e.image_id LIMIT %s"
    ).format(pgsql.Identifier("lookalike", space.table_name))
    with translated(), source.cursor(row_factory=scalar_row, binary=True) as cursor:
        return np.asarray(cursor.execute(statement, (seed, most)).fetchall(), dtype=np.int64)


def _embeddings(source: Connection, space: Space, ids: Ids) -> tuple[Ids, Vectors]:
    """Return the ids and embeddings that still exist, in the order of the ids; a batch has some 5 MB."""
    statement = pgsql.SQL(
        "COPY (SELECT e.image_id, e.embedding FROM {} e WHERE e.image_id = ANY (%s) ORDER BY e.image_id) "
        "TO STDOUT (FORMAT binary)"
    ).format(pgsql.Identifier("lookalike", space.table_name))
    with translated(), source.cursor() as cursor, cursor.copy(statement, (ids.tolist(),)) as copy:
        found, vectors = unpack_rows(map(bytes, copy), space.dimensions)
    return found, vectors.astype(np.float32)


def _labels(source: Connection, ids: Ids, label: str | None) -> dict[int, str]:
    if label is None:
        return {}
    rows = source.execute(
        "SELECT i.id, i.attributes ->> %s FROM lookalike.images i WHERE i.id = ANY (%s)", (label, ids.tolist())
    )
    return {int(str(row[0])): str(row[1]) for row in rows if row[1] is not None}


def _make_space(scratch: Connection, space: Space) -> Space:
    """Create the same space in the scratch database, as the active one, without autovacuum to disturb measurements."""
    with translated(), scratch.transaction():
        scratch.execute("ALTER TABLE lookalike.images DISABLE TRIGGER USER")  # no worker may embed these images
        scratch.execute(
            "SELECT lookalike.create_space(%s, %s, %s, %s, %s, index_options => %s)",
            (
                space.name,
                space.model,
                space.dimensions,
                Jsonb(space.preprocessing),
                space.fingerprint,
                Jsonb({"kind": "exact"}),
            ),
        )
        made = spaces.get(scratch, space.name)
        scratch.execute(
            pgsql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(
                pgsql.Identifier("lookalike", made.table_name)
            )
        )
    return made


def _store_images(scratch: Connection, ids: Ids) -> None:
    with scratch.cursor() as cursor, cursor.copy("COPY lookalike.images (id, uri) FROM STDIN") as copy:
        copy.write("".join(f"{one}\tlab:{one}\n" for one in ids.tolist()))


def _store(scratch: Connection, space: Space, ids: Ids, vectors: Vectors) -> None:
    table = pgsql.Identifier("lookalike", space.table_name)
    with scratch.transaction():
        _store_images(scratch, ids)
        statement = pgsql.SQL("COPY {} (image_id, embedding) FROM STDIN (FORMAT binary)").format(table)
        with scratch.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(HEAD + pack_rows(ids, vectors) + END)
