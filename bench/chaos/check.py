"""Checks what must hold when the queue is drained, by SQL and by embedding every image anew.

It is independent of the run, so that tests can apply it to a database that they damage on purpose.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql

from app import db
from app.config import Settings
from app.media import uploads
from app.store import spaces
from app.store.spaces import Space
from bench.chaos.journal import Violation
from bench.chaos.pictures import POISONS
from bench.chaos.reference import Reference

MIN_COSINE = 0.9999
_CUT_OFF = 0.02  # share of the vectors
_SHOWN = 5  # of one kind, in a message


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth with which the database is compared.

    `references`: by space name. `poisons`: the kind of each content that cannot be embedded, by sha256. `folder`: the
    files behind http uris. `present`, `absent`: ids whose insert or delete was acknowledged. `uploads`: the folder of
    the API's uploads.
    """

    references: Mapping[str, Reference]
    poisons: Mapping[bytes, str]
    folder: Path
    present: frozenset[int] = frozenset()
    absent: frozenset[int] = frozenset()
    uploads: Path | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    image_id: int
    uri: str
    sha256: bytes | None
    data: bytes | None  # None: there is no file

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.data or b"").digest()


def check(conn: db.Connection, truth: Truth) -> Iterator[Violation]:
    """Yield every violation; the queue must be drained, and nobody may write."""
    rows = list(_rows(conn, truth.folder))
    yield from _ledger(rows, truth)
    found = spaces.ls(conn)
    for space in found:
        yield from _jobs(conn, space)
        yield from _embeddings(conn, space, rows, truth)
        yield from _orphans(conn, space)
        yield from _indexes(conn, space)
    yield from _plain_indexes(conn, found)
    yield from _left_behind(conn)
    if truth.uploads is not None and truth.uploads.exists():
        yield from _uploads(rows, truth.uploads)


def local_path(uri: str, folder: Path) -> Path:
    """Return the file behind a uri of the run."""
    return folder / Path(urlsplit(uri).path).name if uri.startswith("http") else Path(uri)


def _rows(conn: db.Connection, folder: Path) -> Iterator[_Row]:
    for image_id, uri, sha256 in conn.execute("SELECT id, uri, sha256 FROM lookalike.images ORDER BY id"):
        path = local_path(str(uri), folder)
        data = path.read_bytes() if path.exists() else None
        yield _Row(int(str(image_id)), str(uri), sha256 if isinstance(sha256, bytes) else None, data)


def _ledger(rows: list[_Row], truth: Truth) -> Iterator[Violation]:
    ids = {row.image_id for row in rows}
    if lost := truth.present - ids:
        yield _violation("no committed image is lost", lost)
    if back := truth.absent & ids:
        yield _violation("no deleted image comes back", back)


def _jobs(conn: db.Connection, space: Space) -> Iterator[Violation]:
    left = conn.execute(
        "SELECT image_id, attempts, lease, available_at - clock_timestamp() FROM lookalike.jobs WHERE space_id = %s",
        (space.id,),
    ).fetchall()
    if left:
        yield _violation(f"no job is left ({space.name})", {str(row) for row in left})


def _embeddings(conn: db.Connection, space: Space, rows: list[_Row], truth: Truth) -> Iterator[Violation]:
    """Each image must have one embedding of its present bytes, or a failure with the right reason."""
    table = pgsql.Identifier("lookalike", space.table_name)
    stored = conn.execute(pgsql.SQL("SELECT image_id, embedding FROM {}").format(table)).fetchall()
    vectors = {int(str(image_id)): vector.to_numpy().astype(np.float64) for image_id, vector in stored}  # type: ignore[attr-defined]
    if len(vectors) != len(stored):
        yield Violation(f"one embedding an image ({space.name})", f"{len(stored) - len(vectors)} more than images")
    failures = {
        int(str(image_id)): (str(step), str(reason))
        for image_id, step, reason in conn.execute(
            "SELECT image_id, step, reason FROM lookalike.failures WHERE space_id = %s", (space.id,)
        )
    }
    reference = truth.references[space.name]
    wrong: dict[str, list[str]] = {}
    for row in rows:
        for rule, evidence in _judge(row, vectors.get(row.image_id), failures.get(row.image_id), reference, truth):
            wrong.setdefault(rule, []).append(f"image {row.image_id} ({row.uri}): {evidence}")
    for rule, evidence in wrong.items():
        yield _violation(f"{rule} ({space.name})", set(evidence))


def _judge(
    row: _Row,
    vector: NDArray[np.float64] | None,
    failure: tuple[str, str] | None,
    reference: Reference,
    truth: Truth,
) -> Iterator[tuple[str, str]]:
    kind = "missing" if row.data is None else truth.poisons.get(row.digest)
    if vector is not None and failure is not None:
        yield "an embedding or a failure, not both", f"failed with {failure[1]}"
    if kind is not None:
        step, word = POISONS[kind]
        if failure is None:
            yield "poison is recorded as a failure", f"{kind}, but there is none"
        elif failure[0] != step or not re.search(word, failure[1]):
            yield "a failure has its own reason", f"{kind}, but recorded as {failure[0]}: {failure[1]}"
        if vector is not None:
            yield "poison has no embedding", kind
        return
    if vector is None:
        reason = "no failure either" if failure is None else f"failed in {failure[0]}: {failure[1]}"
        yield "every image has its embedding", reason
        return
    expected = reference.vector(row.data or b"")
    cosine = float(vector @ expected / np.linalg.norm(vector))
    if not cosine >= MIN_COSINE:
        yield "an embedding is that of the present bytes", f"cosine {cosine:.6f} to the reference"
    if row.sha256 != row.digest:
        recorded = row.sha256.hex()[:12] if row.sha256 else None
        yield "sha256 is that of the present bytes", f"recorded {recorded}, is {row.digest.hex()[:12]}"


