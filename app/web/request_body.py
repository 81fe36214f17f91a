"""Parsers of request bodies: JSON, NDJSON, multipart uploads, base64 vectors."""

import base64
import binascii
import json
from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np
from flask import request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from app.errors import ImageError, InvalidInputError
from app.search import filters
from app.types import Embedding
from app.web.errors import InvalidRequestError, invalid_request
from app.web.schemas import FieldError

# Enough for 4,000 dimensions as numbers and 10,000 ids.
MAX_JSON_BYTES = 2**20
# Enough for 1,000 images with 16 KiB of attributes each.
MAX_BATCH_BYTES = 2**24
MULTIPART = "multipart/form-data"
JSON = "application/json"

Model = TypeVar("Model", bound=BaseModel)


def is_multipart() -> bool:
    """Return whether this request's body is a multipart form; 415 if it is neither that nor JSON."""
    if request.mimetype == MULTIPART:
        return True
    if not _is_json(request.mimetype):
        raise UnsupportedMediaType(f"{_content_type()}; send {JSON} or {MULTIPART}")
    return False


def read_json(model: type[Model], *, max_bytes: int = MAX_JSON_BYTES) -> Model:
    """Return this request's JSON body as `model`; 415 for another type, 400 for malformed JSON, 422 for fields."""
    if not _is_json(request.mimetype):
        raise UnsupportedMediaType(f"{_content_type()}; send {JSON}")
    try:
        parsed = _parsed(_data(max_bytes))
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    return validated(model, parsed)


def read_lines() -> list[object]:
    """Return the values of this NDJSON body's lines; an InvalidInputError in place of a line that is not JSON."""
    found: list[object] = []
    for number, line in enumerate(_data(MAX_BATCH_BYTES).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(_parsed(line))
        except (ValueError, InvalidInputError) as error:
            found.append(InvalidInputError(f"line {number} is not JSON: {error}"))
    return found


def _data(max_bytes: int) -> bytes:
    request.max_content_length = min(max_bytes, request.max_content_length or max_bytes)
    data = request.get_data(cache=False)
    if len(data) > max_bytes:  # a hash of the body was taken before, which cached it
        raise RequestEntityTooLarge(f"the body has {len(data):,} bytes; the limit is {max_bytes:,}")
    return data


def _parsed(data: bytes) -> object:
    """Return parsed JSON.

    Raises:
        ValueError: it is not JSON.
        InvalidRequestError: an object has a duplicate key. Most parsers silently keep the last value, so that a filter
            would lose a condition.
    """
    found = from_json(data, allow_inf_nan=False)
    _STRICT.decode(data.decode())
    return found


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _field_error(twice[:80], "occurs twice in one object; in a filter, join both conditions with $and")


_STRICT = json.JSONDecoder(object_pairs_hook=_refuse_duplicates)


def read_upload(model: type[Model], *, max_bytes: int, text_fields: Collection[str] = ()) -> tuple[bytes, Model]:
    """Return the file `image` of this multipart request, and its other fields as `model`.

    Fields are parsed as JSON, except `text_fields`, which are plain text.
    """
    values: dict[str, Any] = {}
    for name, texts in request.form.lists():
        if len(texts) > 1:
            raise _field_error(name, "is given more than once")
        if name == "image":
            raise _field_error(name, 'is text; send it as a file (curl: -F "image=@cat.jpg")')
        values[name] = texts[0] if name in text_fields else _field(name, texts[0])
    uploads = request.files.getlist("image")
    others = set(request.files) - {"image"}
    if others:
        raise _field_error(min(others), "is a file; only image may be a file")
    if len(uploads) != 1:
        raise _field_error("image", f'{len(uploads)} files were sent; send one (curl: -F "image=@cat.jpg")')
    data = uploads[0].stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise RequestEntityTooLarge(f"the image has more than {max_bytes:,} bytes (LOOKALIKE_MAX_IMAGE_BYTES)")
    if not data:
        raise ImageError("decode", "the uploaded image is empty (0 bytes)")
    return data, validated(model, values)


def validated(model: type[Model], value: object) -> Model:
    """Return `value` as `model`.

    Raises:
        InvalidRequestError: fields are not valid; the error lists them.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_request(error) from error


def unit_vector(given: list[float] | str, dtype: str, *, field: str = "vector") -> Embedding:
    """Return a unit-length float32 embedding from numbers, or from base64 of little-endian floats."""
    if isinstance(given, str):
        vector = np.frombuffer(_decoded(given, np.dtype(dtype).itemsize, field), np.dtype(dtype).newbyteorder("<"))
    else:
        vector = np.asarray(given, np.float64)
    if vector.size == 0:
        raise _field_error(field, "is empty; send one number per dimension")
    vector = vector.astype(np.float64)
    if not np.isfinite(vector).all():
        at = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise _field_error(field, f"contains {vector[at]} at position {at}; all numbers must be finite")
    # Scale by the largest number first, so that no square overflows.
    largest = np.abs(vector).max()
    if largest == 0:
        raise _field_error(field, "is all zeros; a query vector needs a direction")
    vector = vector / largest
    unit: Embedding = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit


def _decoded(text: str, item: int, field: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _field_error(field, f"is not base64: {error}") from error
    if len(raw) % item:
        raise _field_error(field, f"has {len(raw)} bytes, which is not a multiple of {item}, the size of a float")
    return raw


def _field(name: str, text: str) -> object:
    if name == "filter":
        return filters.parse(text)
    try:
        return _parsed(text.encode())
    except ValueError as error:
        raise _field_error(name, f"is not JSON: {error}") from error


def _field_error(name: str, message: str) -> InvalidInputError:
    return InvalidRequestError(f"{name}: {message}", [FieldError(field=name, message=message)])


def _is_json(mimetype: str) -> bool:
    return mimetype == JSON or (mimetype.startswith("application/") and mimetype.endswith("+json"))


def _content_type() -> str:
    return f"content type {request.mimetype!r} is not supported" if request.mimetype else "the body has no content type"
