"""Shared services of the application: settings, database, storage."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from app.config import Settings
from app.media.limits import Limits
from app.media.uploads import Storage
from app.web.auth import KeyCache
from app.web.pool import Database
from app.web.rate_limit import ConcurrencyLimit
from app.web.replica_router import ReplicaRouter

EXTENSION = "lookalike"


@dataclass(frozen=True, slots=True)
class Services:
    """The services that `create_app` opens once per application."""

    settings: Settings
    database: Database
    router: ReplicaRouter
    storage: Storage
    limits: Limits
    keys: KeyCache
    image_query_limit: ConcurrencyLimit


def services() -> Services:
    """Return the services of the application that handles this request."""
    return cast("Services", current_app.extensions[EXTENSION])
