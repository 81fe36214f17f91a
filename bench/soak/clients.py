"""The load: searches in SQL and over HTTP at a steady rate, and changes of images. Each client is a process.

Clients record the answers; bench.soak.judge judges them afterwards.
"""

import http.client
import json
import pickle
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from app import db
from app.errors import LookalikeError, SpaceChangedError
from app.search import functions
from app.store import spaces
from bench.soak.pool import RARE

_PLAIN = """
SELECT uri, embedding <-> lookalike.embedding_of(%s) AS distance FROM lookalike.gallery
WHERE attributes @> %s ORDER BY embedding <-> lookalike.embedding_of(%s) LIMIT 10
"""


@dataclass(frozen=True)
class Load:
    """The input of every client: the database, the API, the pictures, and the images that never change."""

    url: str
    api: str
    anchors: dict[int, int]  # image id → picture
    numbers: dict[str, int]  # uri → picture
    files: list[str]
    embeddings: dict[str, str]  # model → file of its embeddings
    a_second: float
    seed: int


@dataclass(frozen=True)
class Search:
    """One search and its answer. `found`: (picture, distance), nearest first. `least`: rows that it must return."""

    began: float
    seconds: float
    kind: str
    error: str
    space: str
    query: int
    least: int
    found: list[tuple[int, float]]


Answer = tuple[str, list[tuple[int, float]]]


def run_searches(load: Load, name: str, ready: Any, over: Event, results: str) -> None:  # noqa: ANN401
    """Search until `over`, then write the answers to the file `results`; put a name into `ready` at the start."""
    client = _Sql(load, name) if name.startswith("sql") else _Http(load, name)
    ready.put(name)
    done: list[Search] = []
    rng = random.Random(f"{load.seed} {name}")
    due = time.monotonic()
    while not over.is_set():
        due = max(due + rng.expovariate(load.a_second), time.monotonic() - 1)
        time.sleep(max(0.0, due - time.monotonic()))
        image_id, query = rng.choice(list(load.anchors.items()))
        kind = client.pick(rng)
        least = (RARE - (query < RARE)) if kind.endswith("rare") else 10
        began, error, answer = time.monotonic(), "", ("", [])
        try:
            answer = client.acts[kind](image_id, query)
        except (LookalikeError, psycopg.Error, OSError, http.client.HTTPException, ValueError, KeyError) as broken:
            error = f"{type(broken).__name__}: {broken}"[:300]
        done.append(Search(began, time.monotonic() - began, kind, error, answer[0], query, least, answer[1]))
    Path(results).write_bytes(pickle.dumps(done))


class _Sql:
    """Searches with app.search.functions, and with the plain statement that an analyst writes."""

    def __init__(self, load: Load, name: str) -> None:
        self._load = load
        self._conn = db.connect(load.url, autocommit=True, application=f"soak {name}")
        self._vectors = {model: np.load(file) for model, file in load.embeddings.items()}
        self.acts: dict[str, Callable[[int, int], Answer]] = {
            "similar": lambda image_id, _: self._similar(image_id),
            "filtered": lambda image_id, query: self._similar(image_id, {"category": f"c{query % 8}"}),
            "rare": lambda image_id, _: self._similar(image_id, {"rare": True}),
            "vector": self._vector,
            "plain": self._plain,
        }

    def pick(self, rng: random.Random) -> str:
        return rng.choices(list(self.acts), [4, 3, 1, 3, 2])[0]

    def _similar(self, image_id: int, filter_: dict[str, Any] | None = None) -> Answer:
        return self._answer(functions.similar(self._conn, image_id, k=10, filter=filter_))

    def _vector(self, _: int, query: int) -> Answer:
        """Search by a vector of the last active space; if the space has changed, take the vector of the new one."""
        while True:
            space = self._active or self._read_active()
            try:
                vector = self._vectors[space[2]][query]
                return self._answer(functions.search(self._conn, vector, k=10, in_space=space[0]))
            except SpaceChangedError:
                self._active = None

    _active: tuple[int, str, str] | None = None

    def _read_active(self) -> tuple[int, str, str]:
        held = spaces.active(self._conn)
        self._active = held.id, held.name, held.model
        return self._active

    def _plain(self, image_id: int, query: int) -> Answer:
        rows: list[Any] = self._conn.execute(
            _PLAIN, (image_id, Jsonb({"category": f"c{query % 8}"}), image_id)
        ).fetchall()
        return "", [(self._load.numbers[row[0]], float(row[1])) for row in rows]

    def _answer(self, answer: Any) -> Answer:  # noqa: ANN401
        return answer.space, [(self._load.numbers[one.image.uri], one.distance) for one in answer.hits]


