"""schemathesis on the whole OpenAPI document: no request gets a 5xx or an undocumented response."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)


def no_defect(_: Any, response: Any, __: Any) -> None:
    """Check that there is no 500. A documented 502 is correct: the file cannot be read."""
    assert response.status_code != 500, response.text


CHECKS = [
    no_defect,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 10


def test_every_operation_keeps_to_the_document(
    make_client: Callable[..., FlaskClient], gallery_url: str, tmp_path: Path
) -> None:
    # Generated uris must not reach real files or hosts: only an empty folder is allowed.
    app = make_client(gallery_url, image_roots=str(tmp_path), image_hosts="none.invalid").application
    # Without the event stream, which does not end by itself.
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app).exclude(path="/v1/operation/events")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 13
    for operation in operations:
        check(operation)


def check(operation: Any) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def sent(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    sent()
