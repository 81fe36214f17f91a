"""The OpenAPI document and its page: valid, complete, and without other hosts."""

import re
from pathlib import Path

from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

import app.web

ROUTES = {
    ("/v1/search", "post"),
    ("/v1/images", "post"),
    ("/v1/images/{image_id}", "get"),
    ("/v1/images/{image_id}", "patch"),
    ("/v1/images/{image_id}", "delete"),
    ("/v1/images/{image_id}/similar", "get"),
    ("/v1/images/{image_id}/thumbnail", "get"),
    ("/v1/duplicates", "get"),
    ("/v1/status", "get"),
    ("/v1/facets", "get"),
    ("/v1/sample", "get"),
    ("/v1/operation", "get"),
    ("/v1/operation/events", "get"),
    ("/v1/recall", "get"),
    ("/v1/failures", "get"),
    ("/v1/tradeoffs", "get"),
    ("/v1/failures/retry", "post"),
    ("/healthz", "get"),
    ("/readyz", "get"),
}


def test_document_is_valid_and_names_every_route(reader: FlaskClient) -> None:
    document = reader.get("/openapi.json").json
    OpenAPIV31SpecValidator(document).validate()
    documented = {(path, method) for path, item in document["paths"].items() for method in item}
    assert documented >= ROUTES
    rules = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule) for rule in reader.application.url_map.iter_rules()}
    assert {path for path, _ in documented} == {
        rule for rule in rules if rule.startswith("/v1") or rule in ("/healthz", "/readyz")
    }


def test_every_operation_documents_its_errors_in_one_shape(reader: FlaskClient) -> None:
    document = reader.get("/openapi.json").json
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["operationId"], (path, method)
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorBody"}, (path, method, status)


def test_bodies_with_several_content_types(reader: FlaskClient) -> None:
    paths = reader.get("/openapi.json").json["paths"]
    for path in ("/v1/search", "/v1/images"):
        body = paths[path]["post"]["requestBody"]
        assert body["required"]
        assert set(body["content"]) == {"application/json", "multipart/form-data"}
        assert body["content"]["multipart/form-data"]["schema"]["required"] == ["image"]


def test_the_page_loads_nothing_from_other_hosts(reader: FlaskClient) -> None:
    page = reader.get("/docs")
    assert page.status_code == 200
    sources = re.findall(r'(?:src|href|data-document)="([^"]+)"', page.text)
    assert len(sources) >= 4
    for source in sources:
        assert source.startswith("/")
        with reader.get(source) as response:
            assert response.status_code == 200
    assert not re.search(r"<script>|style=|\son\w+=", page.text)
    starter = (Path(app.web.__file__).parent / "static" / "docs.js").read_text(encoding="utf-8")
    assert "validatorUrl: null" in starter
    assert "http" not in starter
