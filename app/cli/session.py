"""What a command stands on: the settings, the database, a connection."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.errors import ConfigurationError

if TYPE_CHECKING:
    from app.config import Settings
    from app.db import Connection


def settings(*, log_format: str = "%(message)s") -> "Settings":
    """Return the settings, with logging set up as they say; ConfigurationError names the variable that is wrong."""
    from pydantic import ValidationError

    from app.config import settings as read

    try:
        found = read()
    except ValidationError as error:
        first = error.errors()[0]
        name = "LOOKALIKE_" + str(first["loc"][0]).upper()
        raise ConfigurationError(f"{name}={first['input']}: {first['msg']}; see: lookalike settings") from error
    if found.log_level.upper() not in logging.getLevelNamesMapping():
        raise ConfigurationError(f"LOOKALIKE_LOG_LEVEL={found.log_level}: choose DEBUG, INFO, WARNING or ERROR")
    logging.basicConfig(stream=sys.stderr, level=found.log_level.upper(), format=log_format)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return found


@contextmanager
def database() -> Iterator[str]:
    """Yield the URL of the database, the embedded server started where none is configured."""
    from app import db

    with db.database(settings()) as url:
        yield url


@contextmanager
def connected(url: str, application: str) -> Iterator["Connection"]:
    """Yield a connection in autocommit to this database, at this code's revision; database errors become ours."""
    from app import db
    from app.db import schema

    with db.translated(), db.connect(url, autocommit=True, application=application) as conn:
        schema.check(conn)
        yield conn


@contextmanager
def connection() -> Iterator["Connection"]:
    """Yield a connection in autocommit to a database at this code's revision; database errors become ours."""
    with database() as url, connected(url, "lookalike cli") as conn:
        yield conn
