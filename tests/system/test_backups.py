"""Backups restore a working system: a dump in another database, a base backup with point-in-time recovery.

The commands are those of docs/how-to/back-up.md.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from app import db
from app.db import embedded, schema
from app.db.embedded.place import chown_to_server, find_place, run_tool
from app.search import functions
from app.store import jobs, spaces
from app.store.jobs import Embedded
from tests.support.cli import runner
from tests.support.gallery_data import unit

_FILTERS: list[dict[str, Any] | None] = [None, {"category": "animals"}, {"brightness": {"$gt": 0.5}}]


def answers(conn: db.Connection, **options: Any) -> list[Any]:
    """Return the exact answers of several kinds of searches."""
    ids = [row[0] for row in conn.execute("SELECT id FROM lookalike.gallery ORDER BY id LIMIT 40")]
    found = [functions.similar(conn, one, k=10, filter=filter_, **options) for one in ids for filter_ in _FILTERS]
    return [[(one.image.uri, one.distance) for one in answer.hits] for answer in found]


def tool(server: embedded.EmbeddedServer, name: str, *arguments: object) -> None:
    command = [str(server.bin_dir / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower(), done.stderr


def test_a_restored_dump_is_a_working_system(
    server: embedded.EmbeddedServer, new_database: Any, gallery_template: str, tmp_path: Path, monkeypatch: Any
) -> None:
    source, restored = new_database(gallery_template), new_database()
    tool(server, "pg_dump", "--format=custom", f"--file={tmp_path / 'gallery.dump'}", source)
    tool(server, "pg_restore", "--exit-on-error", f"--dbname={restored}", tmp_path / "gallery.dump")
    lookalike = runner(monkeypatch, restored)
    report = " ".join(lookalike("doctor").stdout.split())
    assert "tune_database" in report, report
    with psycopg.connect(restored) as conn:
        conn.execute("SELECT lookalike.tune_database()")
    # Searches, by functions and by plain SQL, use the index that the restore built.
    with db.connect(source, autocommit=True) as before, db.connect(restored, autocommit=True) as after:
        assert answers(after, recall=1) == answers(before, recall=1)
        assert answers(after) == answers(after, recall=1)
        assert after.execute("SELECT bool_and(ok) FROM lookalike.settings_check").fetchone() == (True,)
        assert after.execute("SELECT count(*) FROM lookalike.jobs").fetchone() == (0,), "nothing is embedded again"
        schema.check(after)
        # Triggers, jobs, ids, settings of roles.
        row: Any = after.execute(
            "INSERT INTO lookalike.images (uri) VALUES ('new') RETURNING id > (SELECT max(id) FROM lookalike.gallery)"
        ).fetchone()
        assert row == (True,)
        after.execute(
            "UPDATE lookalike.images SET uri = uri || '?2' WHERE id = (SELECT min(id) FROM lookalike.gallery)"
        )
        assert after.execute("SELECT count(*) FROM lookalike.jobs").fetchone() == (2,)
        assert after.execute("SELECT count(*) FROM lookalike.space_gaps").fetchone() == (0,)
        granted = "SELECT bool_and(granted) FROM lookalike.roles_check WHERE present"
        assert after.execute(granted).fetchone() == before.execute(granted).fetchone()
    report = lookalike("doctor", "--only", "database").stdout
    assert "tune_database" not in report
    with psycopg.connect(server.url, autocommit=True) as admin:
        for url in (source, restored):
            admin.execute(f"DROP DATABASE {conninfo_to_dict(url)['dbname']} WITH (FORCE)")


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lookalike-backup-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def archiving(home: Path, archive: Path) -> Iterator[embedded.EmbeddedServer]:
    place = find_place(home)
    archive.mkdir()
    chown_to_server(place, archive)
    settings = {
        "archive_mode": "on",
        "archive_command": f"cp %p {archive}/%f",
        "fsync": "off",
        "shared_buffers": "64MB",
    }
    with embedded.running(home, settings=settings) as server:
        yield server


def fill(conn: db.Connection, count: int, *, seed: int) -> None:
    space = spaces.active(conn)
    conn.execute(
        "INSERT INTO lookalike.images (uri, attributes) SELECT %s || n, jsonb_build_object('n', n)"
        " FROM generate_series(1, %s) n",
        (f"/{seed}/", count),
    )
    lease = uuid4()
    claimed = jobs.claim(conn, space, lease=lease, most=count, lease_seconds=60)
    made = [
        Embedded(image_id=job.image_id, embedding=one, sha256=bytes(32), media_type="image/png", width=1, height=1)
        for job, one in zip(claimed, unit(count, 32, seed=seed), strict=True)
    ]
    assert len(jobs.finish(conn, space, lease=lease, embedded=made)) == count


def test_a_base_backup_recovers_to_the_point_before_the_accident(home: Path) -> None:
    archive, restored = home / "wal", home / "restored"
    with archiving(home / "server", archive) as server:
        schema.upgrade(server.url)
        with db.connect(server.url, autocommit=True) as conn:
            spaces.create(conn, name="s", model="m", weights=None, dimensions=32, preprocessing={}, fingerprint="f")
            conn.execute(
                "CREATE INDEX embeddings_1_hnsw ON lookalike.embeddings_1 USING hnsw (embedding halfvec_l2_ops)"
            )
            fill(conn, 600, seed=1)
            place = find_place(restored)
            place.data.mkdir(mode=0o700)
            chown_to_server(place, place.data)
            backup = run_tool(
                find_place(home / "server"),
                "pg_basebackup",
                *("--checkpoint=fast", "--wal-method=stream", f"--pgdata={place.data}"),
                *("--host", str(server.socket_dir), "--port", "5432", "--username", "postgres"),
            )
            assert backup.returncode == 0, backup.stderr
            # Changes after the backup, then an accident.
            fill(conn, 300, seed=2)
            conn.execute("UPDATE lookalike.images SET caption = 'kept' WHERE id <= 10")
            wanted = answers(conn)
            conn.execute("SELECT pg_create_restore_point('before the accident')")
            conn.execute("DELETE FROM lookalike.images")
            conn.execute("SELECT pg_switch_wal()")
    (place.data / "recovery.signal").touch()
    chown_to_server(place, place.data / "recovery.signal")
    recovery = {
        "restore_command": f"cp {archive}/%f %p",
        "recovery_target_name": "before the accident",
        "recovery_target_action": "promote",
        "fsync": "off",
    }
    with embedded.running(restored, settings=recovery) as server, db.connect(server.url, autocommit=True) as conn:
        while conn.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
            conn.execute("SELECT pg_sleep(0.1)")
        schema.check(conn)
        assert conn.execute("SELECT count(*), count(caption) FROM lookalike.gallery").fetchone() == (900, 10)
        assert answers(conn) == wanted
        assert conn.execute("SELECT bool_and(ok) FROM lookalike.settings_check").fetchone() == (True,)
        fill(conn, 5, seed=3)
        assert conn.execute("SELECT count(*) FROM lookalike.space_gaps").fetchone() == (0,)
