"""Saves a sample of searches after the response, so that their recall can be checked."""

import logging

from flask import Response

from app.errors import LookalikeError
from app.monitoring import recall
from app.search.request import Request
from app.search.results import SearchResult
from app.web.pool import Database
from app.web.services import services

log = logging.getLogger(__name__)


def sample(response: Response, asked: Request, found: SearchResult) -> None:
    """Save the search, with the configured probability, after this response has been sent."""
    given = services()
    if found.space is not None and recall.should_sample(asked, share=given.settings.recall_sample):
        response.call_on_close(lambda: _save(given.database, asked, found))


def _save(database: Database, asked: Request, found: SearchResult) -> None:
    try:
        with database.connection() as conn:
            recall.save_sample(conn, asked, found, source="api")
    except LookalikeError as error:
        log.warning("a search was not saved for a check of its recall: %s", error)
