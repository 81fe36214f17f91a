"""Clients of the HTTP API. Each answer must be right, or a 503 with Retry-After and the error's shape."""

import hashlib
import http.client
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.chaos.journal import Journal
from bench.chaos.pictures import Pictures
from bench.chaos.reference import Reference
from bench.chaos.writers import Ledger

_K = 5
_PATIENCE = 45.0  # a request that hangs longer is a violation: the API's own limits are 10 s and 30 s
_TOLERANCE = 5e-3  # between a distance of halfvecs and one of the reference


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer whose body is JSON (None: empty)."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Api:
    """Sends requests and judges what holds for any answer."""

    def __init__(self, port: int, journal: Journal) -> None:
        self._port = port
        self._journal = journal

    def ask(
        self, method: str, path: str, *, good: tuple[int, ...], body: bytes = b"", kind: str = "application/json"
    ) -> Reply | None:
        """Send a request; return the reply, or None if the connection broke.

        A status other than `good` and 503 is a violation.
        """
        name = f"{method} {path.split('?')[0].rstrip('0123456789')}"
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)
        try:
            connection.request(method, path, body or None, {"Content-Type": kind} if body else {})
            response = connection.getresponse()
            status, headers, raw = response.status, dict(response.getheaders()), response.read()
        except TimeoutError:
            self._journal.violate("every request is answered", f"{name}: no answer after {_PATIENCE:.0f} s")
            return None
        except (OSError, http.client.HTTPException):
            self._journal.count("requests cut off or refused")
            time.sleep(0.3)
            return None
        finally:
            connection.close()
        self._journal.count(f"answers {status}")
        reply = Reply(status, headers, self._parsed(name, raw))
        if status == 503:
            self._check_503(name, reply)
        elif status not in good:
            self._journal.violate("no answer but a right one or a 503", f"{name}: {status} {raw[:300]!r}")
        if time.monotonic() - began > 35:
            self._journal.count("answers that took over 35 s")
        return reply

    def _parsed(self, name: str, raw: bytes) -> Any:  # noqa: ANN401 (JSON)
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            self._journal.violate("every answer is JSON", f"{name}: {raw[:200]!r}")
            return None

    def _check_503(self, name: str, reply: Reply) -> None:
        error = (reply.body or {}).get("error", {})
        self._journal.count(f"503 {error.get('code')}")
        if not error.get("message") or not error.get("request_id"):
            self._journal.violate("a 503 has the error's shape", f"{name}: {reply.body}")
        if "Retry-After" not in reply.headers:
            self._journal.violate("a 503 has Retry-After", f"{name}: {reply.body}")


