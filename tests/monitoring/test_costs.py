"""Costs: workers' seconds add up, bytes equal those of the catalog, prices follow by arithmetic."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import cli, db
from app.config import Settings, settings
from app.errors import InvalidInputError
from app.media.uploads import open_storage
from app.monitoring import costs
from app.monitoring.costs import Prices
from app.store.spaces import Space
from tests.support.gallery_data import fill, index, make_space, unit
from workers.costs import costs as costs_by_space
from workers.heartbeat import Heartbeat, Progress
from workers.stage_timings import Timings


@pytest.fixture
def url(database_url: str) -> str:
    with db.connect(database_url) as conn:
        make_space(conn, 32)
        fill(conn, unit(400, 32))
        index(conn)
    return database_url


def beat(url: str, space_id: int, device: str, *, images: int, busy: float) -> None:
    """Write what a worker records in one heartbeat."""
    timings, progress = Timings(), Progress(busy_seconds=busy)
    timings.note("searchable", space_id, [5.0] * images)
    timings.note("reused", space_id, [5.0])
    timings.add("decode", 0.01 * images, space_id)
    timings.add("encode", 0.03 * images, space_id)
    space = Space(space_id, "small", "", None, {}, "", 32, {}, "", True, None)  # type: ignore[arg-type]
    heart = Heartbeat(url, [space], device=device, progress=progress, timings=timings)
    heart.start()
    heart.stop()


def test_seconds_of_workers_add_up_by_device(url: str) -> None:
    beat(url, 1, "cpu", images=10, busy=0.5)
    beat(url, 1, "cpu", images=30, busy=1.5)
    beat(url, 1, "cuda:0", images=40, busy=0.1)
    with db.connect(url, autocommit=True) as conn:
        cpu, gpu = costs.worker_costs(conn)
        assert (cpu.device, cpu.images, cpu.reused, cpu.seconds) == ("cpu", 40, 2, pytest.approx(2))
        assert (cpu.seconds_each, cpu.decode_each, cpu.encode_each) == (
            pytest.approx(0.05),
            pytest.approx(0.01),
            pytest.approx(0.03),
        )
        assert cpu.fetch_each is None
        assert gpu.per_second == pytest.approx(400)
        assert costs.worker_costs(conn, days=0) == [cpu, gpu], "today"
        conn.execute("UPDATE lookalike.worker_costs SET day = day - 40 WHERE device = 'cpu'")
        assert costs.worker_costs(conn, days=30) == [gpu]


def test_busy_time_is_divided_by_encoding_time() -> None:
    timings = Timings()
    timings.add("encode", 3, 1)
    timings.add("encode", 1, 2)
    timings.add("fetch", 100, 2)
    found = {(one.space_id, one.measure): one.seconds for one in costs_by_space(timings.take_counts(), busy=8)}
    assert (found[1, "busy"], found[2, "busy"]) == (6, 2)
    timings.note("reused", 2, [9.0])
    (reused, busy) = costs_by_space(timings.take_counts(), busy=1)
    assert (reused.measure, reused.count, reused.seconds) == ("reused", 1, 0), "an image's age costs nothing"
    assert (busy.space_id, busy.seconds) == (2, 1)
    assert costs_by_space([], busy=1) == []


def test_bytes_equal_those_of_the_catalog_and_prices_follow(url: str, tmp_path: Path) -> None:
    beat(url, 1, "cpu", images=10, busy=3.6)
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (uploads / "a").write_bytes(bytes(4000))
    with db.connect(url, autocommit=True) as conn:
        prices = Prices(hour=2.5, gb_month=0.1, server_hour=0.8, server_cores=4)
        sizes = (
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relnamespace = 'lookalike'::regnamespace AND relkind = 'r'"
        )
        whole, before = conn.execute(sizes).fetchone(), None
        while before != whole:  # autovacuum may add maps to tables in between
            before = whole
            found = costs.read(conn, prices=prices, storage=open_storage(Settings(storage_url=str(uploads))))
            whole = conn.execute(sizes).fetchone()
        hnsw = conn.execute("SELECT pg_table_size('lookalike.embeddings_1_embedding_idx')").fetchone()
    assert whole == (sum(one.bytes for one in found.storage),)
    (part,) = [one for one in found.storage if one.kind == "index, hnsw"]
    assert hnsw == (part.bytes,)
    assert part.bytes_per_image == pytest.approx(part.bytes / 400)
    assert found.files == 4000
    total = (sum(one.bytes for one in found.storage) + 4000) / 400
    assert found.bytes_per_image == pytest.approx(total)
    assert found.price is not None
    assert found.price.embedding[0].million_images == pytest.approx(0.36 * 1e6 / 3600 * 2.5)
    assert found.price.million_images_month == pytest.approx(total * 1e6 / 1e9 * 0.1)
    assert found.search.seconds is not None
    assert 0 < found.search.seconds < 1
    assert not found.search.live
    assert found.price.million_queries == pytest.approx(found.search.seconds * 1e6 / 3600 * 0.2)


def test_the_cost_of_a_search_comes_from_checked_searches(url: str) -> None:
    with db.connect(url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO lookalike.recall_checks (space_id, source, searched_at, k, asked, search_seconds, seconds)"
            " VALUES (1, 'api', now(), 10, 0.99, 0.002, 1), (1, 'api', now(), 10, 0.99, 0.004, 1)"
        )
        found = costs.read(conn).search
    assert (found.searches, found.seconds, found.live) == (2, pytest.approx(0.003), True)


def test_no_space_no_worker_no_price(conn: db.Connection) -> None:
    found = costs.read(conn)
    assert (found.workers, found.bytes_per_image, found.search.seconds, found.price) == ([], None, None, None)
    with pytest.raises(InvalidInputError, match="hour nan is not a valid price"):
        Prices(hour=float("nan"), gb_month=1)


def test_the_command_line_prints_costs_and_prices(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    beat(url, 1, "cpu", images=10, busy=1)
    monkeypatch.setenv("LOOKALIKE_DATABASE_URL", url)
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    settings.cache_clear()
    try:
        run = CliRunner()
        plain = run.invoke(cli.app, ["costs"]).stdout
        assert "bytes per image" in plain
        assert "price" not in plain
        priced = run.invoke(cli.app, ["costs", "--hour", "2.5", "--gb-month", "0.1", "--files"]).stdout
        assert "a million images embedded in small" in priced
        assert "69.44" in priced, "0.1 s an image at 2.5 an hour"
        wrong = run.invoke(cli.app, ["costs", "--hour", "2.5"])
        assert isinstance(wrong.exception, InvalidInputError | SystemExit)
        assert wrong.exit_code == 1
    finally:
        settings.cache_clear()
