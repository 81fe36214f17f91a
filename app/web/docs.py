"""The OpenAPI document at /openapi.json and an interactive page at /docs, no part of it from a foreign host.
Imports `web.models`."""

from pathlib import Path

import flask_openapi3_swagger
from flask import Blueprint, Response, render_template
from flask_openapi3.models.schema import Schema
from flask_openapi3.openapi import OpenAPI
from flask_openapi3.types import ResponseDict
from flask_openapi3.utils import get_model_schema
from pydantic import BaseModel
from pydantic_core import to_json

from app.web.models import ErrorBody, ImageBody, ImagePatch, SearchBody, UploadOptions

_ASSETS = Path(flask_openapi3_swagger.__file__).parent / "templates" / "swagger"
_REFERENCE = "#/components/schemas/"

# The bodies that are read by hand, since one route takes several content types.
_BODIES: tuple[type[BaseModel], ...] = (SearchBody, UploadOptions, ImageBody, ImagePatch)


def body_of(*contents: "tuple[str, type[BaseModel] | dict[str, object]]") -> dict[str, object]:
    """Return the OpenAPI text of a request body, for `openapi_extensions`: content types, each with model or schema."""
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
    """Return the schema of a multipart form with a file `image` and these other fields."""
    return {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"type": "string", "format": "binary"}, **properties},
        "additionalProperties": False,
    }


def errors_of(*statuses: int) -> ResponseDict:
    """Return the OpenAPI responses of errors with these statuses, beside 422, 500 and 503 that every route may give."""
    told: ResponseDict = {}
    told.update(dict.fromkeys(sorted({*statuses, 422, 500, 503}), ErrorBody))
    return told


def register(app: OpenAPI) -> None:
    """Add the routes of the documentation, and the schemas of bodies that no route's signature names."""
    for model in _BODIES:
        app.components_schemas[model.__name__] = Schema(**get_model_schema(model))
    page = Blueprint("docs", __name__, static_folder=str(_ASSETS), static_url_path="/docs/swagger")
    page.add_url_rule("/openapi.json", "document", lambda: Response(to_json(app.api_doc), mimetype="application/json"))
    page.add_url_rule("/docs", "page", lambda: render_template("docs.html"))
    app.register_blueprint(page)
