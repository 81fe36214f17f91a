"""Find and remove what changes leave behind: dead rows and a bloated index."""

import logging
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql as pgsql
from psycopg.rows import class_row

from app.db import Connection, sql, translated
from app.index.build import rebuild_index
from app.index.kinds import METHODS
from app.index.resources import Resources
from app.index.target import target
from app.store import spaces

log = logging.getLogger(__name__)

# A vacuum repairs the neighbours of every dead element: at this share it took twice as long as a new index.
DEAD_SHARE = 0.1
# A smaller table is not worth the effort.
LEAST_ROWS = 1000
# An index this many times larger than a fresh one is bloated.
BLOAT = 1.5
# If recall is below its goal, less is enough. Below these bounds a new index would not find more.
LOW_RECALL_DEAD_SHARE = 0.02
LOW_RECALL_BLOAT = 1.1


@dataclass(frozen=True, slots=True)
class Churn:
    """What changes have left in one space: rows from statistics, sizes in bytes, recall from checked searches.

    `index` is the one that serves, on halfvecs of `dimensions`, or of as many bytes. `below`: the recall of the last
    day's searches is significantly below its `goal`.
    """

    space_id: int
    space: str
    dimensions: int
    rows: int
    dead: int
    index: str | None
    index_bytes: int
    m: int
    vacuumed_at: datetime | None
    lists: int | None = None
    recall: float | None = None
    goal: float | None = None
    below: bool = False

    @property
    def dead_share(self) -> float:
        """The share of dead rows in the table."""
        return self.dead / max(self.dead + self.rows, 1)

    @property
    def fresh_bytes(self) -> int:
        """The size of a new index of these rows."""
        method = next(one for one in METHODS.values() if ("lists" in one.options) == bool(self.lists))
        return method.index_bytes(self.rows, self.dimensions, {"m": self.m, "lists": self.lists or 0})


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do in a space, in this order, and why."""

    space: str
    rebuild: bool
    vacuum: bool
    why: str


def read_churn(conn: Connection) -> list[Churn]:
    """Return the evidence of each space, the active space first."""
    with translated(), conn.cursor(row_factory=class_row(Churn)) as cursor:
        return cursor.execute(sql.query("churn")).fetchall()


def decide(churn: Churn) -> Decision:
    """Return what to do about the evidence.

    The index is rebuilt first, because VACUUM would repair a graph that is about to be replaced, and a new index has no
    dead rows.
    """
    ratio = churn.index_bytes / churn.fresh_bytes
    found = f"{churn.dead:,} of {churn.rows + churn.dead:,} rows dead ({churn.dead_share:.0%})"
    if churn.index:
        found += f", index {ratio:.2f} times the size of a fresh one"
    if churn.recall is not None and churn.goal is not None:
        found += f", recall {churn.recall:.3f} of {churn.goal:g} asked for"
    if churn.rows + churn.dead < LEAST_ROWS:
        return Decision(churn.space, rebuild=False, vacuum=False, why=f"{found}: too few rows to matter")
    dead_bound = LOW_RECALL_DEAD_SHARE if churn.below else DEAD_SHARE
    size_bound = LOW_RECALL_BLOAT if churn.below else BLOAT
    bloated = churn.index is not None and ratio >= size_bound
    dying = churn.dead_share >= dead_bound
    if not (bloated or dying):
        return Decision(churn.space, rebuild=False, vacuum=False, why=f"{found}: autovacuum will do")
    bounds = [f"dead from {dead_bound:.0%} on"] * dying + [f"size from {size_bound} on"] * bloated
    return Decision(
        churn.space, rebuild=churn.index is not None, vacuum=True, why=f"{found}; bound: {', '.join(bounds)}"
    )


def maintain(conn: Connection, decision: Decision, *, resources: Resources | None = None) -> None:
    """Do what was decided, and log why. In autocommit; searches and writes continue. Raises as `rebuild_index`."""
    if not decision.vacuum:
        return
    space = spaces.get(conn, decision.space)
    log.info("space %s: %s", space.name, decision.why)
    if decision.rebuild:
        done = rebuild_index(conn, space, resources=resources)
        log.info(
            "space %s: index rebuilt in %.1f s, %d bytes before, %d now",
            space.name,
            done.seconds,
            done.bytes_before,
            done.index.bytes,
        )
    with translated():
        for table in dict.fromkeys((space.table_name, target(space).table)):  # with that of its candidates
            conn.execute(pgsql.SQL("VACUUM (ANALYZE) {}").format(pgsql.Identifier("lookalike", table)))
    log.info("space %s: vacuumed", space.name)
