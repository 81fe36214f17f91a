"""Apply index specs: build one in a scratch database, change how it is searched, or switch the real space to it."""

from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql as pgsql
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.index.kinds import SEARCH_OPTIONS
from app.index.resources import Resources, estimate_build
from app.index.running import Progress
from app.index.spec import IndexSpec
from app.index.switch import current_spec, remove_index, switch_index
from app.index.target import target
from app.store import spaces
from app.store.spaces import Space


@dataclass(frozen=True, slots=True)
class BuildCost:
    """The cost of a build: seconds to fit, fill and index; bytes of the index and of its candidates table; memory."""

    seconds: float
    index_bytes: int
    candidates_bytes: int
    memory_bytes: int


def build_of(spec: IndexSpec) -> str:
    """Return the build part of a spec as text; specs that differ only in search options share a build."""
    left_open: dict[str, Any] = dict.fromkeys(SEARCH_OPTIONS)
    bare = replace(spec, **left_open)
    return str(bare).removesuffix("+rerank")


def current_text(space: Space) -> str:
    """Return the index spec of a space in its text form."""
    return str(current_spec(space))


def apply_spec(conn: Connection, space: Space, spec: IndexSpec, resources: Resources, *, seed: int) -> BuildCost:
    """Build this spec for a space of a scratch database, in place of the previous one; return the cost."""
    done = switch_index(conn, space, spec, resources=resources, seed=seed, report=lambda _: None)
    now = target(spaces.get(conn, space.name))
    memory = 0
    if spec.method is not None:
        memory = estimate_build(conn, now, resources=resources).graph
    return BuildCost(
        done.fit_seconds + done.fill_seconds + done.build_seconds,
        done.state.index_bytes,
        done.state.candidates_bytes,
        memory,
    )


def clear(conn: Connection, space: Space) -> None:
    """Drop the index, and vacuum away the rows of the write test."""
    remove_index(conn, space, report=lambda _: None)
    with translated():
        conn.execute(pgsql.SQL("VACUUM {}").format(pgsql.Identifier("lookalike", space.table_name)))


def set_search(conn: Connection, space: Space, spec: IndexSpec) -> None:
    """Apply the search options of a spec to the index as built, from the next search on."""
    with translated():
        conn.execute(sql.query("set_index_options"), {"space_id": space.id, "options": Jsonb(spec.options())})


def switch_and_promise(
    conn: Connection,
    space: Space,
    spec: IndexSpec,
    *,
    promise: dict[str, Any],
    progress: Progress | None = None,
    resources: Resources | None = None,
) -> None:
    """Build the index beside the serving one, switch to it, and store the promise with it. In autocommit."""
    switch_index(conn, space, spec, progress=progress, resources=resources)
    with translated():
        conn.execute(sql.query("note_promise"), {"space_id": space.id, "promise": Jsonb(promise)})
