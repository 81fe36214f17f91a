"""Maintenance: evidence of churn, the decision, and index and dead rows after it, which are as in a fresh build."""

import json
import logging
import threading
import time
from dataclasses import replace

import pytest

from app import db
from app.config import Settings
from app.index import maintenance
from app.index.build import build_index
from app.index.maintenance import Churn
from app.index.spec import parse_spec
from app.index.switch import switch_index
from app.store.spaces import Space
from tests.support.cli import Command, runner
from tests.support.gallery_data import filled, states
from workers.housekeeping import Housekeeping

CHURN = Churn(
    space_id=1,
    space="s",
    dimensions=8,
    rows=10_000,
    dead=0,
    index="embeddings_1_hnsw",
    index_bytes=0,
    m=16,
    vacuumed_at=None,
)


@pytest.fixture
def churned(auto: db.Connection) -> Space:
    """Return an active space of 1,500 embeddings with an index, 600 of which were deleted after its build."""
    space = filled(auto, 1500)
    auto.execute("ALTER TABLE lookalike.embeddings_1 SET (autovacuum_enabled = off)")
    assert build_index(auto, space)
    auto.execute("DELETE FROM lookalike.images WHERE id <= 600")
    auto.execute("SELECT pg_stat_force_next_flush()")
    auto.execute("SELECT 1")
    return space


@pytest.mark.parametrize(
    ("dead", "size", "rebuild", "vacuum", "why"),
    [
        (500, 1.0, False, False, "500 of 10,500 rows dead (5%), index 1.00 times the size of a fresh one: autovacuum"),
        (2000, 1.0, True, True, "bound: dead from 10% on"),
        (500, 1.6, True, True, "bound: size from 1.5 on"),
        (2000, 1.6, True, True, "bound: dead from 10% on, size from 1.5 on"),
    ],
)
def test_the_evidence_decides(dead: int, size: float, rebuild: bool, vacuum: bool, why: str) -> None:
    found = replace(CHURN, dead=dead, index_bytes=int(size * CHURN.fresh_bytes))
    decision = maintenance.decide(found)
    assert (decision.rebuild, decision.vacuum) == (rebuild, vacuum)
    assert why in decision.why


def test_few_rows_and_a_space_without_an_index() -> None:
    assert not maintenance.decide(replace(CHURN, rows=10, dead=900)).vacuum
    bare = maintenance.decide(replace(CHURN, dead=5000, index=None))
    assert (bare.rebuild, bare.vacuum) == (False, True)


def test_low_recall_lowers_the_bounds_but_needs_some_evidence() -> None:
    low = replace(CHURN, recall=0.93, goal=0.99, below=True, index_bytes=CHURN.fresh_bytes)
    assert not maintenance.decide(low).rebuild, "a new index of the same rows would find no more"
    assert maintenance.decide(replace(low, dead=500)).rebuild
    bloated = maintenance.decide(replace(low, index_bytes=int(1.2 * CHURN.fresh_bytes)))
    assert bloated.rebuild
    assert "recall 0.930 of 0.99 asked for; bound: size from 1.1 on" in bloated.why
    assert not maintenance.decide(replace(low, dead=500, below=False)).rebuild


def test_index_first_then_vacuum_and_why(auto: db.Connection, churned: Space, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="app.index.maintenance")
    (found,) = maintenance.read_churn(auto)
    assert (found.rows, found.dead) == (900, 600)
    maintenance.maintain(auto, maintenance.decide(found))
    logged = [record.message for record in caplog.records if record.name == "app.index.maintenance"]
    assert ["dead (40%)" in logged[0], "index rebuilt" in logged[1], "vacuumed" in logged[2]] == [True] * 3
    auto.execute("SELECT pg_stat_force_next_flush()")
    (after,) = maintenance.read_churn(auto)
    assert (after.rows, after.dead) == (900, 0)
    assert after.index_bytes < found.index_bytes
    assert after.index_bytes == pytest.approx(after.fresh_bytes, rel=0.1)
    assert not maintenance.decide(after).vacuum
    assert states(auto) == {"embeddings_1_hnsw": True}


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("ivfflat(lists=20)", "embeddings_1_ivfflat"),
        ("pca(4)+rerank(20)", "candidates_1_hnsw"),
        ("bits(8,lists=20)+rerank(50)", "candidates_1_ivfflat"),
    ],
)
def test_the_serving_index_of_every_choice_is_judged(auto: db.Connection, text: str, index: str) -> None:
    space = filled(auto, 1500)
    switch_index(auto, space, parse_spec(text))
    auto.execute("SELECT pg_stat_force_next_flush()")
    auto.execute("SELECT 1")
    (fresh,) = maintenance.read_churn(auto)
    assert fresh.index == index
    assert fresh.index_bytes == pytest.approx(fresh.fresh_bytes, rel=0.3, abs=20 * 8192)
    assert not maintenance.decide(fresh).vacuum
    for table in {"embeddings_1", index.rpartition("_")[0]}:
        auto.execute(f"ALTER TABLE lookalike.{table} SET (autovacuum_enabled = off)")
    auto.execute("DELETE FROM lookalike.images WHERE id <= 600")
    auto.execute("SELECT pg_stat_force_next_flush()")
    auto.execute("SELECT 1")
    (found,) = maintenance.read_churn(auto)
    assert found.dead == 600
    decision = maintenance.decide(found)
    assert decision.rebuild
    maintenance.maintain(auto, decision)
    auto.execute("SELECT pg_stat_force_next_flush()")
    (after,) = maintenance.read_churn(auto)
    assert (after.rows, after.dead, after.index) == (900, 0, index)
    assert states(auto) == {index: True}


def test_the_command(monkeypatch: pytest.MonkeyPatch, database_url: str, auto: db.Connection, churned: Space) -> None:
    lookalike: Command = runner(monkeypatch, database_url)
    dry = lookalike("maintain", "--dry-run")
    assert "rebuild, vacuum" in dry.stdout
    assert maintenance.read_churn(auto)[0].dead == 600
    (decided,) = json.loads(lookalike("maintain", "--json").stdout)
    assert decided["decision"]["rebuild"] is True
    assert "nothing" in lookalike("maintain").stdout


def test_an_idle_worker_does_it(auto: db.Connection, database_url: str, churned: Space) -> None:
    woken = threading.Event()
    housekeeping = Housekeeping(
        database_url, [churned], settings=Settings(index_min_rows=500), wake=woken.set, maintain_seconds=0.05
    )

    def chore(*, idle: bool) -> None:
        """Run one chore to its end, if one is due."""
        time.sleep(0.1)
        woken.clear()
        housekeeping.step(auto, idle=idle)
        assert not housekeeping.busy or woken.wait(60)

    chore(idle=False)
    chore(idle=False)
    assert maintenance.read_churn(auto)[0].dead == 600, "a busy worker leaves it"
    chore(idle=True)
    auto.execute("SELECT pg_stat_force_next_flush()")
    (after,) = maintenance.read_churn(auto)
    assert (after.rows, after.dead, housekeeping.error) == (900, 0, None)
