"""GET /v1/tradeoffs: without a run, with a run, and with an unknown run."""

from collections.abc import Callable

from flask.testing import FlaskClient

from app import db
from app.store import spaces
from app.tuning import run
from app.tuning.records import Request


def test_before_and_after_a_measurement(gallery_url: str, make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(gallery_url)
    empty = client.get("/v1/tradeoffs").json
    assert empty == {"space": "tiny", "current": "hnsw(m=16,ef_construction=64)", "run": None, "points": []}
    request = Request(
        choices=("exact", "hnsw(m=16,ef_construction=64)"), queries=5, clients=(1,), seconds=0.01, rounds=1
    )
    with db.connect(gallery_url, autocommit=True) as conn:
        made = run.start(conn, spaces.active(conn), request)
    run.resume(gallery_url, made)
    found = client.get("/v1/tradeoffs").json
    assert found is not None
    assert (found["run"]["id"], found["run"]["rows"], found["run"]["rows_total"]) == (made.id, 24, 29)
    points = {one["choice"]: one for one in found["points"]}
    assert set(points) == set(request.choices)
    assert points["exact"]["recall"] == 1
    assert points["exact"]["index_bytes_per_image"] == 0
    assert [one["choice"] for one in found["points"] if one["current"]] == ["hnsw(m=16,ef_construction=64)"]
    assert any(one["best"] for one in found["points"])
    assert client.get(f"/v1/tradeoffs?run={made.id}&space=tiny").json == found
    assert client.get("/v1/tradeoffs?run=99").status_code == 404
    assert client.get("/v1/tradeoffs?space=none").status_code == 404
    assert client.get("/v1/tradeoffs?run=x").status_code == 422
