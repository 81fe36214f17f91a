"""Clients that write by SQL: insert, change, delete, re-add, lock, roll back. Each tracks its own images."""

import hashlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from bench.chaos.journal import Journal
from bench.chaos.pictures import Pictures

# Inserts pause while more jobs than this are queued, so that the queue can be drained at the end.
_BACKLOG = 160
_MOST_IMAGES = 45  # of one writer


@dataclass
class Ledger:
    """The acknowledged outcomes: ids that are present, and when each deleted one was gone (monotonic)."""

    present: set[int] = field(default_factory=set)
    absent: dict[int, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_there(self, image_id: int) -> None:
        with self.lock:
            self.present.add(image_id)

    def is_gone(self, image_id: int) -> None:
        with self.lock:
            self.present.discard(image_id)
            self.absent[image_id] = time.monotonic()

    def unsure(self, image_id: int) -> None:
        with self.lock:
            self.present.discard(image_id)

    def gone(self) -> frozenset[int]:
        with self.lock:
            return frozenset(self.absent)


@dataclass(eq=False)
class Owned:
    """An image of one writer. `others`: further uris that it may have, because a change was not acknowledged."""

    uri: str
    path: Path
    image_id: int | None = None
    others: dict[str, Path] = field(default_factory=dict)


class Writer(threading.Thread):
    """Writes at random until stopped; no other client writes its images."""

    def __init__(
        self, number: int, seed: int, url: str, pictures: Pictures, ledger: Ledger, journal: Journal, http: str
    ) -> None:
        super().__init__(name=f"writer-{number}", daemon=True)
        self._rng = random.Random(f"{seed} writer {number}")
        self._url, self._http = url, http
        self._pictures, self._ledger, self._journal = pictures, ledger, journal
        self._conn: psycopg.Connection[Any] | None = None
        self._mine: list[Owned] = []
        self.pause = threading.Event()  # set: rest when every write is settled
        self.resting = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        acts: list[tuple[Callable[[], None], int]] = [
            *((self._insert, 30), (self._new_bytes, 26), (self._new_uri, 8), (self._delete, 8), (self._again, 6)),
            *((self._metadata, 6), (self._hold, 4), (self._roll_back, 4), (self._bytes_of_many, 4)),
        ]
        kinds, weights = zip(*acts, strict=True)
        while not self.over.is_set():
            if self.pause.is_set():
                self.resting.set()
                time.sleep(0.05)
                continue
            self.resting.clear()
            (act,) = self._rng.choices(kinds, weights)
            if self._mine or act in (self._insert, self._roll_back):
                try:
                    act()
                except psycopg.errors.IntegrityError as error:
                    self._journal.violate("writers get no errors of others", f"{act.__name__}: {error}")
            time.sleep(self._rng.expovariate(8))
        if self._conn:
            self._conn.close()

    # Acts

    def _insert(self) -> None:
        if len(self._mine) >= _MOST_IMAGES or (self._scalar("SELECT count(*) FROM lookalike.jobs") or 0) > _BACKLOG:
            return
        many = self._rng.choice([1, 1, 1, 2, 4, 8])
        made = [self._new() for _ in range(many)]
        for one in made:
            self._put(one)
        self._write(made, lambda conn: self._insert_rows(conn, made))

    def _new_bytes(self) -> None:
        one = self._pick()
        digest = self._put(one)
        self._must(lambda conn: self._declare(conn, one, digest))

    def _bytes_of_many(self) -> None:
        some = self._rng.sample(self._mine, min(len(self._mine), 6))
        digests = [(one, self._put(one)) for one in some]

        def declare(conn: psycopg.Connection[Any]) -> None:
            for one, digest in sorted(digests, key=lambda pair: pair[0].image_id or 0):
                self._declare(conn, one, digest)

        self._must(declare)

    def _new_uri(self) -> None:
        one, new = self._pick(), self._new()
        self._put(new)
        one.others = {new.uri: new.path}
        if self._rng.random() < 0.5:  # half of the time with the sha256
            digest = hashlib.sha256(new.path.read_bytes()).digest() if new.path.exists() else None
            values = "uri = %(uri)s, sha256 = %(digest)s"
        else:
            digest, values = None, "uri = %(uri)s, sha256 = NULL"
        query = f"UPDATE lookalike.images SET {values} WHERE id = %(id)s"  # noqa: S608
        before = one.path

        def change(conn: psycopg.Connection[Any]) -> None:
            conn.execute(query, {"uri": new.uri, "digest": digest, "id": one.image_id})

        if self._write([one], change, lambda: self._move(one, new)) and one.path != before:
            before.unlink(missing_ok=True)

    def _delete(self) -> None:
        one = self._pick()

        def delete(conn: psycopg.Connection[Any]) -> None:
            conn.execute("DELETE FROM lookalike.images WHERE id = %s", (one.image_id,))

        self._write([one], delete, lambda: self._gone(one))
        if one not in self._mine:
            one.path.unlink(missing_ok=True)

    def _again(self) -> None:
        """Delete and add an image under the same uri with other bytes, in one transaction."""
        one = self._pick()
        before = one.image_id
        self._put(one)

        def replace(conn: psycopg.Connection[Any]) -> None:
            conn.execute("DELETE FROM lookalike.images WHERE id = %s", (before,))
            self._insert_rows(conn, [one])

        digest = hashlib.sha256(one.path.read_bytes()).digest() if one.path.exists() else None
        self._write([one], replace)
        if one.image_id == before:  # not replaced, but its bytes have changed
            self._must(lambda conn: self._declare(conn, one, digest))
        elif before is not None:
            self._ledger.is_gone(before)

    def _metadata(self) -> None:
        """Change metadata only, which may queue no job."""
        one = self._pick()
        self._write(
            [one],
            lambda conn: conn.execute(
                "UPDATE lookalike.images SET caption = %s, attributes = attributes || %s::jsonb WHERE id = %s",
                (f"caption {self._rng.random():.3f}", f'{{"price": {self._rng.randrange(100)}}}', one.image_id),
            ),
        )

    def _hold(self) -> None:
        """Keep rows locked for a while, like a client that waits between two statements."""
        some = self._rng.sample(self._mine, min(len(self._mine), 3))

        def hold(conn: psycopg.Connection[Any]) -> None:
            ids = [one.image_id for one in some]
            conn.execute("SELECT FROM lookalike.images WHERE id = ANY (%s) ORDER BY id FOR UPDATE", (ids,))
            time.sleep(self._rng.uniform(0.5, 3))
            conn.execute("UPDATE lookalike.images SET caption = 'held' WHERE id = ANY (%s)", (ids,))

        self._write(some, hold)

    def _roll_back(self) -> None:
        made = self._new()

        def regret(conn: psycopg.Connection[Any]) -> None:
            self._insert_rows(conn, [made])
            made.image_id = None
            raise psycopg.Rollback

        self._write([made], regret)
        if made.image_id is not None:
            self._journal.violate("a rollback leaves nothing", made.uri)

    # Files and rows

    def _pick(self) -> Owned:
        """Return an image, mostly a recently changed one, because a worker may have its old bytes in hand."""
        one = self._rng.choice(self._mine[-3:] if self._rng.random() < 0.6 else self._mine)
        self._mine.remove(one)
        self._mine.append(one)
        return one

    def _new(self) -> Owned:
        path = self._pictures.path()
        return Owned(f"{self._http}/{path.name}" if self._rng.random() < 0.15 else str(path), path)

    def _put(self, one: Owned) -> bytes | None:
        """Write other bytes into the image's file; return their sha256, or None if the file is deleted instead."""
        chance = self._rng.random()
        if chance < 0.02 and not one.uri.startswith("http"):
            one.path.unlink(missing_ok=True)
            return None
        if chance < 0.09:
            data = self._pictures.poison(self._rng)
        else:
            data = self._pictures.picture(self._rng, large=self._rng.random() < 0.05)
        self._pictures.write(one.path, data)
        return hashlib.sha256(data).digest()

    def _insert_rows(self, conn: psycopg.Connection[Any], made: list[Owned]) -> None:
        for one in made:
            with_hash = self._rng.random() < 0.4 and one.path.exists()
            row = conn.execute(
                "INSERT INTO lookalike.images (uri, sha256, attributes) VALUES (%s, %s, %s) RETURNING id",
                (one.uri, hashlib.sha256(one.path.read_bytes()).digest() if with_hash else None, '{"role": "crowd"}'),
            ).fetchone()
            one.image_id = int(row[0]) if row else None

    def _declare(self, conn: psycopg.Connection[Any], one: Owned, digest: bytes | None) -> None:
        """Announce new bytes under the same uri to the database, by the documented statements."""
        if digest is None:
            conn.execute("SELECT lookalike.enqueue(ARRAY[%s::bigint])", (one.image_id,))
            conn.execute("UPDATE lookalike.images SET sha256 = NULL WHERE id = %s", (one.image_id,))
        else:
            conn.execute("UPDATE lookalike.images SET sha256 = %s WHERE id = %s", (digest, one.image_id))

    @staticmethod
    def _move(one: Owned, new: Owned) -> None:
        one.uri, one.path, one.others = new.uri, new.path, {}

    def _gone(self, one: Owned) -> None:
        if one in self._mine:
            self._mine.remove(one)
        if one.image_id is not None:
            self._ledger.is_gone(one.image_id)

    # Transactions whose outcome may stay unknown

    def _write(
        self,
        touched: list[Owned],
        action: Callable[[psycopg.Connection[Any]], object],
        done: Callable[[], None] | None = None,
    ) -> bool:
        """Run `action` in a transaction; if the connection is lost, find out the outcome."""
        for one in touched:
            if one.image_id is not None:
                self._ledger.unsure(one.image_id)
        try:
            conn = self._connection()
            with conn.transaction():
                action(conn)
        except (psycopg.OperationalError, psycopg.Rollback):  # Rollback: the connection was lost while rolling back
            self._journal.count("writes cut off or refused")
            self._settle(touched)
            return False
        self._journal.count("writes committed")
        for one in touched:
            if one.image_id is not None:
                self._there(one)
            one.others = {} if done is None else one.others
        if done:
            done()
        return True

    def _must(self, action: Callable[[psycopg.Connection[Any]], object]) -> None:
        """Repeat `action` until it is committed."""
        while True:
            try:
                conn = self._connection()
                with conn.transaction():
                    action(conn)
            except psycopg.OperationalError:
                self._journal.count("writes cut off or refused")
                time.sleep(0.1)
            else:
                self._journal.count("writes committed")
                return

    def _settle(self, touched: list[Owned]) -> None:
        while True:
            try:
                conn = self._connection()
                for one in touched:
                    names = {one.uri: one.path, **one.others}
                    row = conn.execute(
                        "SELECT id, uri FROM lookalike.images WHERE uri = ANY (%s)", (list(names),)
                    ).fetchone()
                    if row is None:
                        self._gone(one)
                    else:
                        one.image_id, one.uri = int(row[0]), str(row[1])
                        one.path, one.others = names[one.uri], {}
                        self._there(one)
            except psycopg.OperationalError:
                time.sleep(0.1)
            else:
                return

    def _there(self, one: Owned) -> None:
        if one not in self._mine:
            self._mine.append(one)
        if one.image_id is not None:
            self._ledger.is_there(one.image_id)

    def _connection(self) -> psycopg.Connection[Any]:
        if self._conn is None or self._conn.closed or self._conn.broken:
            self._conn = psycopg.connect(self._url, autocommit=True, application_name="chaos writer", connect_timeout=5)
        return self._conn

    def _scalar(self, query: str) -> int | None:
        try:
            row = self._connection().execute(query).fetchone()  # type: ignore[arg-type]
        except psycopg.OperationalError:
            return None
        return int(row[0]) if row else None
