"""Run an embedded primary and a streaming standby, created by pg_basebackup, both on unix sockets."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from app import db
from app.db import embedded, schema
from bench.api import standby
from tests.conftest import FAST
from tests.support import clients

# The settings in docs/how-to/use-read-replicas.md.
SETTINGS = {**FAST, "hot_standby_feedback": "on", "max_standby_streaming_delay": "1s"}


class Pair:
    """The two servers. Tests may stop and start the standby."""

    def __init__(self, home: Path, primary: embedded.EmbeddedServer) -> None:
        self._home = home
        self._standby = ExitStack()
        self.url = primary.url
        self.read_url = ""
        self.pid = 0

    def start_standby(self) -> None:
        started = self._standby.enter_context(embedded.running(self._home, settings=SETTINGS))
        self.read_url, self.pid = started.url, started.pid

    def stop_standby(self) -> None:
        self._standby.close()

    @property
    def host(self) -> str:
        """The standby's name in messages."""
        return f"{conninfo_to_dict(self.read_url)['host']}:5432"

    def on_standby(self, statement: str) -> None:
        with db.connect(self.read_url, autocommit=True) as conn:
            conn.execute(statement)  # type: ignore[arg-type]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause the standby's replay within the block, and let it catch up afterwards."""
        self.on_standby("SELECT pg_wal_replay_pause()")
        with db.connect(self.read_url, autocommit=True) as conn:
            while conn.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() != ("paused",):
                time.sleep(0.01)
        try:
            yield
        finally:
            self.on_standby("SELECT pg_wal_replay_resume()")
            self.catch_up()

    def catch_up(self) -> None:
        with db.connect(self.url, autocommit=True) as conn:
            row = conn.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        with db.connect(self.read_url, autocommit=True) as conn:
            deadline = time.monotonic() + 30
            while conn.execute("SELECT pg_last_wal_replay_lsn() >= %s", row).fetchone() != (True,):
                assert time.monotonic() < deadline
                time.sleep(0.01)


@contextmanager
def running_pair() -> Iterator[Pair]:
    """Run a primary with the gallery of tests.support.clients in a space `s`, and its standby."""
    folder = Path(tempfile.mkdtemp(prefix="lookalike-pair-"))
    folder.chmod(0o755)
    try:
        with embedded.running(folder / "a", settings=FAST) as primary:
            schema.upgrade(primary.url)
            clients.fill(primary.url)
            standby.make(primary, folder / "b")
            pair = Pair(folder / "b", primary)
            pair.start_standby()
            try:
                yield pair
            finally:
                pair.stop_standby()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
