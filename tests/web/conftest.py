"""A small gallery with hand-made embeddings, and the API on it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from flask.testing import FlaskClient
from flask_openapi3.openapi import OpenAPI

from app.config import Settings
from app.web import create_app
from app.web.services import EXTENSION
from tests.support.api import fill


@pytest.fixture(scope="session")
def gallery_template(new_database: Callable[..., str], template: str) -> str:
    url = new_database(template)
    fill(url)
    return psycopg.conninfo.conninfo_to_dict(url)["dbname"]  # type: ignore[return-value]


@pytest.fixture
def gallery_url(new_database: Callable[..., str], gallery_template: str) -> str:
    """A gallery for this test alone."""
    return new_database(gallery_template)


@pytest.fixture
def make_client(tmp_path: Path) -> Iterator[Callable[..., FlaskClient]]:
    """Make a client of the API on a database; settings by name."""
    apps: list[OpenAPI] = []

    def make(url: str, **changes: object) -> FlaskClient:
        app = create_app(Settings(home=tmp_path / "home", **changes), url)
        apps.append(app)
        return app.test_client()

    yield make
    for app in apps:
        app.extensions[EXTENSION].database.close()


@pytest.fixture
def client(make_client: Callable[..., FlaskClient], gallery_url: str) -> FlaskClient:
    """The API on a gallery for this test alone."""
    return make_client(gallery_url)


@pytest.fixture(scope="session")
def reader_url(new_database: Callable[..., str], gallery_template: str) -> str:
    """A shared gallery, whose images 1 to 30 no test may change."""
    return new_database(gallery_template)


@pytest.fixture(scope="session")
def reader(reader_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """The API on the shared gallery."""
    app = create_app(Settings(home=tmp_path_factory.mktemp("home")), reader_url)
    yield app.test_client()
    app.extensions[EXTENSION].database.close()
