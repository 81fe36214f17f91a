"""Does a space in use keep its promise? Measured where it serves, on stored images."""

import time
from dataclasses import dataclass

from psycopg.rows import scalar_row

from app.db import Connection, sql, translated
from app.errors import NotFoundError
from app.store.spaces import Space
from app.tuning import metrics


@dataclass(frozen=True, slots=True)
class Checked:
    """What stored images, searched by as `lookalike.similar` does, found: mean recall, p50 and p95 in milliseconds.

    `recall_floor` and `p95_ceiling_ms` are what that proves, with 95 % confidence.
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
    """Search the active space by stored images, drawn by seed, and compare with the exact way, each in one snapshot.

    In autocommit. Ends after `seconds`, with fewer queries. NotFoundError where nothing is embedded.
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
        # Timed apart: exact searches in between would have pushed the index out of the processor's caches. What was
        # searched for once is in the server's by now, as it is where people search all day.
        for image_id in ids[: len(recalls)]:
            began = time.perf_counter()
            cursor.execute(sql.query("check_search"), {"image_id": image_id, "k": k}, prepare=True).fetchall()
            milliseconds.append((time.perf_counter() - began) * 1000)
    if not recalls:
        raise NotFoundError(f"space {space.name} holds no embedding to search by")
    ordered = sorted(milliseconds)
    return Checked(
        queries=len(recalls),
        recall=sum(recalls) / len(recalls),
        recall_floor=metrics.recall_floor(recalls, k),
        p50_ms=ordered[len(ordered) // 2],
        p95_ms=ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)],
        p95_ceiling_ms=metrics.quantile_ceiling(milliseconds, 0.95),
    )
