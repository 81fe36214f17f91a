"""Candidates of a space's embeddings: fit a transform, create its table and fill it while others write."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql as pgsql
from psycopg.rows import scalar_row

from app.db import Connection, sql, translated
from app.db.locking import retry_on_lock
from app.db.vectors import END, HALFVEC, HEAD, ID, unpack_rows
from app.errors import ConflictError, InvalidInputError
from app.index import transforms
from app.index.spec import IndexSpec
from app.index.transforms import Matrix, Projection, Transform
from app.store.spaces import Space

# 25 MB of embeddings of 1,280 dimensions; their candidates are written in 0.1 s.
_BATCH = 10_000


def rows(conn: Connection, space: Space) -> int:
    """Return about how many embeddings a space has."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return int(cursor.execute("SELECT lookalike.count_about(%s, 100000)", (space.table_name,)).fetchone() or 0)


def ls(conn: Connection, space: Space) -> list[int]:
    """Return the ids of the space's transforms, the oldest first."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(
            sql.query("transforms"), {"space_id": space.id, "bits": None, "dimensions": None}
        ).fetchall()


def ready(conn: Connection, space: Space, choice: IndexSpec) -> int | None:
    """Return the latest transform of this form that has its table, filled or not; None if there is none."""
    values = {"space_id": space.id, "bits": choice.bits or 0, "dimensions": choice.dimensions or 0}
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        found = cursor.execute(sql.query("transforms"), values).fetchall()
    return found[-1] if found else None


def create(conn: Connection, space: Space, choice: IndexSpec, *, seed: int = 0, patience: float = 60) -> int:
    """Fit a transform on a sample of the space's embeddings, store it with an empty table and return its id.

    Triggers keep the table up to date from then on. In autocommit.

    Raises:
        InvalidInputError: the space has too few embeddings, or fewer dimensions than the choice names.
        ConflictError: writers of embeddings blocked it for `patience` seconds.
    """
    compression = choice.definition.compression
    if compression is None:
        raise InvalidInputError(f"index choice {choice} has no candidates: choose one with rerank")
    option = choice.values[compression.option]
    transform = store(conn, space, compression.fit(sample(conn, space, seed), option, seed))
    # In a transaction of its own, because it needs a lock that blocks writers, and is retried.
    try:
        retry_on_lock(conn, "create_candidates", transform, patience=patience)
    except ConflictError:
        retry_on_lock(conn, "drop_transform", transform, patience=patience)
        raise
    return transform


def store(conn: Connection, space: Space, fitted: Transform) -> int:
    """Store a transform for a space, in one transaction; return its id."""
    values = {
        "space_id": space.id,
        "bits": len(fitted.projection.axes) if fitted.form == "bits" else None,
        "dimensions": len(fitted.projection.axes) if fitted.form == "reduced" else None,
        "fingerprint": fitted.fingerprint,
        "sample_size": fitted.sample_size,
        "seed": fitted.seed,
        "explained_variance": fitted.explained_variance,
    }
    with translated(), conn.transaction(), conn.cursor(row_factory=scalar_row) as cursor:
        transform = int(cursor.execute(sql.query("add_transform"), values).fetchone() or 0)
        axes = zip(fitted.projection.axes, fitted.projection.shifts, strict=True)
        cursor.executemany(
            sql.query("add_axis"),
            [
                {"transform": transform, "form": fitted.form, "n": n, "shift": float(shift), "axis": HalfVector(axis)}
                for n, (axis, shift) in enumerate(axes)
            ],
        )
    return transform


def sample(conn: Connection, space: Space, seed: int) -> Matrix:
    """Return up to `transforms.SAMPLE` random embeddings of a space. The same rows and seed give the same sample."""
    share = min(100.0, 150.0 * transforms.SAMPLE / max(rows(conn, space), 1))
    statement = pgsql.SQL(
        "SELECT e.image_id, e.embedding FROM {} e TABLESAMPLE SYSTEM ({}) REPEATABLE ({}) ORDER BY 1"
    ).format(pgsql.Identifier("lookalike", space.table_name), pgsql.Literal(share), pgsql.Literal(seed))
    found = [vectors for _, vectors in read(conn, statement, space.dimensions)]
    if not found:
        raise InvalidInputError(f"space {space.name} holds no embeddings yet: a transform is fitted on some")
    everything = np.concatenate(found)
    chosen = np.random.default_rng(seed).permutation(len(everything))[: transforms.SAMPLE]
    taken: Matrix = everything[np.sort(chosen)].astype(np.float32)
    return taken


def load(conn: Connection, transform: int) -> Transform:
    """Return a stored transform; of one that release 0008 fitted in both forms, the bits."""
    with translated(), conn.cursor(binary=True) as cursor:
        axes = cursor.execute(sql.query("axes"), {"transform": transform}).fetchall()
        about = cursor.execute(sql.query("transform"), {"transform": transform}).fetchone()
    if about is None:
        raise ConflictError(f"transform {transform} was dropped meanwhile")
    form: Literal["bits", "reduced"] = "bits" if axes[0][0] == "bits" else "reduced"
    own = [(vector, shift) for name, vector, shift in axes if name == form]
    projection = Projection(
        np.stack([vector.to_numpy().astype(np.float32) for vector, _ in own]),  # type: ignore[attr-defined]
        np.array([shift for _, shift in own], dtype=np.float64),
    )
    size, seed, explained = about
    return Transform(form, projection, int(str(size)), int(str(seed)), float(str(explained)))


def fill(conn: Connection, space: Space, transform: int, *, report: Callable[[str], None] | None = None) -> int:
    """Write the missing candidates in short transactions, and return how many. In autocommit.

    If interrupted, call it again. Writers are not blocked: their triggers write candidates too, and those stay.
    """
    fitted = load(conn, transform)
    table = pgsql.Identifier("lookalike", f"candidates_{transform}")
    embeddings = pgsql.Identifier("lookalike", space.table_name)
    names = pgsql.SQL(", ").join(map(pgsql.Identifier, ["image_id", fitted.form]))
    total, after, written = rows(conn, space), 0, 0
    with translated():
        # The planner has no statistics of a table that is being filled, and would sort all embeddings for each part.
        conn.execute("SET enable_hashjoin = off; SET enable_sort = off")
        conn.execute(pgsql.SQL("CREATE TEMP TABLE IF NOT EXISTS lookalike_fill (LIKE {})").format(table))
        try:
            while True:
                statement = pgsql.SQL(
                    "SELECT e.image_id, e.embedding FROM {} e WHERE e.image_id > {} AND NOT EXISTS "
                    "(SELECT FROM {} c WHERE c.image_id = e.image_id) ORDER BY e.image_id LIMIT {}"
                ).format(embeddings, pgsql.Literal(after), table, pgsql.Literal(_BATCH))
                part = next(read(conn, statement, space.dimensions), None)
                if part is None:
                    break
                ids, vectors = part
                after = int(ids[-1])
                with conn.transaction(), conn.cursor() as cursor:
                    with cursor.copy(
                        pgsql.SQL("COPY pg_temp.lookalike_fill ({}) FROM STDIN (FORMAT binary)").format(names)
                    ) as copy:
                        copy.write(HEAD + _packed(ids, vectors.astype(np.float32), fitted) + END)
                    # Skip embeddings that were deleted meanwhile; an existing row is newer.
                    cursor.execute(
                        pgsql.SQL(
                            "INSERT INTO {} ({}) SELECT {} FROM pg_temp.lookalike_fill f WHERE EXISTS "
                            "(SELECT FROM {} e WHERE e.image_id = f.image_id) ON CONFLICT (image_id) DO NOTHING"
                        ).format(table, names, names, embeddings)
                    )
                    written += cursor.rowcount
                    cursor.execute("TRUNCATE pg_temp.lookalike_fill")
                if report:
                    report(f"{written:,} of about {total:,} candidates written")
        finally:
            if not conn.broken:
                conn.execute("DROP TABLE IF EXISTS pg_temp.lookalike_fill")
                conn.execute("RESET enable_hashjoin; RESET enable_sort")
        conn.execute("SELECT lookalike.sweep_candidates(%s::smallint)", (transform,))
        conn.execute(pgsql.SQL("VACUUM (ANALYZE) {}").format(table))
        conn.execute(sql.query("note_filled"), {"transform": transform})
    return written


def read(
    conn: Connection, statement: pgsql.Composed, dimensions: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
    """Yield the ids and embeddings that a statement selects, in one part, if there are any. COPY is much faster."""
    with (
        conn.cursor() as cursor,
        cursor.copy(pgsql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(statement)) as copy,
    ):
        ids, vectors = unpack_rows(map(bytes, copy), dimensions)
    if len(ids):
        yield ids, vectors


def _packed(ids: NDArray[np.int64], vectors: Matrix, fitted: Transform) -> bytes:
    """Return rows (image_id, bits or reduced) in the format of COPY BINARY."""
    outputs = len(fitted.projection.axes)
    if fitted.form == "bits":
        values: NDArray[np.uint8] | Matrix = fitted.packed(vectors)
        form: list[tuple[str, str]] = [("size", ">i4"), ("count", ">i4")]
        vector, count, size = "u1", "count", 4 + values.shape[1]
    else:
        values, form = fitted.projection.of(vectors), [*HALFVEC]
        vector, count, size = ">f2", "dimensions", 4 + 2 * outputs
    made = np.zeros(len(ids), np.dtype([*ID, *form, ("vector", vector, (values.shape[1],))]))
    made["fields"], made["id_size"], made["id"] = 2, 8, ids
    made["size"], made[count], made["vector"] = size, outputs, values
    return made.tobytes()
