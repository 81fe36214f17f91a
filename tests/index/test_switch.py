"""Index choices on a live space: same answers by each, switches while others search and write, nothing left over."""

import json
import threading
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb

from app import db
from app.db.locking import retry_on_lock
from app.errors import BuildRunningError, ConflictError, InvalidInputError
from app.index import candidates
from app.index.build import list_indexes
from app.index.running import exclusive_build
from app.index.spec import parse_spec
from app.index.switch import current_spec, remove_index, switch_index
from app.store import spaces
from app.store.spaces import Space
from tests.support.cli import runner
from tests.support.gallery_data import CLUSTERED_DIMENSIONS, clustered, distances, fill, half

COUNT = 1500
TEXTS = [
    "exact",
    "hnsw(m=8)",
    "ivfflat(lists=20)",
    "pca(16,m=8)+rerank(120)",
    "bits(48)+rerank(250)",
    "bits(48,lists=20)+rerank(250)",
]


class Gallery:
    """A filled space with its contents."""

    def __init__(self, conn: db.Connection) -> None:
        self.conn = conn
        conn.execute("SELECT lookalike.create_space('small', 'none', %s, '{}', 'f')", (CLUSTERED_DIMENSIONS,))
        self.vectors = clustered(COUNT)
        self.ids = fill(conn, self.vectors, [{"n": n % 10, "rare": n % 500 == 0} for n in range(COUNT)])
        self.queries = clustered(16, seed=1)
        likeness = self.vectors @ self.vectors.T - 2 * np.eye(COUNT)
        self.duplicates = int((likeness.max(axis=1) >= 1 - 0.12**2 / 2).sum())  # images with another within 0.12

    @property
    def space(self) -> Space:
        return spaces.active(self.conn)

    def search(self, query: object, k: int = 10, **options: object) -> list[tuple[int, float]]:
        named = "".join(f", {name} => %({name})s" for name in options)
        values = {"query": half(query), "k": k, **options}
        return self.conn.execute(f"SELECT * FROM lookalike.search(%(query)s, %(k)s{named})", values).fetchall()

    def recall(self, k: int = 10, among: object = None, **options: object) -> float:
        """Return the mean recall over all queries. Each answer is complete, in order and only of the requested rows."""
        places = np.arange(COUNT) if among is None else np.flatnonzero(among)
        place = {int(one): n for n, one in enumerate(self.ids)}
        recalls = []
        for query in self.queries:
            true = distances(self.vectors, query)
            found = self.search(query, k, **options)
            assert len({one for one, _ in found}) == len(found) == min(k, len(places))
            assert {place[one] for one, _ in found} <= set(places.tolist())
            assert found == sorted(found, key=lambda row: (row[1], row[0]))
            assert np.allclose([d for _, d in found], true[[place[one] for one, _ in found]], atol=1e-5)
            bound = np.sort(true[places])[len(found) - 1] + 1e-3
            recalls.append(np.mean([d <= bound for _, d in found]))
        return float(np.mean(recalls))


@pytest.fixture(scope="module")
def gallery(new_database: Callable[..., str], template: str) -> Iterator[Gallery]:
    """Return one gallery for all tests of this module, which leave its rows unchanged."""
    with db.connect(new_database(template), autocommit=True) as conn:
        yield Gallery(conn)


def mismatches(conn: db.Connection, transform: int, space: Space) -> tuple[object, ...] | None:
    """Count embeddings without a candidate, candidates without an embedding, and candidates of another embedding."""
    return conn.execute(
        f"""
        SELECT count(*) FILTER (WHERE c.image_id IS NULL), count(*) FILTER (WHERE e.image_id IS NULL),
               count(*) FILTER (WHERE bit_count(c.bits # binary_quantize(
                   lookalike.transformed({transform}::smallint, 'bits', e.embedding))) > 1)
        FROM lookalike.{space.table_name} e FULL JOIN lookalike.candidates_{transform} c USING (image_id)
        """
    ).fetchone()


