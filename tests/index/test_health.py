"""What doctor reports about an index: dead rows, age, memory, and recall below its goal."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from typer.testing import CliRunner

from app import cli, db
from app.config import settings
from app.index import health, maintenance
from app.index.build import build_index
from app.index.drift import measure_drift
from app.index.health import Evidence, drift_cause, read_evidence
from app.index.spec import parse_spec
from app.index.switch import switch_index
from app.store import spaces
from tests.support.gallery_data import fill, make_space, unit

FINE = Evidence("s", 10_000, 100, 9_000, datetime.now(UTC), 2**20, 2**27, 2**30, 1)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, []),
        ({"dead": 2_000}, ["dead rows"]),
        ({"built_rows": 4_000}, ["index age"]),
        ({"built_rows": None, "built_at": None}, []),
        ({"index_bytes": 2**31}, ["memory"]),
        ({"rows": 500, "dead": 400, "built_rows": 10}, []),
        ({"index_bytes": 0, "dead": 2_000}, []),
    ],
)
def test_only_what_is_wrong_is_reported(change: dict[str, object], wrong: list[str]) -> None:
    found = list(health.causes(replace(FINE, **change)))  # type: ignore[arg-type]
    assert [one.name for one in found if not one.ok] == wrong
    assert all(one.remedy for one in found)


def test_doctor_names_low_recall_and_its_possible_cause(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with db.connect(database_url, autocommit=True) as conn:
        make_space(conn, 8)
        fill(conn, unit(1200, 8))
        build_index(conn, spaces.active(conn))
        fill(conn, unit(1300, 8, seed=1))
        conn.execute("SELECT pg_stat_force_next_flush()")
        conn.execute(
            "INSERT INTO lookalike.recall_checks (space_id, source, searched_at, k, asked, recall, plan, seconds)"
            " SELECT 1, 'api', now(), 10, 0.99, 0.8, 'index', 0.01 FROM generate_series(1, 100)"
        )
        evidence = read_evidence(conn)
    assert evidence is not None
    assert (evidence.rows, evidence.built_rows) == (2500, 1200)
    assert evidence.built_at is not None
    monkeypatch.setenv("LOOKALIKE_DATABASE_URL", database_url)
    settings.cache_clear()
    try:
        result = CliRunner().invoke(cli.app, ["doctor", "--only", "recall", "--only", "index age"])
    finally:
        settings.cache_clear()
    assert result.exit_code == 1
    assert "find 0.800 of their true neighbours" in result.stdout
    assert "52% of those there are now came after" in result.stdout


def test_rows_that_analyze_counted_before_their_session_did_count_once(database_url: str) -> None:
    with db.connect(database_url, autocommit=True) as conn:
        make_space(conn, 8)
        conn.execute("ALTER TABLE lookalike.embeddings_1 SET (autovacuum_enabled = off)")
        # A session reports its counts at most once a second. What is written right after a report is counted by ANALYZE
        # first, and again by the next report, unless the machine is slow.
        conn.execute("SELECT pg_stat_force_next_flush()")
        fill(conn, unit(1200, 8))
        conn.execute("SELECT pg_stat_force_next_flush()")
        evidence, (churn,) = read_evidence(conn), maintenance.read_churn(conn)
        assert evidence is not None
        assert (evidence.rows, evidence.dead) == (churn.rows, churn.dead) == (1200, 0)
        conn.execute("SELECT pg_stat_force_next_flush()")
        conn.execute("DELETE FROM lookalike.embeddings_1 WHERE image_id <= 500")
        with db.connect(database_url, autocommit=True) as other:
            other.execute("ANALYZE lookalike.embeddings_1")
        conn.execute("SELECT pg_stat_force_next_flush()")
        evidence, (churn,) = read_evidence(conn), maintenance.read_churn(conn)
        assert evidence is not None
        assert (evidence.rows, evidence.dead) == (churn.rows, churn.dead) == (700, 500)


def test_data_unlike_the_sample_is_reported(database_url: str) -> None:
    with db.connect(database_url, autocommit=True) as conn:
        assert measure_drift(conn) is None
        make_space(conn, 16)
        first = unit(600, 16)
        first[:, 8:] *= 0.05
        fill(conn, first / np.linalg.norm(first, axis=1, keepdims=True))
        switch_index(conn, spaces.active(conn), parse_spec("pca(8,m=4)+rerank(20)"))
        same = measure_drift(conn)
        others = unit(500, 16, seed=1)
        others[:, :8] *= 0.05
        others[:, 9] += 1
        fill(conn, others / np.linalg.norm(others, axis=1, keepdims=True))
        gone = measure_drift(conn)
    assert same is not None
    assert same.ok
    assert same.explained_now == pytest.approx(same.explained_then, abs=0.02)
    assert same.moved < 0.1
    assert gone is not None
    assert not gone.ok
    assert gone.explained_now < same.explained_now / 2
    result = drift_cause(gone)
    assert (result.ok, "--refit" in result.remedy) == (False, True)
