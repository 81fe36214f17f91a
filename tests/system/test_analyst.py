"""Run every file of sql/analyst/ as an analyst does: in psql, with its defaults and with variables."""

import csv
import io
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from app import db
from app.db.embedded import EmbeddedServer
from tests.support.gallery_data import Vectors, as_stored, distances, fill, make_space

FOLDER = Path(__file__).parents[2] / "sql/analyst"
DIMENSIONS = 16
EACH = 30
KINDS = ["cups", "lamps", "shoes"]
PLAIN = ["--no-psqlrc", "--csv", "-v", "ON_ERROR_STOP=1"]


@dataclass(frozen=True)
class Shop:
    """A gallery of three tight clusters, one per category; image n has price n."""

    server: EmbeddedServer
    url: str
    ids: list[int]
    vectors: Vectors
    attributes: list[dict[str, object]]

    def run(self, name: str, **variables: object) -> list[dict[str, str]]:
        """Run sql/analyst/NAME.sql; return its rows."""
        given = [part for key, value in variables.items() for part in ("-v", f"{key}={value}")]
        done = subprocess.run(
            [self.server.bin_dir / "psql", self.url, *PLAIN, *given, "-f", FOLDER / f"{name}.sql"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
        return list(csv.DictReader(io.StringIO(done.stdout)))


@pytest.fixture(scope="module")
def shop(server: EmbeddedServer, new_database: Callable[..., str], template: str) -> Shop:
    draw = np.random.default_rng(5)
    centers = np.eye(DIMENSIONS)[:3]
    rows = np.repeat(centers, EACH, axis=0) + draw.normal(scale=0.08, size=(3 * EACH, DIMENSIONS))
    rows[1] = rows[0]  # the same picture, from two sellers
    rows[2] = rows[0]
    rows[2 * EACH - 1] = centers[2]  # a shoe that is labelled a lamp
    vectors = as_stored(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    attributes: list[dict[str, object]] = [
        {"category": KINDS[n // EACH], "seller": "ab"[n % 2], "price": n} for n in range(len(rows))
    ]
    del attributes[5]["category"], attributes[-1]["category"]
    url = new_database(template)
    with db.connect(url) as conn:
        make_space(conn, DIMENSIONS)
        ids = [int(one) for one in fill(conn, vectors, attributes, [f"picture {n}" for n in range(len(rows))])]
        # The last ten shoes are from this month, the rest from the month before.
        conn.execute(
            "UPDATE lookalike.images SET created_at = now() - CASE WHEN id >= %s THEN interval '3 days'"
            " ELSE interval '40 days' END",
            (ids[-10],),
        )
        conn.execute("INSERT INTO lookalike.images (uri) VALUES ('waits'), ('fails'), ('fails too'), ('late')")
        conn.execute(
            "WITH gone AS (DELETE FROM lookalike.jobs j USING lookalike.images i"
            " WHERE i.id = j.image_id AND i.uri LIKE 'fails%' RETURNING j.image_id, j.space_id, i.uri)"
            " INSERT INTO lookalike.failures (image_id, space_id, uri, step, reason, attempts)"
            " SELECT image_id, space_id, uri, 'decode', 'truncated after ' || image_id || ' bytes', 1 FROM gone"
        )
        conn.execute(
            "UPDATE lookalike.jobs j SET enqueued_at = now() - interval '2 hours' FROM lookalike.images i"
            " WHERE i.id = j.image_id AND i.uri = 'late'"
        )
        conn.commit()
    return Shop(server, url, ids, vectors, attributes)


def test_near_and_cheap(shop: Shop) -> None:
    rows = shop.run("near_and_cheap", image=shop.ids[40], below=37, k=5)
    true = distances(shop.vectors, shop.vectors[40])[:37]
    assert [int(row["id"]) for row in rows] == [shop.ids[n] for n in np.argsort(true)[:5]]
    assert all(float(row["price"]) < 37 for row in rows)
    assert len(shop.run("near_and_cheap")) == 10


def test_price_of_lookalikes(shop: Shop) -> None:
    (row,) = shop.run("price_of_lookalikes", image=shop.ids[70], k=20)
    near = np.argsort(distances(shop.vectors, shop.vectors[70]))[1:21]
    assert int(row["priced"]) == 20
    assert float(row["median"]) == np.median(near)
    assert float(row["own"]) == 70


def test_duplicates_per_seller(shop: Shop) -> None:
    rows = shop.run("duplicates_per_seller", threshold=0.001)
    # Images 0 and 2 belong to seller a, image 1 to seller b.
    assert [list(row.values()) for row in rows] == [["a", "2", "2", "2", "1"], ["b", "1", "0", "1", "1"]]


def test_drift(shop: Shop) -> None:
    rows = {row["label"]: row for row in shop.run("drift")}
    assert (rows["(all)"]["new_images"], rows["(all)"]["old_images"]) == ("10", "80")
    assert rows["cups"]["new_images"] == "0"
    new, old = shop.vectors[-10:].mean(axis=0), shop.vectors[:-10].mean(axis=0)
    assert float(rows["(all)"]["drift"]) == pytest.approx(np.linalg.norm(new - old), abs=1e-3)
    assert float(rows["shoes"]["drift"]) < 0.3 < float(rows["(all)"]["drift"])


def test_coverage(shop: Shop) -> None:
    (row,) = shop.run("coverage")
    assert (row["images"], row["embedded"], row["queued"], row["failed"], row["missing"]) == ("94", "90", "2", "2", "0")


def test_failures_by_reason(shop: Shop) -> None:
    (row,) = shop.run("failures_by_reason")
    assert (row["step"], row["reason"], row["images"]) == ("decode", "truncated after … bytes", "2")


def test_queue_age(shop: Shop) -> None:
    rows = shop.run("queue_age")
    assert [(row["age"], row["images"]) for row in rows] == [("1: under a minute", "1"), ("4: under a day", "1")]


def test_typical_and_odd(shop: Shop) -> None:
    rows = shop.run("typical_and_odd", k=1)
    assert [(row["label"], row["kind"]) for row in rows] == [
        (kind, which) for kind in KINDS for which in ("typical", "odd")
    ]
    lamps = shop.vectors[EACH : 2 * EACH]
    far = EACH + int(np.argmax(distances(lamps, lamps.mean(axis=0))))
    assert far == 2 * EACH - 1
    assert [int(row["id"]) for row in rows if row["label"] == "lamps"][1] == shop.ids[far]


def test_label_suspects(shop: Shop) -> None:
    (row,) = shop.run("label_suspects")
    assert (int(row["id"]), row["label"], row["neighbors_say"]) == (shop.ids[2 * EACH - 1], "lamps", "shoes")


def test_classify_unlabelled(shop: Shop) -> None:
    rows = shop.run("classify_unlabelled")
    assert {(int(row["id"]), row["label"]) for row in rows} == {(shop.ids[5], "cups"), (shop.ids[-1], "shoes")}
    assert all(float(row["confidence"]) > 0.7 for row in rows)


def test_confusable(shop: Shop) -> None:
    rows = shop.run("confusable", k=5)
    # The shoe that is labelled a lamp is the centre of the shoes, so it is near many of them.
    assert (rows[0]["label"], rows[0]["neighbor"]) == ("shoes", "lamps")
    assert all(0 < float(row["share"]) < 0.3 for row in rows)


def test_sizes(shop: Shop) -> None:
    rows = {row["relation"]: row for row in shop.run("sizes")}
    assert {"images", "images_document", "embeddings_1", "embeddings_1_pkey", "jobs"} <= set(rows)
    assert rows["images_document"]["method"] == "gin"
    sizes = [int(row["bytes"]) for row in rows.values()]
    assert sizes == sorted(sizes, reverse=True)


def test_slow_queries(shop: Shop) -> None:
    rows = shop.run("slow_queries", k=3)
    assert 1 <= len(rows) <= 3
    assert any("query" in row for row in rows)


def test_label_precision(shop: Shop) -> None:
    (row,) = shop.run("label_precision", label="category", k=3)
    assert row["images"] == str(3 * EACH - 2)
    assert 0.8 < float(row["precision_at_k"]) < 1


def test_costs(shop: Shop) -> None:
    with db.connect(shop.url, autocommit=True) as conn:
        conn.execute("SELECT lookalike.add_costs('cpu', '{1,1}', '{busy,searchable}', '{0,40}', '{4,0}')")
    (row,) = shop.run("costs", hour=3.6, gb_month=1)
    assert (row["device"], row["images"], row["ms_each"]) == ("cpu", "40", "100.00")
    assert float(row["embedding_a_million"]) == 100
    assert float(row["a_million_a_month"]) == pytest.approx(float(row["bytes_per_image"]) / 1000, rel=0.01)


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.sql")))
def test_every_file_runs_with_its_defaults(shop: Shop, name: str) -> None:
    assert shop.run(name)


def test_every_file_has_a_test() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {file.stem for file in FOLDER.glob("*.sql")} <= tested
