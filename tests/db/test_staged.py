"""Index kind `staged` of release 0008: revision 0009 moves its spaces to bits, without a rebuild or a wrong answer."""

import json
import logging
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector

from app import db
from app.db import schema
from app.index import candidates, transforms
from app.index.spec import parse_spec
from app.index.switch import current_spec, switch_index
from app.store import spaces
from tests.support.gallery_data import CLUSTERED_DIMENSIONS, Vectors, clustered, distances, fill, half

COUNT = 800
BITS, DIMENSIONS = 48, 16


@pytest.fixture
def old(new_database: Callable[..., str]) -> Iterator[db.Connection]:
    """A connection to a database of release 0008 that holds a space, filled."""
    url = new_database()
    schema.upgrade(url, "0008")
    with db.connect(url, autocommit=True) as conn:
        conn.execute("SELECT lookalike.create_space('small', 'none', %s, '{}', 'f')", (CLUSTERED_DIMENSIONS,))
        fill(conn, clustered(COUNT))
        yield conn


def stage(conn: db.Connection, **options: int) -> int:
    """Give the active space a transform of both forms, its candidates, their index and the choice; return its id."""
    (transform,) = conn.execute(
        "INSERT INTO lookalike.transforms"
        " (space_id, bits, dimensions, fingerprint, sample_size, seed, explained_variance)"
        " VALUES (lookalike.active_space_id(), %s, %s, 'f', 800, 0, 1) RETURNING id",
        (BITS, DIMENSIONS),
    ).fetchone() or (0,)
    for form, fitted in (
        ("bits", transforms.fit_bits(clustered(COUNT), BITS, 0).projection),
        ("reduced", transforms.fit_components(clustered(COUNT), DIMENSIONS, 0).projection),
    ):
        for n, (axis, shift) in enumerate(zip(fitted.axes, fitted.shifts, strict=True)):
            conn.execute(
                "INSERT INTO lookalike.transform_axes VALUES (%s, %s, %s, %s, %s)",
                (transform, form, n, float(shift), HalfVector(axis)),
            )
    conn.execute("SELECT lookalike.create_candidates(%s::smallint)", (transform,))
    table = spaces.active(conn).table_name
    conn.execute(f"UPDATE lookalike.{table} SET embedding = embedding")  # the trigger writes the candidates
    conn.execute("UPDATE lookalike.transforms SET filled_at = now() WHERE id = %s", (transform,))
    conn.execute(
        f"CREATE INDEX candidates_{transform}_hnsw ON lookalike.candidates_{transform}"
        " USING hnsw (bits bit_hamming_ops) WITH (m = 8, ef_construction = 64)"
    )
    conn.execute("SELECT lookalike.choose_index('small', %s)", (json.dumps(choice(transform, **options)),))
    return int(str(transform))


def choice(transform: int, **options: int) -> dict[str, object]:
    built = {"kind": "staged", "m": 8, "ef_construction": 64, "bits": BITS, "dimensions": DIMENSIONS}
    return {**built, **options, "transform": transform, "recall_goal": 0.9}


def recall(conn: db.Connection) -> float:
    """Return the mean recall of ten neighbours; each answer is complete and in order."""
    vectors: Vectors = clustered(COUNT)
    recalls = []
    for query in clustered(16, seed=1):
        found = [row[0] for row in conn.execute("SELECT distance FROM lookalike.search(%s)", (half(query),))]
        assert found == sorted(found)
        assert len(found) == 10
        recalls.append(np.mean(np.array(found) <= np.sort(distances(vectors, query))[9] + 1e-3))
    return float(np.mean(recalls))


def plan(conn: db.Connection) -> dict[str, object]:
    row = conn.execute("SELECT lookalike.explain_search(%s)", (half(clustered(1, seed=1)[0]),)).fetchone()
    assert row is not None
    return dict(row[0])  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rerank_reduced": 300, "rerank": 90}, "bits(48,m=8,ef_construction=64)+rerank(300)"),
        ({"rerank": 90, "ef_search": 500}, "bits(48,m=8,ef_construction=64,ef_search=500)+rerank"),
        ({"rerank": 700}, "bits(48,m=8,ef_construction=64)+rerank(700)"),
    ],
)
def test_a_staged_space_is_searched_by_bits_at_once(
    old: db.Connection, caplog: pytest.LogCaptureFixture, options: dict[str, int], text: str
) -> None:
    transform = stage(old, **options)
    before = recall(old)
    assert plan(old)["reduced"] == DIMENSIONS
    schema.upgrade(old.info.dsn)
    warned = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert [f"searches of space small use {text} now" in one for one in warned] == [True]
    assert f"lookalike index choose small '{text}' --refit" in warned[0]
    assert current_spec(spaces.active(old)) == parse_spec(text)
    kept = {name: spaces.active(old).index_options[name] for name in ("transform", "recall_goal")}
    assert kept == {"transform": transform, "recall_goal": 0.9}
    assert recall(old) >= max(before, 0.97)
    now = plan(old)
    assert (now["strategy"], now["transform"], now["bits"]) == ("index", transform, BITS)
    assert not {"reduced", "rerank_reduced"} & set(now)


def test_writers_refits_and_the_way_back_work_on_a_moved_space(
    old: db.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    transform = stage(old, rerank_reduced=300, rerank=90)
    schema.upgrade(old.info.dsn)
    with pytest.raises(psycopg.Error, match="no longer supported"):  # as release 0008 would
        old.execute("SELECT lookalike.choose_index('small', %s)", (json.dumps(choice(transform)),))
    with old.transaction(force_rollback=True):
        (new,) = fill(old, clustered(1, seed=9))
        assert old.execute("SELECT id FROM lookalike.similar(%s, 10)", (int(new),)).fetchall()
        query = half(clustered(1, seed=9)[0])
        assert old.execute("SELECT id FROM lookalike.search(%s, 1)", (query,)).fetchone() == (int(new),)
    schema.downgrade(old.info.dsn, "0008")
    assert recall(old) >= 0.97
    assert (plan(old)["reduced"], plan(old)["rerank"]) == (DIMENSIONS, 300)
    caplog.clear()
    schema.upgrade(old.info.dsn)
    assert [one for one in caplog.records if one.levelno == logging.WARNING] == []
    spec = current_spec(spaces.active(old))
    state = switch_index(old, spaces.active(old), spec, refit=True).state
    assert candidates.ls(old, spaces.active(old)) == [state.transform]
    assert state.transform != transform
    assert recall(old) >= 0.97
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
    held = old.execute(columns, (f"lookalike.candidates_{state.transform}",)).fetchall()
    assert [name for (name,) in held] == ["image_id", "bits"]
