"""The judge of bench.chaos: a sound database passes, and every kind of damage breaks its rule."""

import hashlib
import random
from pathlib import Path

import pytest
import timm
import torch
from pgvector import HalfVector

from app import db
from app.index.build import build_index
from app.store import spaces
from bench.chaos.check import Truth, check
from bench.chaos.pictures import POISONS, Pictures
from bench.chaos.reference import Reference

MODEL = "test_convnext"


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> Reference:
    torch.manual_seed(0)
    weights = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(timm.create_model(MODEL).state_dict(), weights)
    return Reference(MODEL, str(weights))


@pytest.fixture(scope="module")
def sound(new_database, template, reference, tmp_path_factory) -> tuple[str, Truth]:
    """Make a space with eight images like a worker, and one poison (images 1 to 9), indexed and drained."""
    url, folder = new_database(template), tmp_path_factory.mktemp("chaos")
    rng, pictures = random.Random(0), Pictures(folder / "pictures")
    with db.connect(url, autocommit=True) as conn:
        space = spaces.create(
            conn,
            name="small",
            model=MODEL,
            weights=None,
            dimensions=reference.dimensions,
            preprocessing={},
            fingerprint="f",
        )
        for number in range(1, 10):
            data = pictures.poison(rng) if number == 9 else pictures.picture(rng)
            path = pictures.path()
            pictures.write(path, data)
            known = None if number == 9 else hashlib.sha256(data).digest()
            conn.execute("INSERT INTO lookalike.images (uri, sha256) VALUES (%s, %s)", (str(path), known))
            if number < 9:
                vector = HalfVector(reference.vector(data))
                conn.execute(f"INSERT INTO lookalike.{space.table_name} VALUES (%s, %s)", (number, vector))
        (kind,) = pictures.poisons.values()
        conn.execute(
            "INSERT INTO lookalike.failures (space_id, image_id, uri, step, reason, attempts)"
            " VALUES (%s, 9, 'x', %s, %s, 1)",
            (space.id, *POISONS[kind]),
        )
        conn.execute("DELETE FROM lookalike.jobs")
        build_index(conn, space)
    (folder / "uploads").mkdir()
    truth = Truth(
        {"small": reference},
        pictures.poisons,
        pictures.folder,
        present=frozenset(range(1, 10)),
        absent=frozenset({77}),
        uploads=folder / "uploads",
    )
    return url, truth


@pytest.fixture
def truth(sound) -> Truth:
    return sound[1]


@pytest.fixture
def damaged(sound):
    """Yield a connection whose transaction is rolled back, so that the damage of a test does not stay."""
    with db.connect(sound[0]) as connection:
        yield connection
        connection.rollback()


def unindexed(index: str, statement: str) -> str:
    """Return a statement that an index does not see."""
    ready = f"UPDATE pg_index SET indisready = {{}} WHERE indexrelid = 'lookalike.{index}'::regclass"
    return f"{ready.format(False)}; {statement}; {ready.format(True)}"


