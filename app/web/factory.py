"""Makes the Flask application."""

from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from werkzeug.middleware.proxy_fix import ProxyFix

from app.config import Settings
from app.media import uploads
from app.media.limits import limits_of
from app.version import version
from app.web import auth, errors, logs, openapi, rate_limit, read_your_writes, telemetry
from app.web.pool import Database
from app.web.rate_limit import Slots
from app.web.replica_router import Reads
from app.web.routes import (
    batch,
    duplicates,
    facets,
    health,
    images,
    metrics,
    operate,
    pages,
    recall,
    search,
    thumbnails,
    tradeoffs,
)
from app.web.schemas import ErrorBody
from app.web.services import EXTENSION, Services

# What a multipart request carries beside its image.
_FORM_BYTES = 2**20


def create_app(settings: Settings, url: str) -> OpenAPI:
    """Return the application on the database at `url`; nothing is connected before the first request."""
    app = OpenAPI(
        "app.web",
        info=Info(
            title="Lookalike",
            version=version(),
            description="Image retrieval inside PostgreSQL. Errors have one shape: see ErrorBody.",
        ),
        doc_ui=False,
        security_schemes=openapi.SECURITY_SCHEMES,
        validation_error_model=ErrorBody,
        validation_error_callback=errors.refuse_invalid,
    )
    app.config["MAX_CONTENT_LENGTH"] = settings.max_image_bytes + _FORM_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = _FORM_BYTES
    database = Database(url, size=settings.api_threads, timeout=settings.write_timeout)
    keyring = auth.Keyring(database)
    app.extensions[EXTENSION] = Services(
        settings=settings,
        database=database,
        reads=Reads(settings, database),
        storage=uploads.open_storage(settings),
        limits=limits_of(settings),
        keyring=keyring,
        # Each waits for a worker: places are left for searches that need none.
        pictures=Slots(max(1, settings.api_threads * 3 // 4), what="pictures are searched by"),
    )
    logs.register(app, settings)
    errors.register(app)
    auth.register(app, settings, keyring)
    rate_limit.register(app, settings)
    telemetry.register(app, settings)
    read_your_writes.register(app)
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=count, x_proto=count, x_host=count, x_prefix=count
        )
    for module in (search, duplicates, images, batch, thumbnails, facets, operate, recall, health, tradeoffs):
        app.register_api(module.api)
    openapi.register(app)
    pages.register(app)
    app.register_blueprint(metrics.blueprint)
    return app