class _Http:
    """Searches through the API over one kept-alive connection, like a client's pool."""

    def __init__(self, load: Load, name: str) -> None:
        self._load = load
        self._host = urlsplit(load.api).netloc
        self._conn: http.client.HTTPConnection | None = None
        self.acts: dict[str, Callable[[int, int], Answer]] = {
            "http": lambda image_id, _: self._post({"image_id": image_id, "k": 10}),
            "http filtered": lambda image_id, query: self._post(
                {"image_id": image_id, "k": 10, "filter": {"category": f"c{query % 8}"}}
            ),
            "http rare": lambda image_id, _: self._post({"image_id": image_id, "k": 10, "filter": {"rare": True}}),
            "http similar": lambda image_id, _: self._send("GET", f"/v1/images/{image_id}/similar?k=10"),
            "picture": lambda _, query: self._picture(query),
        }
        self._name = name

    def pick(self, rng: random.Random) -> str:
        return rng.choices(list(self.acts), [4, 3, 1, 3, 0.4])[0]

    def _post(self, body: dict[str, Any]) -> Answer:
        return self._send("POST", "/v1/search", json.dumps(body).encode(), "application/json")

    def _picture(self, query: int) -> Answer:
        """Search by the file of a stored picture with new bytes after its end, so that a worker must embed it."""
        boundary = uuid.uuid4().hex
        data = Path(self._load.files[query]).read_bytes() + uuid.uuid4().bytes
        part = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="q"\r\n\r\n'.encode()
        body = part + data + f"\r\n--{boundary}--\r\n".encode()
        return self._send("POST", "/v1/search", body, f"multipart/form-data; boundary={boundary}")

    def _send(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> Answer:
        """Send a request; send it again if the server closed the kept-alive connection before it answered.

        Every client's pool does this, because a server may close an idle connection at any moment.
        """
        headers = {"Content-Type": kind} if kind else {}
        fresh = self._conn is None
        if self._conn is None:
            self._conn = http.client.HTTPConnection(self._host, timeout=30)
        try:
            self._conn.request(method, path, body, headers)
            response = self._conn.getresponse()
            text = response.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._conn.close()
            self._conn = None
            if fresh:
                raise
            return self._send(method, path, body, kind)
        if response.will_close:
            self._conn.close()
            self._conn = None
        if response.status != 200:
            raise ValueError(f"{response.status}: {text[:200].decode(errors='replace')}")
        found = json.loads(text)
        return found["space"], [(self._load.numbers[one["image"]["uri"]], one["distance"]) for one in found["results"]]


def run_changes(
    load: Load,
    free: list[int],
    held: dict[int, int],
    ready: Any,  # noqa: ANN401
    over: Event,
    results: str,
) -> None:
    """Insert, update and delete images at a steady rate until `over`; write times, errors and the images left."""
    rng = random.Random(f"{load.seed} changes")
    taken: list[tuple[float, float, str, str]] = []
    uris = {number: uri for uri, number in load.numbers.items()}
    with db.connect(load.url, autocommit=True, application="soak changes") as conn:
        ready.put("changes")
        due = time.monotonic()
        while not over.is_set():
            due = max(due + 1 / load.a_second, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
            kind = rng.choice(["insert", "update", "delete"])
            began, error = time.monotonic(), ""
            number = free[rng.randrange(len(free))] if free else None
            image_id = rng.choice(list(held))
            try:
                if kind == "delete" or number is None:
                    kind = "delete"
                    conn.execute("DELETE FROM lookalike.images WHERE id = %s", (image_id,))
                    free.append(held.pop(image_id))
                elif kind == "update":
                    conn.execute(
                        "UPDATE lookalike.images SET uri = %s, attributes = %s WHERE id = %s",
                        (uris[number], Jsonb(_attributes(number)), image_id),
                    )
                    free.remove(number)
                    free.append(held[image_id])
                    held[image_id] = number
                else:
                    row: Any = conn.execute(
                        "INSERT INTO lookalike.images (uri, attributes) VALUES (%s, %s) RETURNING id",
                        (uris[number], Jsonb(_attributes(number))),
                    ).fetchone()
                    free.remove(number)
                    held[row[0]] = number
            except (psycopg.Error, LookalikeError) as broken:
                error = f"{type(broken).__name__}: {broken}"[:300]
            taken.append((began, time.monotonic() - began, kind, error))
    with suppress(FileNotFoundError):
        Path(results).write_bytes(pickle.dumps((taken, held)))


def _attributes(number: int) -> dict[str, Any]:
    return {"category": f"c{number % 8}", "rank": number}
