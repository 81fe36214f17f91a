"""Switch a space to another index choice while searches and writes continue, and show the present one.

The transform, its candidates and the index are built beside those that serve. One short transaction switches searches
over, then those that nothing uses are dropped. If interrupted, the old choice serves, and the next switch resumes or
cleans up.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.db.locking import retry_on_lock
from app.errors import ConflictError
from app.index import candidates
from app.index.build import build_if_missing, drop_index, list_indexes
from app.index.kinds import METHODS
from app.index.resources import Resources
from app.index.running import Progress, exclusive_build
from app.index.spec import IndexSpec
from app.index.target import Target, target
from app.store import spaces
from app.store.spaces import Space

log = logging.getLogger(__name__)

_OWN = {"transform", "search_depth", *(one.name for one in fields(IndexSpec))}

# Receives each step in words.
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class IndexState:
    """How a space is searched, and its cost: bytes of the index, and of the candidates' table without it."""

    space: str
    active: bool
    choice: str
    transform: int | None
    explained_variance: float | None
    sample_size: int | None
    fitted_at: datetime | None
    index: str | None
    index_bytes: int
    candidates_bytes: int


@dataclass(frozen=True, slots=True)
class Switched:
    """What `switch_index` did: seconds to fit, to fill candidates and to build the index, and the state after it."""

    state: IndexState
    fit_seconds: float
    fill_seconds: float
    build_seconds: float


def current_spec(space: Space) -> IndexSpec:
    """Return the index choice of a space."""
    return IndexSpec.of(space.index_options)


def index_state(conn: Connection, space: Space) -> IndexState:
    """Return how a space is searched now."""
    with translated(), conn.cursor(row_factory=class_row(IndexState)) as cursor:
        found = cursor.execute(
            sql.query("choice_state"), {"name": space.name, "choice": str(current_spec(spaces.get(conn, space.name)))}
        ).fetchone()
    if found is None:
        raise ConflictError(f"the embedding space {space.name} was dropped meanwhile")
    return found


def switch_index(
    conn: Connection,
    space: Space,
    choice: IndexSpec,
    *,
    report: Report | None = None,
    progress: Progress | None = None,
    resources: Resources | None = None,
    seed: int = 0,
    refit: bool = False,
    force: bool = False,
    patience: float = 60,
) -> Switched:
    """Give a space this index choice. Searches use the old one until the new one is complete.

    The connection is in autocommit and busy until the end. An existing transform of the same form is kept unless
    `refit`. The switch itself delays searches by fractions of a second.

    Raises:
        InvalidInputError: there are too few embeddings to fit a transform, or they have too few dimensions.
        BuildRunningError: another session builds the index of this space.
        ConflictError: a long transaction blocked the switch for `patience` seconds.
        ConfigurationError: disk or memory do not suffice.
    """
    report = report or log.info
    times = {"fit": 0.0, "fill": 0.0, "build": 0.0}
    with exclusive_build(conn, space):
        space = spaces.get(conn, space.name)
        choice = choice.for_rows(candidates.rows(conn, space))
        wanted = Target(space, choice)
        if choice.fitted:
            before = time.monotonic()
            transform = None if refit else candidates.ready(conn, space, choice)
            if transform is None:
                report(f"fitting {choice} on embeddings of {space.name}")
                transform = candidates.create(conn, space, choice, seed=seed)
            times["fit"] = time.monotonic() - before
            before = time.monotonic()
            candidates.fill(conn, space, transform, report=report)
            times["fill"] = time.monotonic() - before
            wanted = Target(space, choice, transform)
        if choice.method is not None:
            report(f"building {wanted.name}")
            before = time.monotonic()
            build_if_missing(conn, wanted, resources=resources, progress=progress, same=True, force=force)
            times["build"] = time.monotonic() - before
        # Keep what others store there. A raised search depth belongs to the choice before.
        kept = {name: value for name, value in space.index_options.items() if name not in _OWN}
        options = kept | choice.options() | ({} if wanted.transform is None else {"transform": wanted.transform})
        if options != space.index_options:
            report(f"switching {space.name} to {choice}")
            retry_on_lock(conn, "choose_index", space.name, Jsonb(options), patience=patience)
        _drop_unused(conn, spaces.get(conn, space.name), patience)
    done = index_state(conn, space)
    return Switched(done, times["fit"], times["fill"], times["build"])


def remove_index(conn: Connection, space: Space, *, report: Report | None = None, patience: float = 60) -> IndexState:
    """Drop the index of a space with its candidates; searches are exact from then on. Raises as `switch_index`."""
    return switch_index(conn, space, IndexSpec(kind="exact"), report=report, patience=patience).state


def _drop_unused(conn: Connection, space: Space, patience: float) -> None:
    """Drop indexes and transforms that the choice does not use."""
    now = target(space)
    for one in list_indexes(conn, space):
        ours = {f"{one.table_name}_{method}" for method in METHODS}
        if one.name in ours and one.table_name in (space.table_name, now.table) and one.name != now.name:
            drop_index(conn, one.name)
    for transform in candidates.ls(conn, space):
        if transform != now.transform:
            retry_on_lock(conn, "drop_transform", transform, patience=patience)
