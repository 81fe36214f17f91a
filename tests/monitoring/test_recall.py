"""Recall of live searches: saved by API and CLI, checked exactly on one snapshot, estimated, adjusted, deleted."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

from app import cli, db
from app.config import Settings, settings
from app.index.spec import parse_spec
from app.index.switch import switch_index
from app.monitoring import recall
from app.search.request import Request
from app.search.run import run_search
from app.store import spaces
from app.web import create_app
from tests.support.gallery_data import Vectors, distances, fill, half, make_space, unit
from workers.housekeeping import Housekeeping

COUNT, DIMENSIONS = 1500, 24
VECTORS = unit(COUNT, DIMENSIONS, seed=3)
QUERIES = unit(40, DIMENSIONS, seed=4)


@pytest.fixture(scope="module")
def poor(new_database: Callable[..., str], template: str) -> str:
    """The name of a database whose index has poor recall: ef_search 1 in a sparse graph."""
    url = new_database(template)
    with db.connect(url) as conn:
        make_space(conn, DIMENSIONS)
        fill(conn, VECTORS, [{"n": n, "rare": n % 200 == 0} for n in range(COUNT)])
        conn.execute(
            "CREATE INDEX ON lookalike.embeddings_1 USING hnsw (embedding halfvec_l2_ops)"
            " WITH (m = 4, ef_construction = 8)"
        )
        conn.execute("UPDATE lookalike.embedding_spaces SET index_options = index_options || '{\"ef_search\": 1}'")
    return str(conninfo_to_dict(url)["dbname"])


@pytest.fixture
def url(new_database: Callable[..., str], poor: str) -> str:
    return new_database(poor)


@pytest.fixture
def conn(url: str) -> Iterator[db.Connection]:
    with db.connect(url, autocommit=True) as connection:
        yield connection


def save(conn: db.Connection, queries: Vectors, *, k: int = 10, **options: object) -> None:
    for query in queries:
        asked = Request(query=query, k=k, **options)  # type: ignore[arg-type]
        assert recall.save_sample(conn, asked, run_search(conn, asked), source="api")


def test_recall_is_computed_from_distances(conn: db.Connection) -> None:
    recalls = []
    for query in QUERIES:
        found = conn.execute("SELECT id, distance FROM lookalike.search(%s, 10)", (half(query),)).fetchall()
        true = np.sort(distances(VECTORS, query))[:10]
        hits = sum(float(str(distance)) <= true[-1] + 1e-3 for _, distance in found)
        row = conn.execute("SELECT plan, expected, hits, passing FROM lookalike.check_recall(%s, 10)", (half(query),))
        assert row.fetchone() == ("index", 10, hits, None)
        recalls.append(hits / 10)
    assert 0.2 < statistics.fmean(recalls) < 0.95, "the index must be poor, but not useless"


def test_an_exact_plan_is_not_searched_twice(conn: db.Connection) -> None:
    row = conn.execute(
        "SELECT plan, expected, hits, exact_ms, passing FROM lookalike.check_recall(%s, 10, '{\"rare\": true}')",
        (half(QUERIES[0]),),
    ).fetchone()
    assert row == ("exact", 8, 8, None, pytest.approx(8 / COUNT))


def test_rows_deleted_since_the_search_do_not_count(conn: db.Connection) -> None:
    save(conn, QUERIES[:1])
    near = np.argsort(distances(VECTORS, QUERIES[0]))
    conn.execute("DELETE FROM lookalike.images WHERE id = ANY (%s)", ((near[:10] + 1).tolist(),))
    found = conn.execute("SELECT distance FROM lookalike.search(%s, 10)", (half(QUERIES[0]),)).fetchall()
    last = distances(VECTORS[near[10:20]], QUERIES[0])[-1]
    hits = sum(float(str(distance)) <= last + 1e-3 for (distance,) in found)
    assert recall.check(conn).checked == 1
    assert conn.execute("SELECT expected, recall FROM lookalike.recall_checks").fetchone() == (10, hits / 10)


def test_checks_are_summed_up_and_queries_deleted(conn: db.Connection) -> None:
    save(conn, QUERIES)
    save(conn, QUERIES[:5], filter={"rare": True})
    assert recall.waiting(conn) == 45
    done = recall.check(conn)
    assert (done.checked, done.failed) == (45, 0)
    assert recall.waiting(conn) == 0, "no query vector is left"

    values = [float(str(row[0])) for row in conn.execute("SELECT recall FROM lookalike.recall_checks")]
    found = recall.read(conn)
    whole = recall.current_estimate(found.estimates, "small")
    assert whole is not None
    assert whole.low is not None
    assert whole.high is not None
    assert whole.searches == 45
    assert whole.recall == pytest.approx(statistics.fmean(values))
    error = 1.96 * statistics.pstdev(values) / 45**0.5
    assert whole.high - whole.low == pytest.approx(2 * error, rel=0.1), "the two pseudo-observations hardly widen it"
    assert whole.goal == pytest.approx(0.99)
    assert whole.below
    parts = {(one.plan, one.selectivity): one for one in found.estimates if one.period_seconds == 3600}
    assert parts["index", "no filter"].searches == 40
    assert (parts["exact", "0.1 to 1 %"].recall, parts["exact", None].searches) == (1.0, 5)
    assert [point.searches for point in found.hours] == [45]
    assert "asked" not in (recall.warning(conn) or "")
    assert "find 0." in (recall.warning(conn) or "")


def test_few_perfect_answers_prove_little(conn: db.Connection) -> None:
    def margin(count: int) -> float:
        row = conn.execute("SELECT lookalike.recall_margin(%s, 1, %s)", (count, count)).fetchone()
        assert row is not None
        return float(str(row[0]))

    assert margin(10) > 0.1
    assert margin(1000) < 0.002
    assert margin(0) == 1


def test_searches_get_deeper_within_bounds_and_changes_are_recorded(conn: db.Connection) -> None:
    space = spaces.active(conn)
    assert recall.adjust(conn, space, most=4) is None, "there is no estimate yet"
    for depth in (1.5, 2.0):
        for _ in range(3):
            save(conn, QUERIES)
        recall.check(conn)
        done = recall.adjust(conn, space, most=2)
        assert done is not None
        assert done.to_depth == depth
        assert "below 0.99" in done.reason
        assert recall.adjust(conn, space, most=2) is None, "neither twice by the same checks nor beyond the bound"
    depths = [one.to_depth for one in recall.adjustments(conn)]
    assert depths == [2.0, 1.5]


def test_a_deeper_search_goes_deeper_by_every_kind_of_index(conn: db.Connection) -> None:
    def plan() -> dict[str, int]:
        row = conn.execute("SELECT lookalike.explain_search(%s)", (half(QUERIES[0]),)).fetchone()
        assert row is not None
        return dict(row[0])  # type: ignore[call-overload, no-any-return]

    space = spaces.active(conn)
    conn.execute("UPDATE lookalike.embedding_spaces SET index_options = index_options || '{\"ef_search\": 30}'")
    recall.set_depth(conn, space, 2)
    assert plan()["ef_search"] == 60
    conn.execute("UPDATE lookalike.embedding_spaces SET index_options = index_options || '{\"recall_goal\": 0.9}'")
    switch_index(conn, space, parse_spec("bits(16,m=4)+rerank(20)"))
    options = spaces.active(conn).index_options
    assert (options["recall_goal"], "search_depth" in options) == (0.9, False), "the depth belongs to the index"
    assert plan()["rerank"] == 20
    recall.set_depth(conn, space, 1.5)
    assert plan()["rerank"] == 30
    switch_index(conn, space, parse_spec("ivfflat(lists=20,probes=3)"))
    recall.set_depth(conn, space, 10)
    assert plan()["probes"] == 20, "the number of lists is the maximum"
    recall.set_depth(conn, space, 1)
    assert plan()["probes"] == 3


def test_a_check_that_takes_too_long_or_raises_fails(url: str, conn: db.Connection) -> None:
    save(conn, QUERIES[:1], filter={"n": {"$gte": 0}})
    conn.execute('SELECT lookalike.sample_search(%s, filter => \'{"n": {"$near": 1}}\')', (half(QUERIES[0]),))
    with db.connect(url) as other:
        other.execute("LOCK TABLE lookalike.images IN ACCESS EXCLUSIVE MODE")
        done = recall.check(conn, timeout=0.2)
    assert (done.checked, done.failed) == (2, 1)
    reasons = [str(row[0]) for row in conn.execute("SELECT reason FROM lookalike.recall_checks ORDER BY id")]
    assert reasons[0] == "an exact search took longer than 0.2 s"
    assert "$near" in reasons[1]
    (whole,) = {one.unchecked for one in recall.estimates(conn) if one.plan is None and one.selectivity is None}
    assert whole == 2


def test_searches_that_are_not_saved(conn: db.Connection) -> None:
    def sample(statement: str, **values: object) -> object:
        row = conn.execute(
            f"SELECT lookalike.sample_search(%(query)s {statement})", {"query": half(QUERIES[0]), **values}
        )
        return row.fetchone()

    assert sample("") == (True,)
    assert sample(", share => 0") == (False,)
    assert sample(", space => 'another'") == (False,)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="share is 2"):
        sample(", share => 2")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="dimensions"):
        conn.execute("SELECT lookalike.sample_search('[1,2,3]')")
    with conn.transaction():
        conn.execute("SET TRANSACTION READ ONLY")
        assert sample("") == (False,)
    conn.execute(
        "INSERT INTO lookalike.search_samples (space_id, source, query, k, exclude, recall, strategy, proven)"
        " SELECT s.space_id, 'x', s.query, 1, '{}', 1, 'auto', true"
        " FROM lookalike.search_samples s, generate_series(1, 999)"
    )
    assert sample("") == (False,), "a thousand wait"
    assert not recall.should_sample(Request(query=QUERIES[0], recall=1), share=1)
    assert not recall.should_sample(Request(query=QUERIES[0], strategy="exact"), share=1)
    assert not recall.should_sample(Request(mode="text", value="words"), share=1)
    assert not recall.should_sample(Request(query=QUERIES[0]), share=0)
    assert recall.should_sample(Request(image_id=1), share=1)


def test_old_samples_and_checks_are_deleted(conn: db.Connection) -> None:
    save(conn, QUERIES[:2])
    recall.check(conn)
    save(conn, QUERIES[:2])
    conn.execute("UPDATE lookalike.search_samples SET searched_at = now() - interval '8 days' WHERE id % 2 = 0")
    conn.execute("UPDATE lookalike.recall_checks SET checked_at = now() - interval '91 days' WHERE id % 2 = 0")
    assert recall.forget(conn, days=7) == 2
    assert recall.waiting(conn) == 1


def test_the_api_saves_searches_after_it_has_answered_them(url: str, conn: db.Connection, tmp_path: Path) -> None:
    client = create_app(Settings(home=tmp_path, recall_sample=1), url).test_client()
    client.post("/v1/search", buffered=True, json={"image_id": 7, "k": 3, "exclude": [9]})
    client.post("/v1/search", buffered=True, json={"vector": QUERIES[0].tolist(), "filter": {"rare": True}})
    client.post("/v1/search", buffered=True, json={"like": [1, 2], "k": 4})
    client.post("/v1/search", buffered=True, json={"vector": QUERIES[0].tolist(), "max_distance": 0.5})
    client.post("/v1/search", buffered=True, json={"vector": QUERIES[0].tolist(), "recall": 1})
    client.post("/v1/search", buffered=True, json={"vector": QUERIES[0].tolist(), "group_by": "n"})
    kept = conn.execute(
        "SELECT k, filter, max_distance, exclude, proven FROM lookalike.search_samples ORDER BY id"
    ).fetchall()
    assert kept == [
        (3, None, None, [9, 7], False),
        (10, {"rare": True}, None, [], False),
        (4, None, None, [1, 2], False),
        (10, None, 0.5, [], True),
    ]
    recall.check(conn)
    found = client.get("/v1/recall?hours=1").get_json()
    assert found["waiting"] == 0
    assert {one["selectivity"] for one in found["estimates"]} == {None, "no filter", "0.1 to 1 %"}
    assert client.get("/v1/recall?hours=0").status_code == 422
    assert client.get("/v1/status").get_json()["recall"][0]["searches"] == 3, "nothing lay within 0.5"


def test_an_idle_worker_checks_within_its_budget_and_stops_when_work_comes(url: str, conn: db.Connection) -> None:
    save(conn, QUERIES[:3])
    save(conn, QUERIES[:1], filter={"n": {"$gte": 0}})
    space = spaces.active(conn)
    woken = threading.Event()
    chores = Housekeeping(url, [space], settings=Settings(recall_budget=0.5, index_min_rows=10**6), wake=woken.set)

    def step(*, idle: bool) -> None:
        chores.step(conn, idle=idle)

    def until(reached: Callable[[], bool], *, idle: bool) -> None:
        end = time.monotonic() + 60  # on a busy machine, a round of one second is one check
        while not reached():
            assert time.monotonic() < end
            step(idle=idle)
            time.sleep(0.01)

    step(idle=False)
    until(lambda: not chores.busy, idle=False)
    assert recall.waiting(conn) == 4, "not while there is work"
    with db.connect(url) as other:
        other.execute("LOCK TABLE lookalike.images IN ACCESS EXCLUSIVE MODE")
        until(lambda: recall.waiting(conn) == 1, idle=True)
        assert chores.busy, "the last one waits for the lock"
        until(lambda: not chores.busy, idle=False)
    assert chores.error is None
    assert recall.waiting(conn) == 1, "an interrupted check keeps its search"
    conn.execute(
        "INSERT INTO lookalike.recall_checks (space_id, source, searched_at, k, asked, seconds)"
        " VALUES (%s, 'x', now(), 1, 1, 1000)",
        (space.id,),
    )
    assert recall.allowance(conn, budget=0.5) < 0


def test_a_worker_survives_a_schema_without_checks(
    url: str, conn: db.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    chores = Housekeeping(url, [spaces.active(conn)], settings=Settings(index_min_rows=10**6), wake=lambda: None)
    conn.execute("ALTER FUNCTION lookalike.samples_waiting() RENAME TO of_another_revision")
    end = time.monotonic() + 60
    while "recall cannot be checked and is tried again in 300 s" not in caplog.text:
        assert time.monotonic() < end
        chores.step(conn, idle=True)
        time.sleep(0.01)
    chores.step(conn, idle=True)  # and not before
    assert caplog.text.count("recall cannot be checked") == 1


def test_the_command_line_saves_shows_checks_and_adjusts(
    url: str, conn: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_DATABASE_URL", url)
    monkeypatch.setenv("LOOKALIKE_RECALL_SAMPLE", "1")
    settings.cache_clear()
    try:
        run = CliRunner()
        assert run.invoke(cli.app, ["search", "5"]).exit_code == 0
        save(conn, QUERIES)
        checked = run.invoke(cli.app, ["recall", "check"])
        assert "searches checked: 41" in checked.stdout
        shown = run.invoke(cli.app, ["recall"]).stdout
        assert "below its goal" in shown
        assert "small  last 60 min" in " ".join(shown.split(" ")) or "last 60 min" in shown
        assert "live searches in space small find" in run.invoke(cli.app, ["status"]).output
        assert "2.00 times as deep" in run.invoke(cli.app, ["recall", "adjust", "2"]).stdout
        assert '"to_depth": 2.0' in run.invoke(cli.app, ["recall", "--json"]).stdout
        assert run.invoke(cli.app, ["recall", "adjust", "0"]).exit_code == 2
    finally:
        settings.cache_clear()
