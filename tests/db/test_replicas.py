"""Searches on a real streaming standby return the primary's results and, on request, the caller's own writes.

If the standby lags, hangs or is down, the primary serves the searches.
"""

import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient
from psycopg.errors import SerializationFailure

from app import db
from app.config import Settings
from app.db import replicas
from app.errors import ConfigurationError, DatabaseUnavailableError, SpaceChangedError
from app.search import duplicates, facets
from app.search.request import Request
from app.search.run import run_search
from app.store import spaces
from app.types import Embedding
from app.web import create_app
from app.web.read_your_writes import LSN, SERVED_BY
from app.web.services import EXTENSION
from tests.support import clients
from tests.support.api import refused
from tests.support.cli import runner
from tests.support.images import encoded, picture
from tests.support.standby import Pair, running_pair

pytestmark = pytest.mark.long

STANDBY = "standby-1"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with running_pair() as made:
        yield made


@pytest.fixture
def primary(pair: Pair) -> Iterator[db.Connection]:
    with db.connect(pair.url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def standby(pair: Pair) -> Iterator[db.Connection]:
    pair.catch_up()
    with db.connect(pair.read_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def make_client(pair: Pair, tmp_path: Path) -> Iterator[Callable[..., FlaskClient]]:
    apps = []

    def make(**changes: object) -> FlaskClient:
        settings = {"read_database_url": pair.read_url, "read_max_lag": 3600, "read_wait": 5, **changes}
        app = create_app(Settings(home=tmp_path, **settings), pair.url)
        apps.append(app)
        return app.test_client()

    yield make
    for app in apps:
        app.extensions[EXTENSION].router.close()
        app.extensions[EXTENSION].database.close()


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()


def vector(conn: db.Connection, image_id: int) -> Embedding:
    row = conn.execute("SELECT lookalike.embedding_of(%s)", (image_id,)).fetchone()
    assert row is not None
    return row[0].to_numpy().astype(np.float32)  # type: ignore[attr-defined]


def until(found: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ids(answer) -> list[int]:
    assert answer.status_code == 200, answer.json
    return [one["image"]["id"] for one in answer.json["results"]]


def test_every_kind_of_search_only_reads(primary: db.Connection, standby: db.Connection) -> None:
    query = vector(primary, 7)
    kinds = [
        Request(image_id=7),
        Request(query=query, explain=True),
        Request(query=query, filter={"n": {"$lt": 200}}, recall=0.9),
        Request(query=query, filter={"n": {"$lt": 5}}),
        Request(image_id=7, recall=1, exclude=[1, 2]),
        Request(image_id=7, strategy="exact"),
        Request(image_id=7, strategy="index"),
        Request(image_id=7, max_distance=0.8),
        Request(image_id=7, like=[8, 9], unlike=[10]),
        Request(like_embeddings=[query], unlike=[10]),
        Request(image_id=7, mode="diverse", value=0.5),
        Request(image_id=7, mode="distinct", value=0.4),
        Request(image_id=7, mode="group_by", value="n"),
        Request(image_id=7, mode="cursor", value="start"),
        Request(mode="text", value="file"),
        Request(image_id=7, mode="text", value="file"),
    ]
    for kind in kinds:
        here, there = run_search(standby, kind), run_search(primary, kind)
        assert [(one.image.id, one.distance) for one in here.hits] == [
            (one.image.id, one.distance) for one in there.hits
        ], kind
        assert here.hits or kind.mode == "text"
    assert facets.facets(standby) == facets.facets(primary)
    assert facets.sample(standby, seed=1) == facets.sample(primary, seed=1)
    assert duplicates.groups(standby, threshold=0.3) == duplicates.groups(primary, threshold=0.3)


def test_searches_go_to_the_standby_and_writes_to_the_primary(client: FlaskClient, pair: Pair) -> None:
    found = client.get("/v1/images/7/similar?k=3")
    assert (len(ids(found)), found.headers[SERVED_BY]) == (3, STANDBY)
    assert client.post("/v1/search", json={"image_id": 7}).headers[SERVED_BY] == STANDBY
    for path in ("/v1/facets", "/v1/sample", "/v1/duplicates"):
        assert client.get(path).headers[SERVED_BY] == STANDBY
    (state,) = client.get("/v1/status").json["standbys"]
    assert (state["host"], state["fit"], state["reason"]) == (pair.host, True, None)
    metrics = client.get("/metrics").text
    assert f'lookalike_standby_fit{{host="{pair.host}"}} 1.0' in metrics
    assert f'lookalike_standby_lag_seconds{{host="{pair.host}"}} 0.0' in metrics


def test_a_search_that_names_a_writes_position_sees_the_write(client: FlaskClient, pair: Pair) -> None:
    """If the standby lags, the primary serves the search after a wait."""
    for value in range(1, 6):
        written = client.patch("/v1/images/7", json={"attributes": {"n": 7, "mark": value}})
        body = {"image_id": 8, "filter": {"mark": value}}
        by_header = client.post("/v1/search", json=body, headers={LSN: written.headers[LSN]})
        assert (ids(by_header), by_header.headers[SERVED_BY]) == ([7], STANDBY)
    client.application.extensions[EXTENSION].router._wait = 0.1
    with pair.paused():
        keyed = {"Idempotency-Key": "mark-9"}
        written = client.patch("/v1/images/7", json={"attributes": {"n": 7, "mark": 9}}, headers=keyed)
        body = {"image_id": 8, "filter": {"mark": 9}}
        assert ids(client.post("/v1/search", json=body)) == []  # without a position, the standby's state counts
        by_query = client.post("/v1/search", query_string={"min_lsn": written.headers[LSN]}, json=body)
        assert (ids(by_query), by_query.headers[SERVED_BY]) == ([7], "primary")
        repeated = client.patch("/v1/images/7", json={"attributes": {"n": 7, "mark": 9}}, headers=keyed)
        assert repeated.headers["Idempotent-Replayed"] == "true"
        assert repeated.headers[LSN] >= written.headers[LSN]
    answer = client.get("/v1/images/8/similar", query_string={"filter": '{"mark": 9}'})
    assert (ids(answer), answer.headers[SERVED_BY]) == ([7], STANDBY)


@pytest.mark.parametrize("lsn", ["0", "x/y", "0/123456789", "'0/1'"])
def test_an_invalid_position_is_refused(client: FlaskClient, lsn: str) -> None:
    refused(client.post("/v1/search", json={"image_id": 1}, headers={LSN: lsn}), 422, "invalid_input", LSN)
    refused(client.post("/v1/search", query_string={"min_lsn": lsn}, json={"image_id": 1}), 422, "invalid_input")


def test_the_primary_serves_what_the_standby_lacks(client: FlaskClient, pair: Pair, primary: db.Connection) -> None:
    with pair.paused():
        row = primary.execute("INSERT INTO lookalike.images (uri) VALUES ('/new') RETURNING id").fetchone()
        assert row is not None
        primary.execute("INSERT INTO lookalike.embeddings_1 SELECT %s, lookalike.embedding_of(7)", row)
        answer = client.get(f"/v1/images/{row[0]}/similar?k=1")
        assert (ids(answer), answer.headers[SERVED_BY]) == ([7], "primary")
    primary.execute("DELETE FROM lookalike.images WHERE id = %s", row)
    pair.catch_up()
    refused(client.get(f"/v1/images/{row[0]}/similar"), 404, "not_found")


def test_a_lagging_standby_is_skipped_and_logged_until_it_catches_up(
    make_client: Callable[..., FlaskClient], pair: Pair, primary: db.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="app.db.replicas")
    client = make_client(read_max_lag=0.5)

    def served() -> str:
        answer = client.get("/v1/images/7/similar")
        assert len(ids(answer)) == 10
        return str(answer.headers[SERVED_BY])

    until(lambda: served() == STANDBY)
    with pair.paused():
        primary.execute("UPDATE lookalike.images SET caption = 'x' WHERE id = 300")
        until(lambda: served() == "primary")
        (state,) = client.get("/v1/status").json["standbys"]
        assert state["fit"] is False
        assert "behind the primary (LOOKALIKE_READ_MAX_LAG 0.5)" in state["reason"]
        assert state["lag_seconds"] > 0.5
        time.sleep(1.2)  # the next poll does not log it again
        assert f'lookalike_standby_fit{{host="{pair.host}"}} 0.0' in client.get("/metrics").text
    until(lambda: served() == STANDBY)
    until(lambda: any("serves searches again" in one.message for one in caplog.records))
    logged = [one.message for one in caplog.records if one.name == "app.db.replicas"]
    assert [pair.host in one for one in logged] == [True, True]
    assert "is skipped" in logged[0]
    assert "serves searches again" in logged[1]


def test_searches_continue_while_the_standby_stops_and_restarts(
    make_client: Callable[..., FlaskClient], pair: Pair
) -> None:
    client = make_client(read_max_lag=10)
    served: list[str] = []
    done = threading.Event()

    def ask(number: int) -> None:
        while not done.is_set():
            answer = client.application.test_client().get(f"/v1/images/{number}/similar")
            served.append(answer.headers[SERVED_BY] if answer.status_code == 200 else str(answer.json))

    askers = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(1, 4)]
    try:
        for one in askers:
            one.start()
        until(lambda: STANDBY in served)
        pair.stop_standby()
        until(lambda: served[-1] == "primary")
        pair.start_standby()
        until(lambda: served[-1] == STANDBY)
    finally:
        done.set()
        for one in askers:
            one.join(20)
    assert set(served) == {STANDBY, "primary"}


def test_a_search_on_a_standby_that_hangs_moves_to_the_primary(
    make_client: Callable[..., FlaskClient], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_UNRESPONSIVE_SECONDS", 1.5)
    client = make_client()
    assert client.get("/v1/images/7/similar").headers[SERVED_BY] == STANDBY
    children = [int(one) for one in Path(f"/proc/{pair.pid}/task/{pair.pid}/children").read_text().split()]
    try:
        for one in (pair.pid, *children):
            os.kill(one, signal.SIGSTOP)
        answer = client.get("/v1/images/7/similar")
        assert (len(ids(answer)), answer.headers[SERVED_BY]) == (10, "primary")
        assert "it has not answered for" in client.get("/v1/status").json["standbys"][0]["reason"]
    finally:
        for one in (*children, pair.pid):
            os.kill(one, signal.SIGCONT)
    until(lambda: client.get("/v1/images/7/similar").headers[SERVED_BY] == STANDBY)


@pytest.fixture
def two(primary: db.Connection) -> Iterator[tuple[int, int]]:
    """Create two complete spaces of the same dimension: `s`, which is active, and `t`, with other neighbours."""
    with primary.transaction():
        other = clients.embed(primary, "t", seed=2)
    yield 1, other
    primary.execute("SELECT lookalike.activate_space('s', true)")
    spaces.drop(primary, "t")


@contextmanager
def unless_cancelled() -> Iterator[None]:
    """Ignore a search that the standby's replay cancelled; API and CLI run it on the primary then."""
    try:
        yield
    except SerializationFailure:
        pass
    except DatabaseUnavailableError as error:
        if not isinstance(error.__cause__, SerializationFailure):
            raise


def test_no_search_on_the_standby_mixes_spaces_across_switches(
    pair: Pair, primary: db.Connection, two: tuple[int, int]
) -> None:
    """Search by a stored image and by vectors, in one statement and in several, while the primary switches spaces."""
    right: dict[tuple[str | None, int], list[int]] = {}
    for name in ("t", "s"):
        primary.execute("SELECT lookalike.activate_space(%s, true)", (name,))
        for number in range(1, 6):
            found = run_search(primary, Request(image_id=number, k=4))
            right[name, number] = [one.image.id for one in found.hits]
    pair.catch_up()
    seen: set[str | None] = set()

    def check(conn: db.Connection, number: int, asked: Request) -> None:
        found = run_search(conn, asked)
        assert [one.image.id for one in found.hits] == right[found.space, number], found.space
        seen.add(found.space)

    def by_image(conn: db.Connection, round_: int) -> None:
        number = round_ % 5 + 1
        with unless_cancelled():
            check(conn, number, Request(image_id=number, k=4, max_distance=2.0 if round_ % 2 else None))

    def by_vector(conn: db.Connection, round_: int) -> None:
        number = round_ % 5 + 1
        with unless_cancelled(), suppress(SpaceChangedError):  # an error, not a mix
            with conn.transaction():
                space = spaces.pin_active(conn)
                query = vector(conn, number)
            check(conn, number, Request(query=query, k=4, exclude=[number], in_space=space.id))

    searching = clients.Clients(pair.read_url)
    for name, act in (("1", by_image), ("2", by_image), ("3", by_vector)):
        searching.loop(name, act)
    try:
        for turn in range(100):  # on a slow machine the standby may miss the first switches
            spaces.activate(primary, "t" if turn % 2 == 0 else "s", force=True)
            searching.go_on()
            if turn >= 15 and seen == {"s", "t"}:
                break
    finally:
        searching.stop()
    assert searching.errors == []
    assert seen == {"s", "t"}


def test_the_primary_embeds_query_images_and_never_mixes_spaces(
    client: FlaskClient, pair: Pair, primary: db.Connection, two: tuple[int, int]
) -> None:
    data = encoded(picture(), "PNG")

    def answered(space: int, image_id: int) -> None:
        """Answer as a worker would: the picture gets this stored image's embedding in this space."""
        primary.execute(
            f"INSERT INTO lookalike.query_images (sha256, space_id, embedding, answered_at)"
            f" SELECT %s, %s, e.embedding, now() FROM lookalike.embeddings_{space} e WHERE e.image_id = %s",
            (hashlib.sha256(data).digest(), space, image_id),
        )

    def ask():
        return client.post("/v1/search", data={"image": (BytesIO(data), "a.png"), "k": "1"})

    answered(two[0], 11)
    answered(two[1], 22)
    first = ask()
    assert (ids(first), first.json["space"], first.headers[SERVED_BY]) == ([11], "s", STANDBY)
    with pair.paused():
        primary.execute("SELECT lookalike.activate_space('t', true)")
        # The standby still shows the old space, whose embedding is no longer requested.
        second = ask()
        assert (ids(second), second.json["space"], second.headers[SERVED_BY]) == ([22], "t", "primary")
    third = ask()
    assert (ids(third), third.json["space"], third.headers[SERVED_BY]) == ([22], "t", STANDBY)


def test_commands(pair: Pair, primary: db.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    lookalike = runner(monkeypatch, pair.url)
    # The second host does not exist; the third is the primary itself.
    host = pair.read_url.split("host=")[1].split("&")[0]
    own = pair.url.split("host=")[1].split("&")[0]
    several = f"postgresql://postgres@/lookalike?host={host},/nowhere,{own}&port=5432"
    env = {"LOOKALIKE_READ_DATABASE_URL": several}
    with pair.paused():
        primary.execute("UPDATE lookalike.images SET attributes = '{\"n\": -1}' WHERE id = 300")
        stale = lookalike(
            "search", "1", "--where", '{"n": -1}', "--json", env={**env, "LOOKALIKE_READ_MAX_LAG": "9999"}
        )
        assert '"id": 300' not in stale.stdout
        fresh = lookalike("search", "1", "--where", '{"n": -1}', "--fresh", "--json", env=env)
        assert '"id": 300' in fresh.stdout
    assert '"id": 300' in lookalike("search", "1", "--where", '{"n": -1}', "--json", env=env).stdout
    status = lookalike("status", env=env).stdout
    assert "standby" in status
    doctor = lookalike("doctor", env=env).stdout
    assert f"ok     standby:     {pair.host} answers searches" in doctor
    assert "/nowhere:5432 is left out" in doctor
    assert "is not a standby: it was promoted, or is the primary itself" in doctor
    shut = lookalike("search", "1", env={"LOOKALIKE_READ_DATABASE_URL": "postgresql:///lookalike?host=/nowhere"})
    assert shut.exit_code == 0
    assert len(shut.stdout.splitlines()) > 5


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (None, []),
        ("postgresql://u@a,b:5433/x", ["a:5432", "b:5433"]),
        ("host=a,b port=6000 dbname=x", ["a:6000", "b:6000"]),
        ("host=a hostaddr=10.0.0.1", ["a:5432"]),
        ("hostaddr=10.0.0.1,10.0.0.2", ["10.0.0.1:5432", "10.0.0.2:5432"]),
    ],
)
def test_hosts_are_read_as_libpq_reads_them(url: str | None, wanted: list[str]) -> None:
    found = replicas.hosts(Settings(read_database_url=url))
    assert [one.name for one in found] == wanted


@pytest.mark.parametrize(
    ("url", "expected"),
    [("nonsense", "is not a connection string"), ("host=a,b,c port=1,2", "3 hosts and 2 values for port")],
)
def test_an_invalid_list_of_hosts_is_refused(url: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=f"LOOKALIKE_READ_DATABASE_URL.*{expected}"):
        replicas.hosts(Settings(read_database_url=url))


@pytest.mark.parametrize(
    ("standby", "system", "lag", "any_", "expected"),
    [
        (True, 1, 0.0, False, None),
        (True, 2, 0.0, False, "another cluster"),
        (True, 1, 11.0, False, "11.0 s behind"),
        (False, 1, 0.0, False, "not a standby"),
        (False, 1, 0.0, True, None),
    ],
)
def test_unfit_reason(standby: bool, system: int, lag: float, any_: bool, expected: str | None) -> None:
    found = replicas.unfit_reason(standby, system, 1, lag, 10, accept_primary=any_)
    assert found == expected or (expected is not None and found is not None and expected in found)