ANOTHER = "(SELECT embedding FROM lookalike.embeddings_1 WHERE image_id = 2)"
NEGATIVE = "(embedding::vector * array_fill(-1, ARRAY[64])::vector)::halfvec"
DAMAGES = {
    "an embedding is gone, without a job": (
        "DELETE FROM lookalike.embeddings_1 WHERE image_id = 3",
        "every image has its embedding (small)",
    ),
    "an embedding is another image's": (
        f"UPDATE lookalike.embeddings_1 SET embedding = {ANOTHER} WHERE image_id = 3",
        "an embedding is that of the present bytes (small)",
    ),
    "one number of a vector is wrong": (
        "UPDATE lookalike.embeddings_1 SET embedding = embedding + "
        "('[0.05' || repeat(',0', 63) || ']')::halfvec WHERE image_id = 3",
        "an embedding is that of the present bytes (small)",
    ),
    "the sha256 is of other bytes": (
        "ALTER TABLE lookalike.images DISABLE TRIGGER USER; "
        "UPDATE lookalike.images SET sha256 = sha256('x') WHERE id = 3; "
        "ALTER TABLE lookalike.images ENABLE TRIGGER USER",
        "sha256 is that of the present bytes (small)",
    ),
    "a job is left": (
        "INSERT INTO lookalike.jobs (space_id, image_id) VALUES (1, 3)",
        "no job is left (small)",
    ),
    "a good image has failed": (
        "DELETE FROM lookalike.embeddings_1 WHERE image_id = 3; INSERT INTO lookalike.failures"
        " (space_id, image_id, uri, step, reason, attempts) VALUES (1, 3, 'x', 'decode', 'cut off', 1)",
        "every image has its embedding (small)",
    ),
    "an image has both an embedding and a failure": (
        "INSERT INTO lookalike.failures (space_id, image_id, uri, step, reason, attempts)"
        " VALUES (1, 3, 'x', 'decode', 'cut off', 1)",
        "an embedding or a failure, not both (small)",
    ),
    "poison is forgotten": ("DELETE FROM lookalike.failures", "poison is recorded as a failure (small)"),
    "poison is recorded as something else": (
        "UPDATE lookalike.failures SET step = 'fetch', reason = 'the host is down'",
        "a failure has its own reason (small)",
    ),
    "poison has an embedding": (
        f"INSERT INTO lookalike.embeddings_1 SELECT 9, {ANOTHER}",
        "poison has no embedding (small)",
    ),
    "an image is lost": ("DELETE FROM lookalike.images WHERE id = 3", "no committed image is lost"),
    "a deleted image is back": (
        "INSERT INTO lookalike.images (id, uri) OVERRIDING SYSTEM VALUE VALUES (77, '/back')",
        "no deleted image comes back",
    ),
    "an embedding has no image": (
        "SET session_replication_role = replica; DELETE FROM lookalike.images WHERE id = 3;"
        " SET session_replication_role = origin",
        "no row of embeddings_1 without its image",
    ),
    "an index is invalid": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'lookalike.embeddings_1_hnsw'::regclass",
        "every index is valid",
    ),
    "the ANN index misses a row": (
        unindexed(
            "embeddings_1_hnsw", f"UPDATE lookalike.embeddings_1 e SET embedding = {NEGATIVE} WHERE image_id = 3"
        ),
        "every vector is found through the index (small)",
    ),
    "a B-tree misses a row": (
        unindexed("images_uri_key", "INSERT INTO lookalike.images (uri) VALUES ('/unindexed')"),
        "index and table agree",
    ),
}


def test_a_sound_database_has_no_violation(damaged, truth):
    assert list(check(damaged, truth)) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_breaks_its_rule(damaged, truth, damage):
    statement, rule = DAMAGES[damage]
    damaged.execute(statement)
    assert rule in [one.rule for one in check(damaged, truth)]


def test_bytes_that_differ_from_their_embedding_are_reported(damaged, truth):
    (uri,) = damaged.execute("SELECT uri FROM lookalike.images WHERE id = 3").fetchone()
    (other,) = damaged.execute("SELECT uri FROM lookalike.images WHERE id = 4").fetchone()
    before = Path(uri).read_bytes()
    Pictures.write(Path(uri), Path(other).read_bytes())
    rules = {one.rule for one in check(damaged, truth)}
    Pictures.write(Path(uri), before)
    assert rules == {
        "an embedding is that of the present bytes (small)",
        "sha256 is that of the present bytes (small)",
    }


def test_leftovers_of_other_sessions_are_reported(damaged, truth, sound):
    with db.connect(sound[0]) as other:
        other.execute("SELECT pg_advisory_lock(1)")
        assert [one.rule for one in check(damaged, truth)] == [
            "no advisory lock is left",
            "no transaction is left open",
        ]


def test_uploads_without_an_image_are_reported(damaged, truth):
    (truth.uploads / "ab").mkdir()
    stray = truth.uploads / "ab" / "stray.png"
    stray.write_bytes(b"x")
    rules = [one.rule for one in check(damaged, truth)]
    stray.unlink()
    assert rules == ["no uploaded file without its image"]
