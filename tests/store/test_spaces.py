"""Spaces side by side: created, filled, switched, rolled back and dropped, during searches and writes."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from uuid import uuid4

import numpy as np
import psycopg
import pytest

from app import db
from app.errors import ConflictError, ImageError, NotFoundError, SpaceChangedError
from app.search import functions, request
from app.search.run import run_search
from app.store import jobs, spaces
from app.store.jobs import Embedded
from app.store.spaces import Space


def make(conn, name: str, dimensions: int = 4) -> Space:
    return spaces.create(
        conn, name=name, model=name, weights=None, dimensions=dimensions, preprocessing={}, fingerprint=name
    )


def add(conn, count: int) -> list[int]:
    rows = conn.execute(
        "INSERT INTO lookalike.images (uri) SELECT '/' || gen_random_uuid() FROM generate_series(1, %s) RETURNING id",
        (count,),
    ).fetchall()
    return [int(row[0]) for row in rows]


def vector(seed: int, dimensions: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=dimensions).astype(np.float32)
    return found / np.linalg.norm(found)


def embed(conn, space: Space, most: int = 1000) -> int:
    """Embed one batch of this space, as a worker does."""
    lease = uuid4()
    claimed = jobs.claim(conn, space, lease=lease, most=most, lease_seconds=60)
    done = [
        Embedded(
            image_id=job.image_id,
            embedding=vector(job.image_id * 100 + space.id, space.dimensions),
            sha256=job.uri.encode().ljust(32, b"-")[-32:],
            media_type="image/png",
            width=1,
            height=1,
        )
        for job in claimed
    ]
    written = jobs.finish(conn, space, lease=lease, embedded=done) if done else set()
    # As a worker does with images that a writer has locked, because their jobs would wait for the end of the lease.
    jobs.release(conn, space, lease=lease, image_ids=[one.image_id for one in done if one.image_id not in written])
    return len(written)


def gaps(conn) -> int:
    return int(conn.execute("SELECT count(*) FROM lookalike.space_gaps").fetchone()[0])


@pytest.fixture
def two(auto) -> tuple[Space, Space]:
    """Create an active space of 4 dimensions and another complete one of 6, with 30 images."""
    old = make(auto, "old")
    add(auto, 30)
    embed(auto, old)
    new = make(auto, "new", 6)
    embed(auto, new)
    return old, new


def test_a_new_space_queues_the_existing_images(auto):
    old = make(auto, "old")
    ids = add(auto, 30)
    embed(auto, old)
    new = make(auto, "new", 6)
    assert spaces.counts(auto, new).queued == 30
    assert not spaces.get(auto, "new").active
    assert embed(auto, new) == 30
    assert spaces.backfill(auto, new) == 0
    assert gaps(auto) == 0
    assert len(ids) == 30


def test_backfill_resumes_after_an_interruption(auto):
    old = make(auto, "old")
    add(auto, 25)
    new = make(auto, "new")
    auto.execute("DELETE FROM lookalike.jobs WHERE space_id = %s AND image_id > 5", (new.id,))
    assert gaps(auto) == 20
    row = auto.execute(
        "SELECT queued, last_id FROM lookalike.backfill_space(%s::smallint, 0, 10)", (new.id,)
    ).fetchone()
    assert row[0] == 5
    assert spaces.backfill(auto, new) == 15
    assert gaps(auto) == 0
    assert spaces.counts(auto, old).queued == 25


def test_identical_settings_and_names_are_refused(auto):
    make(auto, "old")
    with pytest.raises(ConflictError, match="space 'old' has the same model, preprocessing and weights already"):
        spaces.create(auto, name="o2", model="m", weights=None, dimensions=4, preprocessing={}, fingerprint="old")
    with pytest.raises(ConflictError, match="embedding space of this name"):
        spaces.create(auto, name="old", model="m", weights=None, dimensions=4, preprocessing={}, fingerprint="x")


def test_an_incomplete_space_is_refused_with_the_number_missing(auto, two):
    add(auto, 5)
    embed(auto, two[0])
    lease = uuid4()
    job = jobs.claim(auto, two[1], lease=lease, most=1, lease_seconds=60)[0]
    jobs.fail(auto, two[1], lease=lease, errors=[(job.image_id, ImageError("decode", "broken"))])
    with pytest.raises(
        ConflictError, match=r"5 images that can be found now would be missing \(4 queued, 1 failed, 0 nei"
    ):
        spaces.activate(auto, "new")
    assert spaces.active(auto).name == "old"
    assert (spaces.missing(auto, "new").missing, spaces.missing(auto, "new").failed) == (5, 1)
    spaces.activate(auto, "new", force=True)
    assert spaces.active(auto).name == "new"


def test_a_space_without_the_index_that_the_active_one_has_is_refused(auto, two):
    auto.execute("CREATE INDEX ON lookalike.embeddings_1 USING hnsw (embedding halfvec_l2_ops)")
    with pytest.raises(ConflictError, match="space new has no index yet"):
        spaces.activate(auto, "new")
    auto.execute("CREATE INDEX ON lookalike.embeddings_2 USING hnsw (embedding halfvec_l2_ops)")
    spaces.activate(auto, "new")


def test_switch_and_rollback_change_view_and_functions_together(auto, two):
    old, new = two
    assert functions.search(auto, vector(1, 4), k=3).space == "old"
    spaces.activate(auto, "new")
    assert functions.search(auto, vector(1, 6), k=30, in_space=new.id).space == "new"
    assert functions.embedding_of(auto, 1).shape == (6,)
    add(auto, 3)
    assert (embed(auto, old), embed(auto, new)) == (3, 3)
    assert spaces.rollback(auto) == "old"
    assert len(functions.search(auto, vector(1, 4), k=100).hits) == 33
    with pytest.raises(ConflictError, match="no earlier space"):  # never forward again
        spaces.rollback(auto)
    spaces.activate(auto, "new")
    switches = auto.execute("SELECT from_space, to_space, forced FROM lookalike.space_switches ORDER BY id").fetchall()
    assert switches == [("old", "new", False), ("new", "old", True), ("old", "new", False)]


def test_each_rollback_goes_back_by_one_switch_more(auto):
    for name in "abcd":
        make(auto, name)
    for name in "bcd":
        spaces.activate(auto, name)
    assert [spaces.rollback(auto), spaces.rollback(auto)] == ["c", "b"]
    spaces.activate(auto, "d")
    assert spaces.rollback(auto) == "b"
    spaces.activate(auto, "c")
    spaces.activate(auto, "d")
    spaces.drop(auto, "c")  # it is passed over
    assert [spaces.rollback(auto), spaces.rollback(auto)] == ["b", "a"]
    with pytest.raises(ConflictError, match="no earlier space"):
        spaces.rollback(auto)


def test_without_an_earlier_space_rollback_is_refused(auto, two):
    with pytest.raises(ConflictError, match="no earlier space"):
        spaces.rollback(auto)


def test_a_query_of_the_other_space_is_refused_even_of_the_same_dimension(auto):
    old = make(auto, "old")
    new = make(auto, "new")
    add(auto, 3)
    embed(auto, old)
    embed(auto, new)
    asked = request.Request(query=vector(1, 4), in_space=old.id)
    assert len(run_search(auto, asked).hits) == 3
    spaces.activate(auto, "new")
    for more in (
        {},
        {"mode": "diverse", "value": 0.5},
        {"mode": "cursor", "value": "start"},
        {"max_distance": 1.0},
        {"mode": "text", "value": "x"},
    ):
        with pytest.raises(SpaceChangedError, match="embedded in space old, but the active one is new"):
            run_search(auto, request.Request(query=vector(1, 4), in_space=old.id, **more))


def test_a_cursor_does_not_outlive_its_space(auto, two):
    first = run_search(auto, request.Request(image_id=1, k=5, mode="cursor", value="start"))
    spaces.activate(auto, "new")
    with pytest.raises(Exception, match="so must the active embedding space"):
        run_search(auto, request.Request(image_id=1, k=5, mode="cursor", value=first.next))


def test_a_transaction_that_searches_pins_its_space(database_url, auto, two):
    with db.connect(database_url) as reader:
        assert spaces.pin_active(reader).name == "old"
        with pytest.raises(ConflictError, match=r"held a lock that this change needs for 0\.1 s.*pid"):
            spaces.activate(auto, "new", patience=0.1)
        assert spaces.pin_active(reader).name == "old"
        assert len(functions.search(reader, vector(1, 4), k=5).hits) == 5
        reader.rollback()
    spaces.activate(auto, "new", patience=5)


def by_image(conn: db.Connection) -> int:
    return len(run_search(conn, request.Request(image_id=random.randint(1, 30), k=5)).hits)


def by_vector(conn: db.Connection) -> int:
    space = spaces.active(conn)
    query = vector(random.randint(1, 99), space.dimensions)
    more = random.choice(
        [
            {},
            {"mode": "diverse", "value": 0.5},
            {"mode": "distinct", "value": 0.0},
            {"max_distance": 2.0},
            {"mode": "cursor", "value": "start"},
        ]
    )
    try:
        return len(run_search(conn, request.Request(query=query, k=5, in_space=space.id, **more)).hits)
    except SpaceChangedError:
        return 5


def in_sql(conn: db.Connection) -> int:
    rows = conn.execute(
        "SELECT id, embedding <-> lookalike.embedding_of(7) FROM lookalike.gallery"
        " ORDER BY embedding <-> lookalike.embedding_of(7) LIMIT 5"
    ).fetchall()
    similar = conn.execute("SELECT id FROM lookalike.similar(7, 5)").fetchall()
    return len(rows) if len(similar) == len(rows) else 0


def repeat(url: str, act: Callable[[db.Connection], object], stop: threading.Event, results: list[object]) -> None:
    """Repeat `act` until `stop` is set; append its results and errors to `results`."""
    with db.connect(url, autocommit=True) as conn:
        while not stop.is_set():
            try:
                results.append(act(conn))
            except Exception as error:  # noqa: BLE001 — the test checks it
                results.append(error)


def test_no_running_search_mixes_vectors_of_two_spaces(database_url, auto, two):
    """Clients search by images and by vectors of the space that they read, while the active space keeps changing."""
    stop = threading.Event()
    answers: list[object] = []
    threads = [
        threading.Thread(target=repeat, args=(database_url, ask, stop, answers))
        for ask in (by_image, by_vector, in_sql)
    ]
    for thread in threads:
        thread.start()
    try:
        for turn in range(12):
            spaces.activate(auto, ("new", "old")[turn % 2], patience=10)
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert len(answers) > 50
    assert not [one for one in answers if one != 5]


def write(choice: random.Random, conn: db.Connection) -> None:
    """Insert, update and delete in one transaction, which may take a while and may roll back."""
    with suppress(psycopg.errors.DeadlockDetected, psycopg.Rollback), conn.transaction():  # of two writers
        for _ in range(choice.randint(1, 4)):
            ids = [row[0] for row in conn.execute("SELECT id FROM lookalike.images ORDER BY random() LIMIT 2")]
            action = choice.random()
            if action < 0.5:
                add(conn, choice.randint(1, 3))
            elif action < 0.8:
                conn.execute("UPDATE lookalike.images SET uri = '/' || gen_random_uuid() WHERE id = ANY (%s)", (ids,))
            else:
                conn.execute("DELETE FROM lookalike.images WHERE id = ANY (%s)", (ids[:1],))
            time.sleep(choice.random() * 0.01)
        if choice.random() < 0.2:
            raise psycopg.Rollback


def work(conn: db.Connection) -> None:
    for space in spaces.ls(conn):
        with suppress(NotFoundError):  # dropped since
            embed(conn, space, most=7)


@pytest.mark.parametrize("seed", range(4))
def test_concurrent_writes_leave_no_image_unqueued(database_url, auto, seed):
    """Writers insert, change and delete, and commit late or never, while spaces are created, switched and dropped."""
    old = make(auto, "old")
    add(auto, 20)
    stop = threading.Event()
    results: list[object] = []
    acts = [partial(write, random.Random(seed * 10 + number)) for number in range(2)]
    threads = [threading.Thread(target=repeat, args=(database_url, act, stop, results)) for act in (*acts, work)]
    for thread in threads:
        thread.start()
    try:
        new = make(auto, "new", 6)
        make(auto, "third", 3)
        spaces.activate(auto, "new", force=True)
        spaces.drop(auto, "third")
        spaces.rollback(auto)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not [one for one in results if one is not None]
    assert gaps(auto) == 0
    # Images skipped because a writer held their rows are due again when their lease or delay ends.
    auto.execute("UPDATE lookalike.jobs SET available_at = clock_timestamp()")
    while embed(auto, old) + embed(auto, new):
        pass
    images, first, second, queued = auto.execute(
        "SELECT (SELECT count(*) FROM lookalike.images), (SELECT count(*) FROM lookalike.embeddings_1),"
        " (SELECT count(*) FROM lookalike.embeddings_2), (SELECT count(*) FROM lookalike.jobs)"
    ).fetchone()
    assert (first, second, queued) == (images, images, 0)


def test_drop_refuses_the_active_space_and_a_table_with_dependents(auto, two):
    with pytest.raises(ConflictError, match="space old is the active one"):
        spaces.drop(auto, "old")
    auto.execute("CREATE VIEW public.mine AS SELECT image_id FROM lookalike.embeddings_2")
    with pytest.raises(ConflictError, match="space new is in use: view mine depends on"):
        spaces.drop(auto, "new")
    assert len(spaces.ls(auto)) == 2
    auto.execute("DROP VIEW public.mine")
    spaces.drop(auto, "new")
    assert [space.name for space in spaces.ls(auto)] == ["old"]
    assert auto.execute("SELECT to_regclass('lookalike.embeddings_2')").fetchone() == (None,)
    add(auto, 1)
    assert embed(auto, two[0]) == 1
    with pytest.raises(NotFoundError, match="no embedding space"):
        spaces.drop(auto, "new")


def test_comparison_counts_common_neighbours_and_labels(auto, two):
    auto.execute("""UPDATE lookalike.images SET attributes = jsonb_build_object('kind', id % 2)""")
    rows = auto.execute("SELECT * FROM lookalike.compare_spaces('old', 'new', 5, 20, 'kind')").fetchall()
    assert len(rows) == 20
    assert all(0 <= row[1] <= 1 and row[4] is not None for row in rows)
    itself = auto.execute("SELECT DISTINCT overlap FROM lookalike.compare_spaces('old', 'old', 5, 20)").fetchall()
    assert itself == [(1.0,)]


def test_tables_that_change_have_their_own_autovacuum_settings(conn: db.Connection) -> None:
    """The migration and the creation of a space set them, but never override a table's existing settings."""

    def options(table: str) -> set[str]:
        row = conn.execute(
            "SELECT reloptions FROM pg_class WHERE oid = %s::regclass", (f"lookalike.{table}",)
        ).fetchone()
        return set(row[0] or ()) if row else set()  # type: ignore[call-overload]

    assert options("images") == {
        "autovacuum_vacuum_scale_factor=0.05",
        "autovacuum_vacuum_insert_scale_factor=0.05",
        "autovacuum_analyze_scale_factor=0.02",
    }
    conn.execute("ALTER TABLE lookalike.images RESET (autovacuum_vacuum_scale_factor)")
    own = options("images")
    space = spaces.create(conn, name="v", model="m", weights=None, dimensions=4, preprocessing={}, fingerprint="v")
    assert options(space.table_name) == {
        "autovacuum_vacuum_scale_factor=0.2",
        "autovacuum_vacuum_threshold=1000",
        "autovacuum_vacuum_insert_scale_factor=0.05",
        "autovacuum_analyze_scale_factor=0.02",
    }
    assert options("images") == own