@pytest.mark.parametrize("text", TEXTS)
def test_every_choice_gives_complete_answers_with_high_recall(gallery: Gallery, text: str) -> None:
    choice = parse_spec(text)
    done = switch_index(gallery.conn, gallery.space, choice)
    assert current_spec(gallery.space) == choice
    assert gallery.recall() >= (1 if text == "exact" else 0.97)
    assert gallery.recall(k=100) >= 0.95
    tenth = np.arange(COUNT) % 10 == 3
    assert gallery.recall(among=tenth, filter=json.dumps({"n": 3}), strategy="index") >= 0.95
    assert gallery.recall(among=tenth, filter=json.dumps({"n": 3})) >= 0.95
    assert gallery.recall(among=np.arange(COUNT) % 500 == 0, filter=json.dumps({"rare": True})) == 1
    assert gallery.recall(recall=1.0) == 1
    state = done.state
    assert (state.index_bytes > 0) == (text != "exact")
    assert (state.candidates_bytes > 0) == choice.fitted
    assert [one.name for one in list_indexes(gallery.conn)] == ([state.index] if state.index else [])
    assert candidates.ls(gallery.conn, gallery.space) == ([state.transform] if choice.fitted else [])


@pytest.mark.parametrize("text", TEXTS[2:6])
def test_every_way_of_searching_works_by_every_choice(gallery: Gallery, text: str) -> None:
    switch_index(gallery.conn, gallery.space, parse_spec(text))
    query, conn = half(gallery.queries[0]), gallery.conn
    first = [one for one, _ in gallery.search(gallery.queries[0], 40, recall=1.0)]
    near = conn.execute("SELECT id FROM lookalike.search_page(%s, 40)", (query,)).fetchall()
    assert [one for (one,) in near] == first
    diverse = conn.execute("SELECT id FROM lookalike.search_diverse(%s, 5)", (query,)).fetchall()
    assert diverse[0][0] == first[0]
    grouped = conn.execute("SELECT group_value FROM lookalike.search_grouped(%s, 'n', 10)", (query,)).fetchall()
    assert len({value for (value,) in grouped}) == 10
    similar = conn.execute("SELECT id FROM lookalike.similar(%s, 30)", (int(gallery.ids[5]),)).fetchall()
    assert len(similar) == 30
    assert gallery.ids[5] not in [one for (one,) in similar]
    examples = conn.execute(
        "SELECT id FROM lookalike.search_examples(%s, %s, k => 30)", ([first[0]], [int(gallery.ids[0])])
    ).fetchall()
    assert len(examples) == 30
    pairs = conn.execute("SELECT image_id FROM lookalike.near_duplicates(0.12)").fetchall()
    assert len(pairs) == pytest.approx(gallery.duplicates, rel=0.03)
    with db.connect(conn.info.dsn) as analyst:
        plain = analyst.execute(
            "SELECT id FROM lookalike.gallery ORDER BY embedding <-> %s::halfvec LIMIT 10", (query,)
        ).fetchall()
    assert len({one for (one,) in plain} & set(first[:10])) >= 9


