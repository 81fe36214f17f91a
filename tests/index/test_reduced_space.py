"""Spaces that hold only the reduced form: filled from another space, updated by workers, queried in either size."""

import hashlib
from uuid import uuid4

import numpy as np
import pytest

from app import db
from app.errors import ConflictError, InvalidInputError
from app.index import reduced_space
from app.index.spec import parse_spec
from app.index.switch import switch_index
from app.store import jobs, query_images, spaces
from app.store.query_images import QueryImage
from tests.support.cli import runner
from tests.support.gallery_data import as_stored, clustered, distances, fill, half

DIMENSIONS = 48
COUNT = 400


@pytest.fixture
def auto(conn: db.Connection) -> db.Connection:
    conn.autocommit = True
    conn.execute("SELECT lookalike.create_space('whole', 'none', %s, '{}', 'f')", (DIMENSIONS,))
    fill(conn, clustered(COUNT))
    return conn


def found(conn: db.Connection, query: object) -> list[tuple[int, float]]:
    return conn.execute("SELECT * FROM lookalike.search(%s, 10)", (half(query),)).fetchall()


def test_a_reduced_space_does_not_need_its_source(auto: db.Connection) -> None:
    vectors = clustered(COUNT)
    small = reduced_space.derive(auto, spaces.active(auto), name="small", dimensions=16)
    assert (small.dimensions, small.encoded_dimensions, spaces.counts(auto, small).embedded) == (16, DIMENSIONS, COUNT)
    stored = auto.execute(f"SELECT image_id, embedding FROM lookalike.{small.table_name} ORDER BY image_id").fetchall()
    ids = [row[0] for row in stored]
    reduced = np.stack([row[1].to_numpy() for row in stored]).astype(np.float32)
    assert np.allclose(np.linalg.norm(reduced, axis=1), 1, atol=2e-3)
    spaces.activate(auto, "small")
    spaces.drop(auto, "whole")
    queries_ = clustered(20, seed=1)
    near = []
    for query in queries_:
        by_whole = found(auto, query)
        (part,) = auto.execute("SELECT lookalike.query_unit(%s)", (half(query),)).fetchone()
        assert found(auto, part.to_numpy()) == by_whole
        assert auto.execute("SELECT count(*) FROM lookalike.within(%s, 2)", (half(query),)).fetchone() == (COUNT,)
        true = distances(vectors, query)
        near.append(np.mean([true[ids.index(one)] <= np.sort(true)[19] for one, _ in by_whole]))
        assert by_whole[0][1] == pytest.approx(distances(reduced, part.to_numpy()).min(), abs=2e-3)
    assert np.mean(near) > 0.9
    with pytest.raises(InvalidInputError, match="5 dimensions, but embedding space small has 16"), db.translated():
        found(auto, as_stored(np.ones(5)))
    switch_index(auto, spaces.active(auto), parse_spec("bits(16)+rerank(200)"))
    assert len(found(auto, queries_[0])) == 10


def test_workers_update_it_and_answer_in_its_form(auto: db.Connection) -> None:
    small = reduced_space.derive(auto, spaces.active(auto), name="small", dimensions=8)
    spaces.activate(auto, "small")
    auto.execute("INSERT INTO lookalike.images (uri) VALUES ('new')")
    claimed = jobs.claim(auto, small, most=5, lease=(lease := uuid4()), lease_seconds=60)
    assert [job.uri for job in claimed] == ["new"]
    whole = clustered(1, seed=7)[0]
    whole /= np.linalg.norm(whole)
    one = jobs.Embedded(
        image_id=claimed[0].image_id, embedding=whole, sha256=b"1" * 32, media_type="image/png", width=1, height=1
    )
    assert jobs.finish(auto, small, lease=lease, embedded=[one]) == {claimed[0].image_id}
    assert found(auto, whole)[0] == (claimed[0].image_id, pytest.approx(0, abs=2e-2))
    auto.execute("SELECT lookalike.ask_embedding(%s::smallint, 'picture')", (small.id,))
    (asked,) = query_images.claim(auto, small, most=1, lease_seconds=60)
    assert asked == QueryImage(hashlib.sha256(b"picture").digest(), b"picture", asked.waited)
    query_images.answer(auto, small, [(asked.sha256, whole)])
    row = auto.execute("SELECT lookalike.ask_embedding(%s::smallint, 'picture')", (small.id,)).fetchone()
    assert row
    assert found(auto, row[0].to_numpy()) == found(auto, whole)
    examples = "SELECT id FROM lookalike.search_examples(ARRAY[%s], like_embeddings => ARRAY[%s]::halfvec[])"
    assert auto.execute(examples, (claimed[0].image_id, half(whole))).fetchall()


def test_locked_or_changed_images_are_queued_and_never_copied(auto: db.Connection) -> None:
    source = spaces.active(auto)
    small = reduced_space.derive(auto, source, name="small", dimensions=8)
    auto.execute(f"DELETE FROM lookalike.{small.table_name}")
    with db.connect(auto.info.dsn) as other:
        other.execute("SELECT FROM lookalike.images WHERE uri = (SELECT min(uri) FROM lookalike.images) FOR UPDATE")
        auto.execute("UPDATE lookalike.images SET uri = 'changed' WHERE uri = (SELECT max(uri) FROM lookalike.images)")
        assert reduced_space.fill(auto, small, source) == COUNT - 2
        other.rollback()
    assert reduced_space.fill(auto, small, source) == 1
    spaces.backfill(auto, small)
    left = auto.execute("SELECT i.uri FROM lookalike.jobs j JOIN lookalike.images i ON i.id = j.image_id").fetchall()
    assert {uri for (uri,) in left} == {"changed"}
    assert auto.execute("SELECT count(*) FROM lookalike.space_gaps").fetchone() == (0,)


def test_mistakes(auto: db.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = spaces.active(auto)
    with pytest.raises(InvalidInputError, match="48 dimensions are no fewer than the 48 of whole"):
        reduced_space.derive(auto, whole, name="small", dimensions=48)
    with pytest.raises(ConflictError, match="already exists"):
        reduced_space.derive(auto, whole, name="whole", dimensions=8)
    assert auto.execute("SELECT count(*) FROM lookalike.transforms").fetchone() == (0,)
    lookalike = runner(monkeypatch, database_url)
    assert (
        "16 of 48 dimensions"
        in lookalike("space", "create", "small", "--from", "whole", "--transform", "pca:16").stdout
    )
    with pytest.raises(InvalidInputError, match="holds a reduced form itself"):
        reduced_space.derive(auto, spaces.get(auto, "small"), name="smaller", dimensions=4)
    for arguments, message in (
        ("--from whole --transform svd:8", '"svd:8" is not a transform'),
        ("--from whole", "go together"),
        ("", "give --model"),
    ):
        wrong = lookalike("space", "create", "x", *arguments.split())
        assert (wrong.exit_code, message in wrong.stderr) == (1, True)