def _orphans(conn: db.Connection, space: Space) -> Iterator[Violation]:
    """No row may refer to a missing image; foreign keys ensure it if triggers and crash recovery work."""
    for table in (space.table_name, "jobs", "failures"):
        ids = conn.execute(
            pgsql.SQL(
                "SELECT t.image_id FROM {} t WHERE NOT EXISTS (SELECT FROM lookalike.images i WHERE i.id = t.image_id)"
            ).format(pgsql.Identifier("lookalike", table))
        ).fetchall()
        if ids:
            yield _violation(f"no row of {table} without its image", {str(row[0]) for row in ids})


def _indexes(conn: db.Connection, space: Space) -> Iterator[Violation]:
    """Each stored vector must be found through the ANN index by itself, except for the few that a graph may lose.

    HNSW does not guarantee that every node stays reachable: deletes and their repair cut some off, even without kills.
    If at most _CUT_OFF of the vectors are lost, their number is printed, and a rebuilt graph must find them all.
    """
    table = pgsql.Identifier("lookalike", space.table_name)
    rows, missed = _not_found(conn, table)
    if missed and len(missed) <= _CUT_OFF * rows:
        print(f"{space.name}: {len(missed)} of {rows} vectors are unreachable in the graph; rebuilding it")
        conn.execute(pgsql.SQL("REINDEX TABLE {}").format(table))
        rows, missed = _not_found(conn, table)
    if missed:
        yield _violation(f"every vector is found through the index ({space.name})", missed)


def _not_found(conn: db.Connection, table: pgsql.Identifier) -> tuple[int, set[str]]:
    by_index = pgsql.SQL(
        "SELECT t.image_id, (SELECT min(n.d) FROM (SELECT e.embedding <-> t.embedding AS d FROM {table} e"
        " ORDER BY e.embedding <-> t.embedding LIMIT 3) n) FROM {table} t"
    ).format(table=table)
    with _set(conn, {"enable_seqscan": "off", "enable_sort": "off", "hnsw.ef_search": "200"}):
        answers = conn.execute(by_index).fetchall()
    missed = {str(image_id) for image_id, distance in answers if distance is None or float(str(distance)) > 1e-3}
    return len(answers), missed


def _plain_indexes(conn: db.Connection, found: list[Space]) -> Iterator[Violation]:
    """Each B-tree must hold the same rows as its table."""
    for table, key in (
        ("images", "id"),
        ("images", "uri"),
        *((space.table_name, "image_id") for space in found),
    ):
        counts = []
        query = pgsql.SQL("SELECT count(*), sum(hashtextextended({key}::text, 0)) FROM {table} WHERE {key} >= {low}")
        low = pgsql.Literal("" if key == "uri" else -1)
        for ways in (("seqscan",), ("indexscan", "indexonlyscan", "bitmapscan")):
            with _set(conn, {f"enable_{way}": "off" for way in ways}):
                name = pgsql.Identifier("lookalike", table)
                counts.append(conn.execute(query.format(key=pgsql.Identifier(key), table=name, low=low)).fetchone())
        if counts[0] != counts[1]:
            yield Violation("index and table agree", f"{table}.{key}: {counts[0]} by index, {counts[1]} by the table")


@contextmanager
def _set(conn: db.Connection, values: Mapping[str, str]) -> Iterator[None]:
    """Apply settings within the block, inside or outside a transaction."""
    for name, value in values.items():
        conn.execute("SELECT set_config(%s, %s, false)", (name, value))
    yield
    for name in values:
        conn.execute(pgsql.SQL("RESET {}").format(pgsql.SQL(name)))


def _left_behind(conn: db.Connection) -> Iterator[Violation]:
    for rule, query in (
        (
            "every index is valid",
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'lookalike' AND NOT (i.indisvalid AND i.indisready)",
        ),
        ("no prepared transaction is left", "SELECT gid FROM pg_prepared_xacts"),
        (
            "no advisory lock is left",
            "SELECT a.application_name, l.classid, l.objid FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.pid <> pg_backend_pid()",
        ),
        (
            "no transaction is left open",
            "SELECT a.application_name, a.query FROM pg_stat_activity a WHERE a.datname = current_database()"
            " AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL",
        ),
    ):
        if left := conn.execute(query).fetchall():  # type: ignore[arg-type]
            yield _violation(rule, {str(row) for row in left})


def _uploads(rows: list[_Row], folder: Path) -> Iterator[Violation]:
    named = {row.uri for row in rows}
    # Nobody uploads any more. A new API process removes the half-written files of killed ones.
    uploads.sweep(uploads.open_storage(Settings(storage_url=str(folder))), older_than=0)
    stored = {str(path) for path in folder.rglob("*") if path.is_file()}
    if orphans := stored - named:
        yield _violation("no uploaded file without its image", orphans)


def _violation(rule: str, evidence: "set[str] | set[int] | frozenset[int]") -> Violation:
    shown = [str(one) for one in sorted(evidence, key=str)[:_SHOWN]]
    more = f" and {len(evidence) - _SHOWN} more" if len(evidence) > _SHOWN else ""
    return Violation(rule, "; ".join(shown) + more)
