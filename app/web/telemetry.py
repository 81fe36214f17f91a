"""Tracing: a request continues the client's W3C trace, and its log lines contain the trace id.

With the extra `telemetry`, requests and their SQL statements become OpenTelemetry spans.
"""

import re
from typing import TYPE_CHECKING

from flask import Flask, has_request_context, request

from app.config import Settings
from app.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# Version, trace id, parent id, flags; later versions may add fields.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_UNTRACED = "/healthz,/readyz,/metrics,/static/"


def register(app: Flask, settings: Settings) -> None:
    """Send spans if LOOKALIKE_TELEMETRY is set; OpenTelemetry's OTEL_ variables set the destination.

    Raises:
        ConfigurationError: the OpenTelemetry packages are missing.
    """
    if not settings.telemetry:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            "LOOKALIKE_TELEMETRY needs OpenTelemetry: pip install 'lookalike[telemetry]'"
        ) from error
    resource = Resource.create()  # reads OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
    if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "lookalike-api"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    instrument(app, provider)


def instrument(app: Flask, provider: "TracerProvider") -> None:
    """Make a span for every request except probes and files, with a child span per statement, without its values.

    Statements are traced in the whole process, on connections opened from now on.
    """
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

    FlaskInstrumentor().instrument_app(app, tracer_provider=provider, excluded_urls=_UNTRACED)  # type: ignore[no-untyped-call]
    statements = PsycopgInstrumentor()
    if not statements.is_instrumented_by_opentelemetry:
        statements.instrument(tracer_provider=provider)
    app.extensions["lookalike telemetry"] = provider


def close(app: Flask) -> None:
    """Send the remaining spans; call it before the process exits."""
    provider: TracerProvider | None = app.extensions.get("lookalike telemetry")
    if provider is not None:
        provider.shutdown()


def trace() -> dict[str, str]:
    """Return trace_id and span_id of this request for the log: its own span's, else the client's; empty if none."""
    if not has_request_context():
        return {}
    from flask import current_app

    if "lookalike telemetry" in current_app.extensions:
        from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

        context = get_current_span().get_span_context()
        if context.is_valid:
            return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}
    found = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    return {} if found is None else {"trace_id": found[1], "span_id": found[2]}
