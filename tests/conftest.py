"""A real embedded PostgreSQL server per session, and per test a database cloned from a migrated template."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app import db
from app.db import embedded, schema
from app.index.build import build_index
from app.store import spaces
from tests.support import running

if TYPE_CHECKING:
    from workers.encoder import Encoder

TEMPLATE = "lookalike_template"

# Without durability, because no test here needs it and several test processes share two cores.
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "256MB"}


def pytest_configure() -> None:
    """Let workers read the tests' files, and restore SIGINT, which a shell ignores for tests in the background."""
    # The tests name their servers by URL, as they would a shared one, so nothing is readable by default.
    os.environ.setdefault("LOOKALIKE_IMAGE_ROOTS", "/")
    os.environ.setdefault("LOOKALIKE_IMAGE_HOSTS", "*")
    # Workers measure neither precision nor batch size: tests/workers/test_encoder.py and the demo do that. Threads that
    # wait for each other sleep, because several test processes share two cores.
    os.environ.setdefault("LOOKALIKE_PRECISION", "fp32")
    os.environ.setdefault("LOOKALIKE_BATCH_SIZE", "4")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the modules marked as long, so that none of them ends last."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.EmbeddedServer]:
    """Run the session's server, in a short path because the path of a unix socket is limited."""
    home = Path(tempfile.mkdtemp(prefix="lookalike-test-"))
    home.chmod(0o755)
    try:
        with embedded.running(home, settings=FAST) as started:
            yield started
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def template(server: embedded.EmbeddedServer) -> str:
    """Return the name of a migrated, empty database to clone."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    schema.upgrade(make_conninfo(server.url, dbname=TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
def new_database(server: embedded.EmbeddedServer) -> Callable[..., str]:
    """Return a function that creates a database (a clone of `template`, if given) and returns its URL."""
    numbers = count()

    def create(template: str | None = None) -> str:
        name = f"test_{next(numbers)}"
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template or "template0")
                )
            )
        url = make_conninfo(server.url, dbname=name)
        if template:
            # A clone has the template's content, but not its database settings.
            with psycopg.connect(url) as conn:
                conn.execute("SELECT lookalike.tune_database()")
        return url

    return create


@pytest.fixture
def database_url(server: embedded.EmbeddedServer, new_database: Callable[..., str], template: str) -> Iterator[str]:
    """Yield the URL of a migrated, empty database for this test, and drop it afterwards."""
    url = new_database(template)
    yield url
    with psycopg.connect(server.url, autocommit=True) as admin:
        name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def conn(database_url: str) -> Iterator[db.Connection]:
    """Yield a connection to this test's database, with autocommit off."""
    with db.connect(database_url) as connection:
        yield connection


@pytest.fixture
def auto(database_url: str) -> Iterator[db.Connection]:
    """Yield a connection to this test's database, with autocommit on."""
    with db.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def lite0() -> "Encoder":
    """Return the default model on the CPU, loaded once per session."""
    from workers.encoder import Encoder
    from workers.models import load_model

    return Encoder(load_model("tf_efficientnet_lite0"), device="cpu")


@pytest.fixture(scope="session")
def gallery_template(
    server: embedded.EmbeddedServer,
    new_database: Callable[..., str],
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """Return the name of a database to clone, with 240 images of the demo gallery, embedded and indexed.

    The first test process that needs it creates it; the others restore its dump, because embedding takes much longer.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    dump = shared / "gallery.dump"
    with (shared / "gallery.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if dump.exists():
            url = new_database()
            subprocess.run([server.bin_dir / "pg_restore", f"--dbname={url}", dump], check=True)
        else:
            url = new_database(template)
            running.embed_gallery(url, images=240)
            with db.connect(url, autocommit=True) as connection:
                build_index(connection, spaces.active(connection))
            subprocess.run([server.bin_dir / "pg_dump", "--format=custom", f"--file={dump}", url], check=True)
    return str(conninfo_to_dict(url)["dbname"])


@pytest.fixture(scope="session")
def live(new_database: Callable[..., str], gallery_template: str) -> Iterator[running.Running]:
    """Run a live worker and the API on a gallery for the session, as a user would."""
    url = new_database(gallery_template)
    with running.live_worker(url), running.live_api(url) as api:
        yield running.Running(url, api)