def test_the_plan_names_the_depths(gallery: Gallery) -> None:
    switch_index(gallery.conn, gallery.space, parse_spec("pca(24)+rerank(100)"))
    explain = "SELECT lookalike.explain_search(%s, ef_search => %s, recall => %s)"
    query = half(gallery.queries[0])
    (plan,) = gallery.conn.execute(explain, (query, None, 0.99)).fetchone()
    assert (plan["reduced"], plan["rerank"], "bits" in plan) == (24, 100, False)
    (plan,) = gallery.conn.execute(explain, (query, 50, 0.99)).fetchone()
    assert plan["rerank"] == 50
    (plan,) = gallery.conn.execute(explain, (query, None, 1)).fetchone()
    assert plan["strategy"] == "exact"
    switch_index(gallery.conn, gallery.space, parse_spec("bits(48)"))
    depth = [gallery.conn.execute(explain, (query, None, r)).fetchone()[0]["rerank"] for r in (0.9, 0.95, 0.99, 0.999)]
    assert depth == sorted(set(depth))
    gallery.conn.execute("SELECT lookalike.set_search_depth(%s::smallint, 2)", (gallery.space.id,))
    assert gallery.conn.execute(explain, (query, None, 0.99)).fetchone()[0]["rerank"] == 2 * depth[2]
    switch_index(gallery.conn, gallery.space, parse_spec("ivfflat(lists=20,probes=7)"))
    assert gallery.conn.execute(explain, (query, None, 0.99)).fetchone()[0]["probes"] == 7


@pytest.mark.parametrize("text", ["pca(16)", "bits(48)", "bits(48,lists=20)", "hnsw", "ivfflat(lists=20)"])
def test_the_index_serves_through_the_views(gallery: Gallery, text: str) -> None:
    state = switch_index(gallery.conn, gallery.space, parse_spec(text)).state
    scans = "SELECT coalesce(idx_scan, 0) FROM pg_stat_user_indexes WHERE indexrelname = %s"
    before = gallery.conn.execute(scans, (state.index,)).fetchone()
    gallery.recall(strategy="index")
    gallery.conn.execute("SELECT pg_stat_force_next_flush()")
    after = gallery.conn.execute(scans, (state.index,)).fetchone()
    assert after[0] - before[0] >= len(gallery.queries)


def test_candidates_follow_every_write_of_embeddings(gallery: Gallery) -> None:
    transform = switch_index(gallery.conn, gallery.space, parse_spec("bits(48)")).state.transform
    conn, table = gallery.conn, f"lookalike.{gallery.space.table_name}"
    with conn.transaction(force_rollback=True):
        conn.execute(f"DELETE FROM {table} WHERE image_id %% 7 = 0".replace("%%", "%"))
        conn.execute("DELETE FROM lookalike.images WHERE id = %s", (int(gallery.ids[0]),))
        conn.execute("UPDATE lookalike.images SET uri = uri || '?' WHERE id = %s", (int(gallery.ids[1]),))
        assert mismatches(conn, transform, gallery.space) == (0, 0, 0)
        new = clustered(1, seed=9)[0]
        conn.execute(f"UPDATE {table} SET embedding = %s WHERE image_id = %s", (half(new), int(gallery.ids[2])))
        conn.execute(
            f"INSERT INTO {table} SELECT image_id, %s FROM {table} ON CONFLICT (image_id) DO UPDATE "
            "SET embedding = excluded.embedding",
            (half(new),),
        )
        assert mismatches(conn, transform, gallery.space) == (0, 0, 0)
        fill(conn, clustered(50, seed=8))
        assert mismatches(conn, transform, gallery.space) == (0, 0, 0)
        conn.execute(f"TRUNCATE {table}")
        assert conn.execute(f"SELECT count(*) FROM lookalike.candidates_{transform}").fetchone() == (0,)


