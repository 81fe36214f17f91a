"""Change the model end to end: Lite0 to Lite2, then to 64 dimensions, with one worker and without a restart."""

import json
import time

import pytest
import timm
import torch

from app import db
from tests.support import running
from tests.support.cli import runner

pytestmark = pytest.mark.long

OLD, NEW = "tf_efficientnet_lite0", "lite2"


@pytest.fixture(scope="module")
def url(new_database, template) -> str:
    found = new_database(template)
    running.embed_gallery(found, images=12)
    return found


@pytest.fixture
def cli(url: str, monkeypatch: pytest.MonkeyPatch):
    """Run a command; return what it printed, on stderr if it is to fail."""
    run = runner(monkeypatch, url)

    def command(*words: str, code: int = 0) -> str:
        done = run(*words)
        assert done.exit_code == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return command


def test_lite0_to_lite2_and_back_and_to_another_dimension(url, cli, tmp_path):
    torch.manual_seed(1)
    weights = tmp_path / "convnext.pt"
    torch.save(timm.create_model("test_convnext").state_dict(), weights)
    picture = str(running.ROOT / "app/demo/gallery/mammals-01.jpg")
    with running.live_worker(url), db.connect(url, autocommit=True) as conn:
        assert "already" in cli("space", "create", OLD, "--model", OLD, code=1)
        assert "is not JSON" in cli("space", "create", "x", "--model", OLD, "--preprocessing", "{", code=1)
        assert "1280 dimensions" in cli("space", "create", NEW, "--model", "tf_efficientnet_lite2")
        conn.execute("UPDATE lookalike.images SET uri = uri || '' WHERE id < 5")
        conn.execute("DELETE FROM lookalike.images WHERE id = 6")
        assert "11 of 11 embedded, 0 queued, 0 failed" in cli("space", "backfill", NEW)
        found = json.loads(cli("space", "compare", NEW, "--label", "category", "-k", "3", "--json"))
        assert found["images"] == 11
        assert 0 < found["overlap"] < 1
        assert found["second"]["precision"] is not None
        by_picture = json.loads(cli("space", "compare", NEW, picture, "-k", "3", "--json"))
        assert by_picture["images"] == 1
        assert min(by_picture[side]["distance"] for side in ("first", "second")) > 0
        assert cli("space", "activate", NEW).strip() == f"{OLD} → {NEW}"
        answer = json.loads(cli("search", picture, "-k", "3", "--json"))
        assert answer["space"] == NEW
        assert answer["results"][0]["distance"] < 0.05
        conn.execute("UPDATE lookalike.images SET uri = uri || '.gone' WHERE id = 7")
        deadline = time.monotonic() + 30
        while conn.execute("SELECT count(*) FROM lookalike.jobs").fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert conn.execute("SELECT count(*) FROM lookalike.space_gaps").fetchone() == (0,)
        assert cli("space", "rollback").strip() == f"{NEW} → {OLD}"
        assert json.loads(cli("search", picture, "-k", "3", "--json"))["space"] == OLD
        assert "--yes" in cli("space", "drop", NEW, code=1)
        assert "dropped lite2" in cli("space", "drop", NEW, "--yes")
        assert "active one" in cli("space", "drop", OLD, "--yes", code=1)
        # Other dimensions: 1280 numbers become 64 between two statements.
        made = cli("space", "create", "small", "--model", "test_convnext", "--weights", str(weights))
        assert "small: test_convnext, 64 dimensions" in made
        cli("space", "backfill", "small")
        query = (
            "SELECT vector_dims(embedding) FROM lookalike.gallery "
            "ORDER BY embedding <-> lookalike.embedding_of(3) LIMIT 1"
        )
        assert conn.execute(query).fetchone() == (1280,)
        cli("space", "activate", "small")
        assert conn.execute(query).fetchone() == (64,)
        answer = json.loads(cli("search", picture, "-k", "3", "--json"))
        assert (answer["space"], answer["results"][0]["distance"] < 0.05) == ("small", True)
        cli("space", "rollback")
        cli("space", "drop", "small", "--yes")
        assert conn.execute(query).fetchone() == (1280,)
        # The worker is still alive, and serves the other space.
        assert json.loads(cli("search", picture, "-k", "3", "--json"))["space"] == OLD
        time.sleep(3)
        alive = conn.execute("SELECT spaces FROM lookalike.worker_status WHERE alive").fetchall()
        assert alive == [([OLD],)]
