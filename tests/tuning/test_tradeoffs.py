"""`lookalike tradeoffs` with queries from live searches and from files."""

import json
from pathlib import Path

import numpy as np
import pytest

from app import db
from app.index.build import build_index
from app.monitoring import recall
from app.search.request import Request
from app.search.run import run_search
from app.store import spaces
from app.tuning import results
from tests.support import gallery_data, running
from tests.support.cli import runner

ROWS = 150
CHOICES = ("--choice", "exact", "--choice", "hnsw(m=8,ef_construction=32,ef_search=40)")


@pytest.fixture
def url(database_url: str) -> str:
    """A gallery with an index."""
    with db.connect(database_url, autocommit=True) as conn:
        gallery_data.make_space(conn, 8)
        drawn = np.random.default_rng(5).normal(size=(ROWS, 8))
        vectors = gallery_data.as_stored(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
        gallery_data.fill(conn, vectors, [{} for _ in range(ROWS)])
        build_index(conn, spaces.active(conn))
    return database_url


def save_searches(conn: db.Connection, count: int) -> None:
    for n in range(1, count + 1):
        asked = Request(image_id=n)
        assert recall.save_sample(conn, asked, run_search(conn, asked), source="test")


def test_by_the_latest_live_searches(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lookalike = runner(monkeypatch, url)
    with db.connect(url, autocommit=True) as conn:
        save_searches(conn, 9)
        few = lookalike("tradeoffs", "--quick", "--logged", *CHOICES)
        assert few.exit_code == 1
        assert "only 9 live searches without a filter in space" in few.stderr
        assert "10 are needed" in few.stderr
        save_searches(conn, 5)
        made = lookalike(
            "tradeoffs", "--quick", "--logged", "--query-count", "12", *CHOICES, "--json", "--report", tmp_path
        )
        assert made.exit_code == 0, made.stderr
        assert "using 12 live searches; they are not stored" in made.stderr
        run = results.latest(conn, spaces.active(conn))
        assert run is not None
        assert (run.request.source, run.request.queries) == ("logged", 12)
        exact, graph, *_ = results.measurements(conn, run)
        assert exact.recall == 1.0
        # No image was held out as a query, but as many for the write test.
        assert exact.rows == ROWS - 12
        assert len(graph.query_ms) == 12
        assert json.loads(made.stdout)["run"]["id"] == run.id
        both = lookalike("tradeoffs", "--logged", "--queries", "a.png")
        assert "--queries and --logged: choose one" in both.stderr


def test_by_files_that_a_worker_embeds(live: running.Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lookalike = runner(monkeypatch, live.url)
    with db.connect(live.url, autocommit=True) as conn:
        rows = conn.execute("SELECT uri FROM lookalike.images ORDER BY id LIMIT 3").fetchall()
        files = [str(uri) for (uri,) in rows]
        arguments = [part for file in files for part in ("--queries", file)]
        made = lookalike("tradeoffs", "--quick", *arguments, *CHOICES, "--json", "--report", tmp_path)
        assert made.exit_code == 0, made.stderr
        run = results.latest(conn, spaces.active(conn))
        assert run is not None
        assert (run.request.source, list(run.request.files)) == ("file", files)
        exact = results.measurements(conn, run)[0]
        assert exact.query_recalls == [1.0, 1.0, 1.0]
        (tmp_path / "empty.png").touch()
        missing = lookalike("tradeoffs", "--quick", "--queries", tmp_path / "none.png", *CHOICES)
        assert missing.exit_code == 1
        assert f"cannot read {tmp_path}/none.png: No such file or directory" in missing.stderr
        assert "empty.png is empty" in lookalike("tradeoffs", "--queries", tmp_path / "empty.png").stderr
        last = results.latest(conn, spaces.active(conn))
        assert last is not None
        assert last.id == run.id  # no run was begun
