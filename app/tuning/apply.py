"""Index choices as the lab applies them: which share a build, how one is put in place."""

from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql as pgsql
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.index.build import Progress
from app.index.resources import Resources, estimate_build
from app.index.spec import IndexSpec
from app.index.switch import current_spec, remove_index, switch_index
from app.index.target import target
from app.store import spaces
from app.store.spaces import Space


@dataclass(frozen=True, slots=True)
class Built:
    """What a choice cost: seconds to fit, fill and index; bytes of index and of candidates; memory of the build."""

    seconds: float
    index_bytes: int
    candidates_bytes: int
    memory_bytes: int


def build_of(choice: IndexSpec) -> str:
    """Return what it is built as: choices that differ only in how they are searched share it."""
    bare = replace(choice, ef_search=None, probes=None, rerank=None)
    return str(bare).removesuffix("+rerank")


def current_text(space: Space) -> str:
    """Return how a space is searched now, as the text of its choice."""
    return str(current_spec(space))


def apply_spec(conn: Connection, space: Space, choice: IndexSpec, resources: Resources, *, seed: int) -> Built:
    """Make this the choice of a space in a scratch database, and tell what it cost; what was built before goes."""
    done = switch_index(conn, space, choice, resources=resources, seed=seed, report=lambda _: None)
    now = target(spaces.get(conn, space.name))
    memory = 0
    if choice.method is not None:
        memory = estimate_build(
            conn,
            space,
            m=choice.m,
            lists=now.choice.lists or 1,
            dimensions=now.halfvec_dimensions,
            resources=resources,
        ).graph
    return Built(
        done.fit_seconds + done.fill_seconds + done.build_seconds,
        done.state.index_bytes,
        done.state.candidates_bytes,
        memory,
    )


def clear(conn: Connection, space: Space) -> None:
    """Drop what was built, and what was written and deleted to see what a write costs."""
    remove_index(conn, space, report=lambda _: None)
    with translated():
        conn.execute(pgsql.SQL("VACUUM {}").format(pgsql.Identifier("lookalike", space.table_name)))


def set_search(conn: Connection, space: Space, choice: IndexSpec) -> None:
    """Search what is built as this choice says, from the next search on."""
    with translated():
        conn.execute(sql.query("lab_set_search"), {"space_id": space.id, "options": Jsonb(choice.options())})


def switch_and_promise(
    conn: Connection,
    space: Space,
    choice: IndexSpec,
    *,
    promise: dict[str, Any],
    progress: Progress | None = None,
    resources: Resources | None = None,
) -> None:
    """Build the choice beside what serves, and switch to it; the promise is kept with it. In autocommit."""
    switch_index(conn, space, choice, progress=progress, resources=resources)
    with translated():
        conn.execute(sql.query("note_promise"), {"space_id": space.id, "promise": Jsonb(promise)})
