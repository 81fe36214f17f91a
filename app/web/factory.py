"""The application factory."""

from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from werkzeug.middleware.proxy_fix import ProxyFix

from app.config import Settings
from app.media import uploads
from app.media.limits import limits_of
from app.version import version
from app.web import auth, errors, logs, openapi, rate_limit, read_your_writes, telemetry
from app.web.pool import Database
from app.web.rate_limit import ConcurrencyLimit
from app.web.replica_router import ReplicaRouter
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

# Maximum size of a multipart request besides its image.
_FORM_BYTES = 2**20


def create_app(settings: Settings, url: str) -> OpenAPI:
    """Return the application for the database at `url`; it connects at the first request."""
    app = OpenAPI(
        "app.web",
        info=Info(
            title="Lookalike",
            version=version(),
            description="Image retrieval inside PostgreSQL. All errors have the same shape, ErrorBody.",
        ),
        doc_ui=False,
        security_schemes=openapi.SECURITY_SCHEMES,
        validation_error_model=ErrorBody,
        validation_error_callback=errors.refuse_invalid,
    )
    app.config["MAX_CONTENT_LENGTH"] = settings.max_image_bytes + _FORM_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = _FORM_BYTES
    database = Database(url, size=settings.api_threads, timeout=settings.write_timeout)
    keys = auth.KeyCache(database)
    app.extensions[EXTENSION] = Services(
        settings=settings,
        database=database,
        router=ReplicaRouter(settings, database),
        storage=uploads.open_storage(settings),
        limits=limits_of(settings),
        keys=keys,
        # Such a request waits for a worker, so some threads are left for searches that need none.
        image_query_limit=ConcurrencyLimit(max(1, settings.api_threads * 3 // 4), what="query images are embedded"),
    )
    logs.register(app, settings)
    errors.register(app)
    auth.register(app, settings, keys)
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
