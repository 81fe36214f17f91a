"""A real embedded PostgreSQL for the session; for each test a database of its own, cloned from a migrated template."""

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

# Durability is not what is tested here, and several test processes share two cores.
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "256MB"}


def pytest_configure() -> None:
    """Let workers read the tests' files, and let children be interrupted, also where these tests run in the background,
    whose shell has SIGINT ignored.
    """
    # The tests' servers are named by URL, as a shared one would be, from which nothing is read unless it is allowed.
    os.environ.setdefault("LOOKALIKE_IMAGE_ROOTS", "/")
    os.environ.setdefault("LOOKALIKE_IMAGE_HOSTS", "*")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules marked as long, so that none of them is the last to end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.EmbeddedServer]:
    """The session's own server; a short path, since a unix socket's is limited."""
    home = Path(tempfile.mkdtemp(prefix="lookalike-test-"))
    home.chmod(0o755)
    try:
        with embedded.running(home, settings=FAST) as started:
            yield started
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def template(server: embedded.EmbeddedServer) -> str:
    """A migrated, empty database to clone."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    schema.upgrade(make_conninfo(server.url, dbname=TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
def new_database(server: embedded.EmbeddedServer) -> Callable[..., str]:
    """Create a database (a clone of `template`, where named) and return its URL; it goes with the server."""
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
            # A clone has the template's content, not the settings stored for it.
            with psycopg.connect(url) as conn:
                conn.execute("SELECT lookalike.tune_database()")
        return url

    return create


@pytest.fixture
def database_url(server: embedded.EmbeddedServer, new_database: Callable[..., str], template: str) -> Iterator[str]:
    """A migrated, empty database of this test's own, gone after it."""
    url = new_database(template)
    yield url
    with psycopg.connect(server.url, autocommit=True) as admin:
        name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def conn(database_url: str) -> Iterator[db.Connection]:
    """A connection to this test's database, autocommit off."""
    with db.connect(database_url) as connection:
        yield connection


@pytest.fixture
def auto(database_url: str) -> Iterator[db.Connection]:
    """A connection to this test's database, autocommit on."""
    with db.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def lite0() -> "Encoder":
    """The default model on the CPU, loaded once for the session."""
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
    """The name of a database to clone: the first 240 images of the demo gallery, embedded by a worker and indexed.

    The first test process that needs it makes it; the others restore its dump, because embedding takes much longer.
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
    """A gallery of the session's own with a live worker and the API: what a user has running."""
    url = new_database(gallery_template)
    with running.live_worker(url), running.live_api(url) as api:
        yield running.Running(url, api)
