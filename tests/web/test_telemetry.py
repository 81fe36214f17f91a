"""W3C trace context and OpenTelemetry: requests and statements continue the client's trace; log lines contain it."""

import gzip
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.config import Settings
from app.errors import ConfigurationError
from app.web import create_app, logs, telemetry
from tests.support.gunicorn import fetched, gunicorn

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture
def log_line(caplog: pytest.LogCaptureFixture) -> Callable[[], dict[str, object]]:
    """Return the JSON log line of the only slow request."""
    caplog.handler.setFormatter(logs.JsonFormatter())
    caplog.set_level(logging.WARNING)

    def read() -> dict[str, object]:
        lines = [json.loads(line) for line in caplog.text.splitlines()]
        (line,) = (one for one in lines if one["logger"] == "app.web.logs")
        caplog.clear()
        return line

    return read


@pytest.fixture
def spans() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    PsycopgInstrumentor().uninstrument()
    provider.shutdown()


def test_the_log_names_the_callers_trace(
    make_client: Callable[..., FlaskClient], reader_url: str, log_line: Callable[[], dict[str, object]]
) -> None:
    client = make_client(reader_url, slow_ms=0.0)
    client.get("/v1/images/1", headers={"traceparent": TRACEPARENT})
    line = log_line()
    assert (line["trace_id"], line["span_id"]) == (TRACE, CALLER)
    for bad in (
        "",
        "00",
        TRACEPARENT.upper(),
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{'0' * 32}-{CALLER}-01",
        TRACEPARENT[:-1],
    ):
        client.get("/v1/images/1", headers={"traceparent": bad})
        assert "trace_id" not in log_line()


def test_a_trace_goes_on_to_the_statement(
    make_client: Callable[..., FlaskClient],
    reader_url: str,
    spans: tuple[TracerProvider, InMemorySpanExporter],
    log_line: Callable[[], dict[str, object]],
) -> None:
    provider, exporter = spans
    client = make_client(reader_url, slow_ms=0.0)
    telemetry.instrument(client.application, provider)
    try:
        client.post("/v1/search", json={"image_id": 1}, headers={"traceparent": TRACEPARENT})
        line = log_line()
        (served,) = (one for one in exporter.get_finished_spans() if one.kind.name == "SERVER")
        assert served.parent is not None
        assert (f"{served.context.trace_id:032x}", f"{served.parent.span_id:016x}") == (TRACE, CALLER)
        assert (served.name, served.attributes["http.status_code"]) == ("POST /v1/search", 200)
        assert (line["trace_id"], line["span_id"]) == (TRACE, f"{served.context.span_id:016x}")
        below = [
            one for one in exporter.get_finished_spans() if one.parent and one.parent.span_id == served.context.span_id
        ]
        (searched,) = (one for one in below if "lookalike.search_run" in str(one.attributes.get("db.statement")))
        assert "%(image_id)s" in searched.attributes["db.statement"]  # the text, never the values
        exporter.clear()
        client.get("/healthz")
        assert exporter.get_finished_spans() == ()
    finally:
        FlaskInstrumentor().uninstrument_app(client.application)


def test_spans_reach_a_collector(reader_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTLP delivers all spans, because the process sends the last ones before it exits."""
    posted: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("LOOKALIKE_TELEMETRY", "true")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        with gunicorn(reader_url, tmp_path) as (address, process):
            fetched(f"{address}/v1/search", {"image_id": 1})
            process.terminate()
            process.communicate(timeout=40)
        collector.shutdown()
    assert {path for path, _ in posted} == {"/v1/traces"}
    sent = b"".join(body for _, body in posted)
    for text in (b"lookalike-api", b"POST /v1/search", b"lookalike.search_run"):
        assert text in sent


def test_missing_packages_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'lookalike\[telemetry\]'"):
        create_app(Settings(telemetry=True), "postgresql://127.0.0.1:1/nothing")
