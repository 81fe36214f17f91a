"""What commands share: settings, database, connection."""

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
    """Return the settings, and set up logging.

    Raises:
        ConfigurationError: a value is not valid; the message names the variable.
    """
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
    """Yield the URL of the database; start the embedded server if none is configured."""
    from app import db

    with db.database(settings()) as url:
        yield url


@contextmanager
def connected(url: str, application: str) -> Iterator["Connection"]:
    """Yield an autocommit connection to this database, with errors translated.

    Raises:
        SchemaError: the database is not at this code's revision.
    """
    from app import db
    from app.db import schema

    with db.translated(), db.connect(url, autocommit=True, application=application) as conn:
        schema.check(conn)
        yield conn


@contextmanager
def connection() -> Iterator["Connection"]:
    """Yield an autocommit connection to the database; see `connected`."""
    with database() as url, connected(url, "lookalike cli") as conn:
        yield conn
