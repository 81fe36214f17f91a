"""Candidates of a space's embeddings: the transform fitted, its table made and filled while others write."""

from collections.abc import Callable, Iterator

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
    """Return how many embeddings a space has, about."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return int(cursor.execute("SELECT lookalike.count_about(%s, 100000)", (space.table_name,)).fetchone() or 0)


def ls(conn: Connection, space: Space) -> list[int]:
    """Return the ids of the space's transforms, the oldest first."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(
            sql.query("transforms"), {"space_id": space.id, "bits": None, "dimensions": None}
        ).fetchall()


def ready(conn: Connection, space: Space, choice: IndexSpec) -> int | None:
    """Return the latest transform of this form that has its table, whether filled or not; None where there is none."""
    values = {"space_id": space.id, "bits": choice.bits or 0, "dimensions": choice.dimensions or 0}
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        found = cursor.execute(sql.query("transforms"), values).fetchall()
    return found[-1] if found else None


def create(conn: Connection, space: Space, choice: IndexSpec, *, seed: int = 0, patience: float = 60) -> int:
    """Fit a transform on a sample of the space's embeddings, and store it with an empty table that triggers keep up.

    Returns its id. In autocommit. Errors as of `transforms.fit`; ConflictError where a writer of embeddings has been in
    the way for `patience` seconds.
    """
    fitted = transforms.fit(sample(conn, space, seed), bits=choice.bits, dimensions=choice.dimensions, seed=seed)
    transform = store(conn, space, fitted)
    # Apart, since it wants a lock that keeps writers out, and is tried again and again.
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
        "bits": None if fitted.bits is None else len(fitted.bits.axes),
        "dimensions": None if fitted.reduced is None else len(fitted.reduced.axes),
        "fingerprint": fitted.fingerprint,
        "sample_size": fitted.sample_size,
        "seed": fitted.seed,
        "explained_variance": fitted.explained_variance,
    }
    with translated(), conn.transaction(), conn.cursor(row_factory=scalar_row) as cursor:
        transform = int(cursor.execute(sql.query("add_transform"), values).fetchone() or 0)
        for form, projection in (("bits", fitted.bits), ("reduced", fitted.reduced)):
            if projection is not None:
                axes = [
                    (transform, form, n, float(shift), HalfVector(axis))
                    for n, (axis, shift) in enumerate(zip(projection.axes, projection.shifts, strict=True))
                ]
                cursor.executemany(sql.query("add_axis"), [dict(zip(_AXIS, one, strict=True)) for one in axes])
    return transform


_AXIS = ("transform", "form", "n", "shift", "axis")


def sample(conn: Connection, space: Space, seed: int) -> Matrix:
    """Return up to `transforms.SAMPLE` random embeddings of a space; the same rows and seed give the same."""
    share = min(100.0, 150.0 * transforms.SAMPLE / max(rows(conn, space), 1))
    statement = pgsql.SQL(
        "SELECT e.image_id, e.embedding FROM {} e TABLESAMPLE SYSTEM ({}) REPEATABLE ({}) ORDER BY 1"
    ).format(pgsql.Identifier("lookalike", space.table_name), pgsql.Literal(share), pgsql.Literal(seed))
    found = [vectors for _, vectors in read(conn, statement, space.dimensions)]
    if not found:
        raise InvalidInputError(f"space {space.name} holds no embeddings yet: there is nothing to fit a transform on")
    everything = np.concatenate(found)
    chosen = np.random.default_rng(seed).permutation(len(everything))[: transforms.SAMPLE]
    taken: Matrix = everything[np.sort(chosen)].astype(np.float32)
    return taken


def load(conn: Connection, transform: int) -> Transform:
    """Return a stored transform."""
    with translated(), conn.cursor(binary=True) as cursor:
        axes = cursor.execute(sql.query("axes"), {"transform": transform}).fetchall()
        about = cursor.execute(sql.query("transform"), {"transform": transform}).fetchone()
    if about is None:
        raise ConflictError(f"transform {transform} was dropped meanwhile")
    forms: dict[str, Projection] = {}
    for form in ("bits", "reduced"):
        own = [(vector, shift) for name, vector, shift in axes if name == form]
        if own:
            forms[form] = Projection(
                np.stack([vector.to_numpy().astype(np.float32) for vector, _ in own]),  # type: ignore[attr-defined]
                np.array([shift for _, shift in own], dtype=np.float64),
            )
    size, seed, explained = about
    return Transform(forms.get("bits"), forms.get("reduced"), int(str(size)), int(str(seed)), float(str(explained)))


def fill(conn: Connection, space: Space, transform: int, *, report: Callable[[str], None] | None = None) -> int:
    """Write the candidates that embeddings lack, in short transactions; return how many. In autocommit.

    Interrupted, it is called again. Writers go on: what they write meanwhile their triggers know, and stays.
    """
    fitted = load(conn, transform)
    table = pgsql.Identifier("lookalike", f"candidates_{transform}")
    embeddings = pgsql.Identifier("lookalike", space.table_name)
    columns = [name for name, one in (("bits", fitted.bits), ("reduced", fitted.reduced)) if one is not None]
    names = pgsql.SQL(", ").join(map(pgsql.Identifier, ["image_id", *columns]))
    total, after, written = rows(conn, space), 0, 0
    with translated():
        # The planner knows nothing of a table that is being filled, and would sort all embeddings for each part.
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
                    # Embeddings that were deleted since are left out; a row that is there already is newer.
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
    """Yield ids and embeddings, in one part, of a statement that selects both; by COPY, which is much faster."""
    with (
        conn.cursor() as cursor,
        cursor.copy(pgsql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(statement)) as copy,
    ):
        ids, vectors = unpack_rows(map(bytes, copy), dimensions)
    if len(ids):
        yield ids, vectors


def _packed(ids: NDArray[np.int64], vectors: Matrix, fitted: Transform) -> bytes:
    """Return rows (image_id, bits, reduced), of those that the transform has, in the format of COPY BINARY."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = [*ID]
    bits, reduced = fitted.packed(vectors), fitted.components(vectors)
    if bits is not None:
        fields += [("bits_size", ">i4"), ("bits_count", ">i4"), ("bits", "u1", (bits.shape[1],))]
    if reduced is not None:
        fields += [*HALFVEC, ("vector", ">f2", (reduced.shape[1],))]
    made = np.zeros(len(ids), np.dtype(fields))
    made["fields"], made["id_size"], made["id"] = 1 + (bits is not None) + (reduced is not None), 8, ids
    if bits is not None and fitted.bits is not None:
        made["bits_size"], made["bits_count"], made["bits"] = 4 + bits.shape[1], len(fitted.bits.axes), bits
    if reduced is not None:
        made["size"], made["dimensions"], made["vector"] = 4 + 2 * reduced.shape[1], reduced.shape[1], reduced
    return made.tobytes()