class Asker(threading.Thread):
    """Searches by pictures, ids and vectors among the anchors, which never change, so that each answer is certain."""

    def __init__(
        self,
        number: int,
        seed: int,
        api: Api,
        pictures: Pictures,
        reference: Reference,
        anchors: Mapping[int, NDArray[np.float64]],
        ledger: Ledger,
        journal: Journal,
    ) -> None:
        super().__init__(name=f"asker-{number}", daemon=True)
        self._rng = random.Random(f"{seed} asker {number}")
        self._api, self._pictures, self._reference = api, pictures, reference
        self._ids = list(anchors)
        self._matrix = np.stack(list(anchors.values()))
        self._ledger, self._journal = ledger, journal
        self._asked: list[bytes] = []
        self.over = threading.Event()

    def run(self) -> None:
        acts: list[tuple[Callable[[], bool], int]] = [(self.by_picture, 5), (self.by_vector, 3), (self.similar, 3)]
        acts += [(self.crowd, 3), (self.status, 1)]
        kinds, weights = zip(*acts, strict=True)
        while not self.over.is_set():
            (act,) = self._rng.choices(kinds, weights)
            act()
            time.sleep(self._rng.expovariate(6))

    def by_picture(self) -> bool:
        if self._asked and self._rng.random() < 0.4:
            data = self._rng.choice(self._asked)
        else:
            data = self._pictures.picture(self._rng)
            self._asked = [*self._asked[-20:], data]
        fields = {"k": str(_K), "filter": '{"role": "anchor"}', "recall": "1"}
        body, kind = multipart(data, fields)
        reply = self._api.ask("POST", "/v1/search", good=(200,), body=body, kind=kind)
        return self._judge("by picture", reply, lambda: self._matrix @ self._reference.vector(data))

    def by_vector(self) -> bool:
        vector = self._rng.choice(self._matrix) + 0.3 * self._matrix[0]
        vector = vector / np.linalg.norm(vector)
        body = {"vector": vector.tolist(), "k": _K, "filter": {"role": "anchor"}, "recall": 1}
        reply = self._api.ask("POST", "/v1/search", good=(200,), body=json.dumps(body).encode())
        return self._judge("by vector", reply, lambda: self._matrix @ vector)

    def similar(self) -> bool:
        at = self._rng.randrange(len(self._ids))
        path = f"/v1/images/{self._ids[at]}/similar?k={_K}&recall=1&filter=%7B%22role%22:%22anchor%22%7D"
        reply = self._api.ask("GET", path, good=(200,))
        closeness = self._matrix @ self._matrix[at]
        closeness[at] = -2
        return self._judge("similar", reply, lambda: closeness)

    def crowd(self) -> bool:
        """Search all images: the answer must have k rows in order, and none deleted before the request."""
        gone = self._ledger.gone()
        path = f"/v1/images/{self._rng.choice(self._ids)}/similar?k=8"
        reply = self._api.ask("GET", path, good=(200,))
        if reply is None or reply.status != 200:
            return False
        found = reply.body["results"]
        distances = [one["distance"] for one in found]
        ids = {one["image"]["id"] for one in found}
        if len(ids) != 8 or distances != sorted(distances):
            self._journal.violate("k rows, in order, no row twice", f"{len(ids)} ids at {distances}")
        if ids & gone:
            self._journal.violate("no deleted image is found", str(sorted(ids & gone)))
        return True

    def status(self) -> bool:
        self._api.ask("GET", "/healthz", good=(200,))
        self._api.ask("GET", "/v1/status", good=(200,))
        reply = self._api.ask("GET", "/readyz", good=(200,))
        return reply is not None and reply.status == 200

    def _judge(self, name: str, reply: Reply | None, closeness: Callable[[], NDArray[np.float64]]) -> bool:
        if reply is None or reply.status != 200:
            return False
        true = closeness()
        expected = np.sqrt(np.maximum(0, 2 - 2 * np.sort(true)[::-1][:_K]))
        found = {one["image"]["id"]: one["distance"] for one in reply.body["results"]}
        if len(found) != _K or not set(found) <= set(self._ids):
            self._journal.violate("a search has min(k, matching) rows that match", f"{name}: {found}")
            return False
        got = np.array(list(found.values()))
        own = np.sqrt(np.maximum(0, [2 - 2 * true[self._ids.index(one)] for one in found]))
        if np.abs(got - expected).max() > _TOLERANCE or np.abs(got - own).max() > _TOLERANCE:
            self._journal.violate("a search's answer is exact", f"{name}: {got} instead of {expected}")
            return False
        self._journal.count("answers proven right")
        return True


class Uploader(threading.Thread):
    """Uploads and deletes pictures; repeats each request until it has an answer."""

    def __init__(self, number: int, seed: int, api: Api, pictures: Pictures, ledger: Ledger, journal: Journal) -> None:
        super().__init__(name=f"uploader-{number}", daemon=True)
        self._rng = random.Random(f"{seed} uploader {number}")
        self._api, self._pictures, self._ledger, self._journal = api, pictures, ledger, journal
        self._mine: list[int] = []
        self.pause, self.resting, self.over = threading.Event(), threading.Event(), threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            if self.pause.is_set():
                self.resting.set()
                time.sleep(0.05)
                continue
            self.resting.clear()
            if self._mine and (len(self._mine) > 25 or self._rng.random() < 0.4):
                self._delete()
            else:
                self._upload()
            time.sleep(self._rng.expovariate(2))

    def _upload(self) -> None:
        data = self._pictures.picture(self._rng)
        body, kind = multipart(data, {"attributes": '{"role": "crowd"}'})
        while not self.over.is_set():
            # 409: an earlier attempt was cut off, but committed.
            reply = self._api.ask("POST", "/v1/images", good=(201, 409), body=body, kind=kind)
            if reply and reply.status in (201, 409):
                image_id = self._id_of(reply, data)
                if image_id is not None:
                    self._mine.append(image_id)
                    self._ledger.is_there(image_id)
                return
            time.sleep(0.3)

    def _id_of(self, reply: Reply, data: bytes) -> int | None:
        if reply.status == 201:
            if reply.body["sha256"] != hashlib.sha256(data).hexdigest():
                self._journal.violate("an upload is what was sent", str(reply.body))
            return int(reply.body["id"])
        words = reply.body["error"]["message"].split()
        return int(words[1]) if words[:1] == ["image"] and words[1].isdecimal() else None

    def _delete(self) -> None:
        image_id = self._rng.choice(self._mine)
        self._ledger.unsure(image_id)
        while not self.over.is_set():
            reply = self._api.ask("DELETE", f"/v1/images/{image_id}", good=(204, 404))
            if reply and reply.status in (204, 404):
                self._mine.remove(image_id)
                self._ledger.is_gone(image_id)
                return
            time.sleep(0.3)


def multipart(image: bytes, fields: Mapping[str, str]) -> tuple[bytes, str]:
    """Return the body and content type of a form with the file `image` and these fields."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'.encode()
    return b"".join(
        [*parts, head, image, f"\r\n--{boundary}--\r\n".encode()]
    ), f"multipart/form-data; boundary={boundary}"
