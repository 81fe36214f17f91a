"""Check on the serving database, with stored images, whether a space keeps its promise."""

import time
from dataclasses import dataclass

from psycopg.rows import scalar_row

from app.db import Connection, sql, translated
from app.errors import NotFoundError
from app.store.spaces import Space
from app.tuning import metrics


@dataclass(frozen=True, slots=True)
class Checked:
    """Mean recall, and p50 and p95 in milliseconds, of searches by stored images as in `lookalike.similar`.

    `recall_floor` and `p95_ceiling_ms` are their bounds with 95 % confidence.
    """

    queries: int
    recall: float
    recall_floor: float
    p50_ms: float
    p95_ms: float
    p95_ceiling_ms: float


def check_promise(
    conn: Connection, space: Space, *, k: int, queries: int = 100, seed: int = 1, seconds: float = 60
) -> Checked:
    """Search the active space by stored images, and compare each answer with exact search on one snapshot.

    The seed decides which images. In autocommit. If `seconds` pass, it stops with fewer queries.

    Raises:
        NotFoundError: the space has no embeddings.
    """
    end = time.monotonic() + seconds
    recalls: list[float] = []
    milliseconds: list[float] = []
    values = {"space_id": space.id, "most": queries, "seed": seed}
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        ids = cursor.execute(sql.query("check_queries"), values).fetchall()
        for n, image_id in enumerate(ids):
            asked = {"image_id": image_id, "k": k}
            found = cursor.execute(sql.query("check_search"), asked, prepare=True).fetchall()
            recall = cursor.execute(
                sql.query("check_recall"), {**asked, "found": found, "epsilon": metrics.EPSILON}
            ).fetchone()
            recalls.append(1.0 if recall is None else float(str(recall)))
            if time.monotonic() > end and n >= 10:
                break
        # Timed apart, because exact searches in between would push the index out of the processor's caches. The first
        # pass has warmed the server's cache, as constant searches would.
        for image_id in ids[: len(recalls)]:
            began = time.perf_counter()
            cursor.execute(sql.query("check_search"), {"image_id": image_id, "k": k}, prepare=True).fetchall()
            milliseconds.append((time.perf_counter() - began) * 1000)
    if not recalls:
        raise NotFoundError(f"space {space.name} has no embedding to search by; start a worker: lookalike worker")
    ordered = sorted(milliseconds)
    return Checked(
        queries=len(recalls),
        recall=sum(recalls) / len(recalls),
        recall_floor=metrics.recall_floor(recalls, k),
        p50_ms=ordered[len(ordered) // 2],
        p95_ms=ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)],
        p95_ceiling_ms=metrics.quantile_ceiling(milliseconds, 0.95),
    )
