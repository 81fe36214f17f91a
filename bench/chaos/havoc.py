"""The disturbances, at random moments from a seed."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg

from app.errors import LookalikeError
from bench.chaos.journal import Journal
from bench.chaos.processes import API, Fleet, Postgres

# Simulates a full disk: while the switch is on, statements that write fail with its SQLSTATE.
DISK = """
CREATE SCHEMA IF NOT EXISTS chaos;
CREATE TABLE IF NOT EXISTS chaos.disk (is_full boolean NOT NULL);
INSERT INTO chaos.disk SELECT false WHERE NOT EXISTS (SELECT FROM chaos.disk);
CREATE OR REPLACE FUNCTION chaos.write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT d.is_full FROM chaos.disk d) THEN
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
    END IF;
    RETURN NULL;
END $$;
"""


class Havoc(threading.Thread):
    """Causes about `rate` disturbances a second while `active` is set."""

    def __init__(
        self, seed: int, postgres: Postgres, fleet: Fleet, journal: Journal, *, rate: float, lease: float
    ) -> None:
        super().__init__(name="havoc", daemon=True)
        self._rng = random.Random(f"{seed} havoc")
        self._postgres, self._fleet, self._journal = postgres, fleet, journal
        self._rate, self._lease = rate, lease
        self.active, self.idle, self.over = threading.Event(), threading.Event(), threading.Event()
        self._frozen: list[threading.Thread] = []

    def run(self) -> None:
        acts: list[tuple[Callable[[], None], int]] = [
            *((self.kill_worker, 36), (self.kill_api_process, 8), (self.kill_api, 2), (self.kill_postgres, 4)),
            *((self.kill_backend, 5), (self.end_connections, 12), (self.cancel_statements, 4)),
            *((self.freeze_worker, 5), (self.terminate_worker, 6), (self.fill_disk, 3), (self.drop_index, 1)),
        ]
        kinds, weights = zip(*acts, strict=True)
        while not self.over.is_set():
            if not self.active.is_set():
                for thread in self._frozen:
                    thread.join()
                self._frozen.clear()
                self.idle.set()
                time.sleep(0.05)
                continue
            self.idle.clear()
            (act,) = self._rng.choices(kinds, weights)
            try:
                act()
            except (psycopg.Error, ProcessLookupError, FileNotFoundError):
                self._journal.count("disturbances without a target")
            except LookalikeError as error:
                self._journal.violate("PostgreSQL starts again", str(error))
            time.sleep(self._rng.expovariate(self._rate))

    # Processes

    def kill_worker(self) -> None:
        slot = self._fleet.pick(self._rng, "worker")
        if slot and self._fleet.end(slot, signal.SIGKILL, status=-signal.SIGKILL):
            self._journal.note("kill -9 a worker", slot.name)

    def terminate_worker(self) -> None:
        slot = self._fleet.pick(self._rng, "worker")
        if slot and self._fleet.end(slot, signal.SIGTERM, status=0):
            self._journal.note("SIGTERM a worker", slot.name)

    def freeze_worker(self) -> None:
        """Stop a worker for longer than its leases, then let it go on with jobs that are no longer its own."""
        slot = self._fleet.pick(self._rng, "worker")
        if slot and (pid := self._fleet.freeze(slot)):
            seconds = self._lease * self._rng.uniform(1.2, 2.5)
            self._journal.note("SIGSTOP a worker beyond its lease", f"{slot.name} for {seconds:.1f} s")

            def thaw() -> None:
                time.sleep(seconds)
                self._fleet.thaw(slot, pid)

            self._frozen.append(threading.Thread(target=thaw, daemon=True))
            self._frozen[-1].start()

    def kill_api_process(self) -> None:
        if children := self._fleet.api_children():
            os.kill(self._rng.choice(children), signal.SIGKILL)
            self._journal.note("kill -9 an API process")

    def kill_api(self) -> None:
        slot = self._fleet.slots[API]
        if self._fleet.end(slot, signal.SIGKILL, status=-signal.SIGKILL):
            self._journal.note("kill -9 the API's master")

    # PostgreSQL

    def kill_postgres(self) -> None:
        self._postgres.kill()
        self._journal.note("kill -9 PostgreSQL")
        time.sleep(self._rng.choice([0, 0.2, 1, 3]))
        self._postgres.start()

    def kill_backend(self) -> None:
        kinds = ["client backend", "client backend", "checkpointer", "walwriter", "background writer"]
        with self._connect() as conn:
            row = conn.execute(
                "SELECT pid, application_name FROM pg_stat_activity"
                " WHERE backend_type = %s AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1",
                (self._rng.choice(kinds),),
            ).fetchone()
        if row:
            os.kill(int(row[0]), signal.SIGKILL)
            self._journal.note("kill -9 a server process", row[1])

    def end_connections(self) -> None:
        who = self._rng.choice(["lookalike worker", "lookalike worker%", "lookalike api", "chaos writer"])
        with self._connect() as conn:
            row = conn.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE %s", (who,)
            ).fetchone()
        self._journal.note("pg_terminate_backend", f"{row[0] if row else 0} of {who}")

    def cancel_statements(self) -> None:
        with self._connect() as conn:
            row = conn.execute(
                "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
                " WHERE state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchone()
        self._journal.note("pg_cancel_backend", row[0] if row else 0)

    def fill_disk(self) -> None:
        with self._connect() as conn:
            conn.execute("UPDATE chaos.disk SET is_full = true")
        self._journal.note("no space left on device")
        time.sleep(self._rng.uniform(1, 3))
        self.empty_disk()

    def empty_disk(self) -> None:
        while True:
            try:
                with self._connect() as conn:
                    conn.execute("UPDATE chaos.disk SET is_full = false")
            except psycopg.Error:
                time.sleep(0.1)
            else:
                return

    def drop_index(self) -> None:
        """Drop an index, so that workers rebuild it during the havoc."""
        with self._connect() as conn:
            row = conn.execute(
                "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
                " JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw' ORDER BY random() LIMIT 1"
            ).fetchone()
            if row:
                conn.execute("SET lock_timeout = '2s'")
                conn.execute(f"DROP INDEX {row[0]}")
                self._journal.note("drop an HNSW index", row[0])

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._postgres.url, autocommit=True, application_name="chaos havoc", connect_timeout=5)


class Host(ThreadingHTTPServer):
    """Serves the pictures over http and fails like real hosts: 503, a broken connection, a body cut short."""

    daemon_threads = True

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.rng = random.Random(f"{seed} host")
        self.failing = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a worker that was killed while it was reading."""


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        try:
            data = (self.server.folder / Path(self.path).name).read_bytes()
        except FileNotFoundError:
            self.send_error(404)
            return
        trouble = self.server.rng.random() if self.server.failing else 1
        if trouble < 0.1:
            self.send_error(503)
            return
        if trouble < 0.15:
            self.connection.close()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if trouble < 0.2 else data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing, because the worker logs the failures."""
