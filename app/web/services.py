"""What every request needs: settings, database, storage."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from app.config import Settings
from app.media.limits import Limits
from app.media.uploads import Storage
from app.web.auth import Keyring
from app.web.pool import Database
from app.web.rate_limit import Slots
from app.web.replica_router import Reads

EXTENSION = "lookalike"


@dataclass(frozen=True, slots=True)
class Services:
    """What `create_app` opens once for the application."""

    settings: Settings
    database: Database
    reads: Reads
    storage: Storage
    limits: Limits
    keyring: Keyring
    pictures: Slots


def services() -> Services:
    """Return the services of the application that handles this request."""
    return cast("Services", current_app.extensions[EXTENSION])
