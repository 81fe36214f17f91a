"""The OpenAPI document at /openapi.json, and Swagger UI at /docs, served from this host alone."""

import re
from pathlib import Path

import flask_openapi3_swagger
from flask import Blueprint, Response, render_template
from flask_openapi3.models.schema import Schema
from flask_openapi3.openapi import OpenAPI
from flask_openapi3.types import ResponseDict, SecuritySchemesDict
from flask_openapi3.utils import get_model_schema
from pydantic import BaseModel
from pydantic_core import to_json

from app.web.auth import required_scope
from app.web.page_schemas import RetryBody
from app.web.schemas import BatchBody, ErrorBody, ImageBody, ImagePatch
from app.web.search_schemas import SearchBody, UploadOptions

_SCHEME = "key"
# Key in openapi_extensions: header parameters, which flask_openapi3 does not find in a route's signature.
PARAMETERS = "x-headers"
_VARIABLE = re.compile(r"<(?:\w+:)?(\w+)>")
_ASSETS = Path(flask_openapi3_swagger.__file__).parent / "templates" / "swagger"
SECURITY_SCHEMES: SecuritySchemesDict = {
    _SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "description": "A key from `lookalike key create`, sent as `Authorization: Bearer lk_…`. Scopes: search, write,"
        " admin; each includes the ones before it. A server on a loopback address needs no key, unless"
        " LOOKALIKE_API_AUTH=keys.",
    }
}
_REFERENCE = "#/components/schemas/"

# Bodies that views parse themselves, because their routes accept several content types.
_BODIES: tuple[type[BaseModel], ...] = (SearchBody, UploadOptions, ImageBody, ImagePatch, BatchBody, RetryBody)


def body_of(*contents: "tuple[str, type[BaseModel] | dict[str, object]]") -> dict[str, object]:
    """Return the `requestBody` of an operation, for `openapi_extensions`: pairs of content type and model or schema."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                mimetype: {
                    "schema": what if isinstance(what, dict) else {"$ref": _REFERENCE + what.__name__},
                }
                for mimetype, what in contents
            },
        }
    }


def upload_of(*, properties: dict[str, object]) -> dict[str, object]:
    """Return the schema of a multipart form with the file `image` and these fields."""
    return {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"type": "string", "format": "binary"}, **properties},
        "additionalProperties": False,
    }


def errors_of(*statuses: int) -> ResponseDict:
    """Return the OpenAPI responses for errors: these statuses, and those that every route can return."""
    responses: ResponseDict = {}
    responses.update(dict.fromkeys(sorted({*statuses, 401, 403, 422, 429, 500, 503}), ErrorBody))
    return responses


def register(app: OpenAPI) -> None:
    """Add the documentation's routes, and the schemas of bodies that views parse themselves."""
    for model in _BODIES:
        app.components_schemas[model.__name__] = Schema(**get_model_schema(model))
    page = Blueprint("docs", __name__, static_folder=str(_ASSETS), static_url_path="/docs/swagger")
    page.add_url_rule("/openapi.json", "document", lambda: Response(_document(app), mimetype="application/json"))
    page.add_url_rule("/docs", "page", lambda: render_template("docs.html"))
    app.register_blueprint(page)


def _document(app: OpenAPI) -> bytes:
    """Return the OpenAPI document as JSON, with the scope that each operation needs."""
    document = app.api_doc
    endpoints = {
        (_VARIABLE.sub(r"{\1}", rule.rule), method.lower()): rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    # The model accepts any item, because each item is validated by itself.
    document["components"]["schemas"]["BatchBody"]["properties"]["images"]["items"] = {"$ref": f"{_REFERENCE}ImageBody"}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            operation.setdefault("parameters", []).extend(operation.pop(PARAMETERS, []))
            scope = required_scope(endpoints[path, method], method.upper())
            operation["security"] = [] if scope is None else [{_SCHEME: [scope]}, {}]
    return to_json(document)