def test_candidates_are_complete_after_a_fill_beside_writers(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_index(gallery.conn, gallery.space)
    monkeypatch.setattr(candidates, "_BATCH", 100)
    conn, url, table = gallery.conn, gallery.conn.info.dsn, f"lookalike.{gallery.space.table_name}"
    kept = conn.execute(f"SELECT image_id, embedding FROM {table}").fetchall()
    transform = candidates.create(conn, gallery.space, parse_spec("bits(48)"))
    stop, failures, rounds = threading.Event(), [], []

    def write() -> None:
        rng = np.random.default_rng(3)
        try:
            with db.connect(url, autocommit=True) as writer:
                while not stop.is_set():
                    some = [int(one) for one in rng.choice(gallery.ids, 20, replace=False)]
                    writer.execute(f"DELETE FROM {table} WHERE image_id = ANY (%s)", (some[:15],))
                    writer.execute(
                        f"UPDATE {table} SET embedding = (SELECT x.embedding FROM {table} x"
                        " WHERE x.image_id = ANY (%s) LIMIT 1) WHERE image_id = ANY (%s)",
                        (some[15:], some[15:]),
                    )
                    with writer.cursor() as cursor:
                        cursor.executemany(
                            f"INSERT INTO {table} VALUES (%s, %s) ON CONFLICT DO NOTHING",
                            [row for row in kept if row[0] in some[:10]],
                        )
                    rounds.append(1)
        except psycopg.Error as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        candidates.fill(conn, gallery.space, transform)
    finally:
        stop.set()
        thread.join()
        left = mismatches(conn, transform, gallery.space)
        with conn.transaction():
            conn.execute(f"DELETE FROM {table}")
            with conn.cursor() as cursor:
                cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s)", kept)
    assert not failures
    assert rounds
    assert left == (0, 0, 0)
    retry_on_lock(conn, "drop_transform", transform, patience=5)


def test_no_search_fails_or_is_wrong_during_a_switch(gallery: Gallery) -> None:
    stop, failures, searches = threading.Event(), [], []
    truth = [np.sort(distances(gallery.vectors, query))[9] + 1e-3 for query in gallery.queries]

    def search() -> None:
        try:
            with db.connect(gallery.conn.info.dsn, autocommit=True) as conn:
                while not stop.is_set():
                    for query, bound in zip(gallery.queries, truth, strict=True):
                        rows = conn.execute("SELECT distance FROM lookalike.search(%s)", (half(query),)).fetchall()
                        searches.append(np.mean([d <= bound for (d,) in rows]) if len(rows) == 10 else 0)
        except psycopg.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for text in ["bits(48)+rerank(250)", "hnsw(m=8)", "pca(16)+rerank(120)", "ivfflat(lists=20)", "exact"]:
            switch_index(gallery.conn, gallery.space, parse_spec(text))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert min(searches) > 0.4
    assert np.mean(searches) > 0.97


def test_a_snapshot_older_than_the_index_is_answered_in_full(gallery: Gallery) -> None:
    switch_index(gallery.conn, gallery.space, parse_spec("hnsw(m=8)"))
    with db.connect(gallery.conn.info.dsn) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        # A build would wait for this snapshot, so switch searches without one.
        transform = candidates.create(gallery.conn, gallery.space, parse_spec("bits(48)"))
        candidates.fill(gallery.conn, gallery.space, transform)
        options = parse_spec("bits(48)").options() | {"transform": transform}
        gallery.conn.execute("SELECT lookalike.choose_index('small', %s)", (json.dumps(options),))
        (plan,) = old.execute("SELECT lookalike.explain_search(%s)", (half(gallery.queries[0]),)).fetchone()
    assert (plan["reason"], plan["rows"]) == ("the transaction is older than the index", 10)
    remove_index(gallery.conn, gallery.space)


def test_an_interrupted_switch_is_resumed(gallery: Gallery) -> None:
    remove_index(gallery.conn, gallery.space)
    made = candidates.create(gallery.conn, gallery.space, parse_spec("bits(48)"))
    half_made = Jsonb({"transform": made})
    with pytest.raises(ConflictError, match="not one of space small whose candidates are complete"):
        retry_on_lock(gallery.conn, "choose_index", "small", half_made, patience=1)
    state = switch_index(gallery.conn, gallery.space, parse_spec("bits(48)")).state
    assert state.transform == made
    assert switch_index(gallery.conn, gallery.space, parse_spec("bits(48)+rerank(77)")).state.transform == made
    anew = switch_index(gallery.conn, gallery.space, parse_spec("bits(48)+rerank(77)"), refit=True).state.transform
    assert candidates.ls(gallery.conn, gallery.space) == [anew]
    with pytest.raises(ConflictError, match="stand on transform"):
        retry_on_lock(gallery.conn, "drop_transform", anew, patience=1)


