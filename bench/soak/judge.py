"""Judges a run: each search for errors, missing rows and mixed spaces; the invariants at the end."""

from collections import Counter
from typing import Any

import numpy as np

from app import db
from app.search import functions
from app.store import spaces
from bench.soak.clients import Search
from bench.soak.pool import Pool

# halfvec rounds each component by 2^-11 of its value, which moves the distance of two unit vectors by less than this.
TOLERANCE = 5e-3
_COSINE = 0.9995
_RECALL_SAMPLE = 100
_EPSILON = 1e-3


def spaces_of(one: Search, pool: Pool) -> list[int]:
    """Return the models in which all distances of an answer are right; none if it is mixed or wrong."""
    numbers = [number for number, _ in one.found]
    found = np.array([distance for _, distance in one.found])
    fitting = []
    for n, model in enumerate(pool.models):
        true = np.linalg.norm(model.embeddings[numbers] - model.embeddings[one.query], axis=1)
        if (np.abs(true - found) <= TOLERANCE).all():
            fitting.append(n)
    return fitting


def faults(one: Search, pool: Pool, models: dict[str, int]) -> list[str]:
    """Return the faults of an answer: "error", "short", "mixed", "unordered"."""
    if one.error:
        return ["error"]
    found = []
    if len(one.found) < one.least:
        found.append("short")
    fitting = spaces_of(one, pool)
    if not fitting or (one.space and models[one.space] not in fitting):
        found.append("mixed")
    if any(a > b for (_, a), (_, b) in zip(one.found, one.found[1:], strict=False)):
        found.append("unordered")
    return found


def apart(searches: list[Search], pool: Pool) -> float:
    """Return how far the other model's distances are at least from the answers': the judge's margin."""
    least = np.inf
    for one in searches[:: max(1, len(searches) // 2000)]:
        if one.found:
            numbers = [number for number, _ in one.found]
            a, b = (
                np.linalg.norm(model.embeddings[numbers] - model.embeddings[one.query], axis=1) for model in pool.models
            )
            least = min(least, float(np.abs(a - b).max()))
    return float(least)


def invariants(conn: db.Connection, pool: Pool, held: dict[int, int], models: dict[str, int]) -> list[str]:
    """Return the invariants that are broken at the end, with empty queues."""
    broken: list[str] = []
    there: dict[int, str] = dict(conn.execute("SELECT id, uri FROM lookalike.images").fetchall())  # type: ignore[arg-type]
    wanted = {image_id: str(pool.files[number]) for image_id, number in held.items()}
    if there != wanted:
        broken.append(f"images: {len(there)} found, {len(wanted)} expected; {len(set(there) ^ set(wanted))} differ")
    for space in spaces.ls(conn):
        broken += [f"space {space.name}: {one}" for one in _of_space(conn, space, pool, held, models[space.name])]
    for what, statement in (
        ("jobs", "SELECT count(*) FROM lookalike.jobs"),
        ("failures", "SELECT count(*) FROM lookalike.failures"),
        ("images missing from a space", "SELECT count(*) FROM lookalike.space_gaps"),
        ("invalid indexes", "SELECT count(*) FROM pg_index WHERE NOT indisvalid"),
        (
            "tables of no space",
            "SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'lookalike'::regnamespace AND c.relkind = 'r'"
            " AND c.relname ~ '^embeddings_' AND c.relname NOT IN (SELECT table_name FROM lookalike.embedding_spaces)",
        ),
    ):
        row: Any = conn.execute(statement).fetchone()
        if row[0]:
            broken.append(f"{row[0]} {what}")
    return broken


def _of_space(conn: db.Connection, space: Any, pool: Pool, held: dict[int, int], model: int) -> list[str]:  # noqa: ANN401
    broken = []
    rows: list[Any] = conn.execute(f"SELECT image_id, embedding FROM lookalike.{space.table_name}").fetchall()  # noqa: S608
    if {row[0] for row in rows} != set(held):
        broken.append(f"{len(rows)} embeddings of {len(held)} images")
    expected = [row for row in rows if row[0] in held]
    stored = np.stack([row[1].to_numpy().astype(np.float32) for row in expected])
    true = pool.models[model].embeddings[[held[row[0]] for row in expected]]
    cosines = (stored * true).sum(axis=1) / np.linalg.norm(stored, axis=1)
    if wrong := int((cosines < _COSINE).sum()):
        broken.append(f"{wrong} wrong embeddings (the worst has cosine {cosines.min():.4f} to the right one)")
    valid = conn.execute("SELECT count(*) FROM lookalike.ann_indexes WHERE space_id = %s AND valid", (space.id,))
    if valid.fetchone() != (1,):
        broken.append("not one valid index")
    return broken


def recall(conn: db.Connection, queries: list[int]) -> float:
    """Return recall@10 of the active space over these images, tie-aware, against the exact search."""
    hits = []
    for image_id in queries[:_RECALL_SAMPLE]:
        exact = functions.similar(conn, image_id, k=10, recall=1).hits
        bound = exact[-1].distance + _EPSILON
        found = functions.similar(conn, image_id, k=10).hits
        hits.append(sum(one.distance <= bound for one in found) / len(exact))
    return float(np.mean(hits))


def count(searches: list[Search], pool: Pool, models: dict[str, int]) -> tuple[Counter[str], list[str]]:
    """Return the number of each fault, and descriptions of up to twenty."""
    total: Counter[str] = Counter({"error": 0, "short": 0, "mixed": 0, "unordered": 0})
    examples = []
    for one in searches:
        for fault in faults(one, pool, models):
            total[fault] += 1
            if len(examples) < 20:
                examples.append(
                    f"{fault}: {one.kind} of picture {one.query} in {one.space or 'a space'}: {one.error or one.found}"
                )
    return total, examples
