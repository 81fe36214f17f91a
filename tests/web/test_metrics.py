"""/metrics, read by Prometheus' own parser: the same from every process, even if the database is down."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import db
from app.config import Settings
from app.store import spaces
from app.web.factory import create_app
from workers.stage_timings import Timings

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"


@pytest.fixture
def space(database_url):
    with db.connect(database_url, autocommit=True) as conn:
        made = spaces.create(
            conn, name="tiny", model="none", weights=None, dimensions=3, preprocessing={}, fingerprint="none"
        )
        conn.execute("INSERT INTO lookalike.images (uri) VALUES ('x:1'), ('x:2')")
        timings = Timings()
        timings.note("searchable", made.id, [0.01, 0.1, 0.1])
        timings.note("reused", made.id, [0.1])
        timings.note("failed", made.id, [0.2])
        timings.note("query", made.id, [0.05])
        for stage in ("claim", "fetch", "lookup", "decode", "encode", "write"):
            timings.add(stage, 0.02, made.id)
        counts = timings.take_counts()
        fields = ("space_id", "measure", "bucket", "count", "seconds")
        db.call(conn, "add_latencies", *([getattr(one, field) for one in counts] for field in fields))
        conn.execute("SELECT lookalike.begin_worker('host:1', '1', 'cpu', ARRAY[%s::smallint])", (made.id,))
        conn.execute(
            "INSERT INTO lookalike.failures (image_id, space_id, uri, step, reason, attempts)"
            " SELECT id, %s, uri, 'fetch', 'there is no file \"a\nb\"', 1 FROM lookalike.images LIMIT 1",
            (made.id,),
        )
    return made


def scraped(url: str, tmp_path: Path) -> dict[str, object]:
    app = create_app(Settings(home=tmp_path), url)
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families, name: str, **labels: str) -> float:
    (found,) = [
        one.value
        for family in families.values()
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    ]
    return found


@pytest.mark.usefixtures("space")
def test_every_process_reports_the_same_metrics(database_url, tmp_path):
    for _ in range(2):  # two applications stand for two processes
        found = scraped(database_url, tmp_path)
        assert value(found, "lookalike_up") == 1
        assert value(found, "lookalike_queue_jobs", space="tiny") == 2
        assert value(found, "lookalike_space_workers", space="tiny") == 1
        assert value(found, "lookalike_searchable_seconds_count", space="tiny") == 3
        assert value(found, "lookalike_api_connections", state="active") >= 1
        assert value(found, "lookalike_searchable_seconds_sum", space="tiny") == pytest.approx(0.21)
        assert value(found, "lookalike_searchable_seconds_bucket", le="0.016") == 1
        assert value(found, "lookalike_searchable_seconds_bucket", le="0.128") == 3
        assert value(found, "lookalike_stage_seconds_count", stage="encode") == 1
        assert value(found, "lookalike_reused_images_total") == 1
        assert value(found, "lookalike_failed_images", step="fetch", reason="there is no file …") == 1
        assert value(found, "lookalike_worker_info", worker="host:1", state="starting", spaces="tiny") == 1


def test_a_database_that_is_down_is_reported(tmp_path):
    found = scraped("postgresql://127.0.0.1:1/none", tmp_path)
    assert list(found) == ["lookalike_up"]
    assert value(found, "lookalike_up") == 0


@pytest.mark.usefixtures("space")
def test_the_page_lists_every_metric(database_url, tmp_path):
    exported = {
        family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        for family in scraped(database_url, tmp_path).values()
    }
    assert (
        set(
            re.findall(
                r"^\| `(lookalike_\w+)` \| (?:gauge|info|counter|histogram) \|",
                PAGE.read_text(encoding="utf-8"),
                re.MULTILINE,
            )
        )
        == exported
    )