def test_an_impossible_choice_is_refused_and_the_old_one_serves(gallery: Gallery) -> None:
    conn = gallery.conn
    switch_index(conn, gallery.space, parse_spec("hnsw"))
    for text, message in (("bits(64)", "64 axes of embeddings that have 48"), ("pca(49)", "49 axes")):
        with pytest.raises(InvalidInputError, match=message):
            switch_index(conn, gallery.space, parse_spec(text))
    spaces.create(
        conn, name="empty", model="m", weights=None, dimensions=3, preprocessing={}, fingerprint="e",
        index_options={"kind": "exact"},
    )  # fmt: skip
    assert current_spec(spaces.get(conn, "empty")) == parse_spec("exact")
    with pytest.raises(InvalidInputError, match="holds no embeddings yet"):
        switch_index(conn, spaces.get(conn, "empty"), parse_spec("pca(2)"))
    spaces.drop(conn, "empty")
    with (
        db.connect(conn.info.dsn, autocommit=True) as other,
        exclusive_build(other, gallery.space),
        pytest.raises(BuildRunningError),
    ):
        switch_index(conn, gallery.space, parse_spec("exact"))
    assert current_spec(gallery.space) == parse_spec("hnsw")
    assert gallery.recall() >= 0.97


def test_each_space_has_its_own_choice(gallery: Gallery) -> None:
    conn = gallery.conn
    switch_index(conn, gallery.space, parse_spec("bits(48)+rerank(250)"))
    other = spaces.create(conn, name="b", model="m", weights=None, dimensions=2, preprocessing={}, fingerprint="b")
    conn.execute(
        f"INSERT INTO lookalike.{other.table_name} "
        "SELECT id, l2_normalize(ARRAY[random() + 0.1, random()]::vector)::halfvec FROM lookalike.images"
    )
    conn.execute("DELETE FROM lookalike.jobs")
    switch_index(conn, other, parse_spec("pca(1)"))
    spaces.activate(conn, "b", force=True)
    assert len(conn.execute("SELECT FROM lookalike.search('[1,0]', 10)").fetchall()) == 10
    spaces.activate(conn, "small")
    assert gallery.recall() >= 0.97
    spaces.drop(conn, "b")
    assert conn.execute(
        "SELECT count(*) FROM pg_class WHERE relname ~ '^candidates_[0-9]+$' AND relkind = 'r'"
    ).fetchone() == (1,)


def test_the_commands_switch_and_list_the_choice(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    lookalike = runner(monkeypatch, gallery.conn.info.dsn)
    text = "bits(48,m=8,ef_construction=64)+rerank(250)"
    assert f"small: {text}, index " in lookalike("index", "choose", "small", "bits(48,m=8)+rerank(250)").stdout
    (message,) = json.loads(lookalike("index", "choices", "--json").stdout)
    assert (message["choice"], message["index"]) == (text, f"candidates_{message['transform']}_hnsw")
    assert text in lookalike("index", "choices").stdout.replace("\n", "")
    assert "m 6, ef_construction 64" in lookalike("index", "rebuild", "--m", 6).stdout
    assert current_spec(gallery.space).m == 6
    lookalike("index", "choose", "ivfflat(lists=20)")
    assert "20 lists" in lookalike("index", "rebuild").stdout
    (listed,) = json.loads(lookalike("index", "ls", "--json").stdout)
    assert (listed["kind"], listed["lists"], listed["m"]) == ("ivfflat", 20, None)
    lookalike("index", "choose", "exact")
    refused = lookalike("index", "rebuild")
    assert (refused.exit_code, "searched exactly, by choice" in refused.stderr) == (1, True)
    wrong = lookalike("index", "choose", "bit(512)")
    assert (wrong.exit_code, "no such combination" in wrong.stderr) == (1, True)
