"""POST, GET, PATCH and DELETE of /v1/images."""

import hashlib

from flask import Response, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from werkzeug.exceptions import PreconditionFailed

from app.db import Connection
from app.errors import ConflictError
from app.media import uploads
from app.media.header import read_header
from app.search import filters
from app.store import images
from app.web import openapi, request_body
from app.web.idempotency import IF_MATCH, PARAMETERS, idempotent, write_transaction
from app.web.schemas import Image, ImageBody, ImagePage, ImagePatch, ImagePath, ImageUpload, ListQuery
from app.web.services import services

api = APIBlueprint("images", __name__, url_prefix="/v1/images", abp_tags=[Tag(name="images")])

_UPLOAD = openapi.upload_of(
    properties={
        "caption": {"type": "string"},
        "attributes": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "A JSON object, as JSON text.",
        },
    }
)


@api.post(
    "",
    operation_id="addImage",
    summary="Add an image by upload or by uri",
    responses={201: Image, **openapi.errors_of(400, 409, 413, 415)},
    openapi_extensions={
        **openapi.body_of((request_body.JSON, ImageBody), (request_body.MULTIPART, _UPLOAD)),
        openapi.PARAMETERS: PARAMETERS,
    },
)
@idempotent
def add_image() -> Response:
    """The image is searchable once a worker has embedded it. Returns 409 if the uri or the content already exists."""
    if request_body.is_multipart():
        image = _add_upload()
    else:
        body = request_body.read_json(ImageBody)
        with write_transaction() as conn:
            try:
                with conn.transaction():
                    image = images.add(conn, uri=body.uri, caption=body.caption, attributes=body.attributes)
            except ConflictError as error:
                raise _conflict(conn, body.uri, "has this uri") from error
    response = _respond(image, status=201)
    response.headers["Location"] = url_for("images.get_image", image_id=image.id)
    return response


def _add_upload() -> images.Image:
    settings, place = services().settings, services().storage
    data, fields = request_body.read_upload(ImageUpload, max_bytes=settings.max_image_bytes, text_fields=("caption",))
    header = read_header(data, max_pixels=settings.max_image_pixels, max_frames=settings.max_image_frames)
    sha256 = hashlib.sha256(data).hexdigest()
    uploads.put(place, data, sha256=sha256, media_type=header.media_type)
    with write_transaction() as conn:
        try:
            with conn.transaction():
                uri = uploads.uri_of(place, sha256, header.media_type)
                images.lock_upload(conn, uri)
                # Again, now that nobody can remove it: most often it is in its place, and nothing is written.
                uploads.put(place, data, sha256=sha256, media_type=header.media_type)
                return images.add(
                    conn,
                    uri=uri,
                    caption=fields.caption,
                    attributes=fields.attributes,
                    sha256=sha256,
                    media_type=header.media_type,
                    width=header.width,
                    height=header.height,
                )
        except ConflictError as error:
            raise _conflict(conn, uri, "has this content") from error


@api.get(
    "/<image_id>",
    operation_id="getImage",
    summary="One image",
    responses={200: Image, 304: None, **openapi.errors_of(404)},
)
def get_image(path: ImagePath) -> Response:
    """Metadata of the image; /thumbnail returns the picture."""
    with services().database.connection() as conn:
        response = _respond(images.get(conn, path.image_id))
    response.headers["Cache-Control"] = "private, no-cache"  # cached but revalidated, which the ETag makes cheap
    response.make_conditional(request)
    return response


@api.get(
    "",
    operation_id="listImages",
    summary="Images by id, in pages",
    responses={200: ImagePage, **openapi.errors_of()},
)
def list_images(query: ListQuery) -> Response:
    """Images that match the filter, embedded or not. All pages cost the same."""
    filter_ = None if query.filter is None else filters.parse(query.filter)
    with services().database.connection() as conn:
        found = images.ls(conn, filter=filter_, after_id=query.after, limit=query.limit + 1)
    more = len(found) > query.limit
    page = [Image.model_validate(one) for one in found[: query.limit]]
    answer = ImagePage(images=page, next_after=page[-1].id if more else None)
    return Response(answer.model_dump_json(), mimetype=request_body.JSON)


@api.patch(
    "/<image_id>",
    operation_id="changeImage",
    summary="Change caption, attributes or uri",
    responses={200: Image, **openapi.errors_of(400, 404, 409, 412, 413, 415)},
    openapi_extensions={
        **openapi.body_of((request_body.JSON, ImagePatch), ("application/merge-patch+json", ImagePatch)),
        openapi.PARAMETERS: [*PARAMETERS, *IF_MATCH],
    },
)
@idempotent
def change_image(path: ImagePath) -> Response:
    """Applies a JSON merge patch. A new uri is embedded again; new metadata is searchable at once."""
    patch = request_body.read_json(ImagePatch).model_dump(exclude_unset=True)
    with write_transaction() as conn:
        try:
            with conn.transaction():
                held = _lock_upload(conn, path.image_id) if "uri" in patch else None
                _check_version(conn, path.image_id)
                image = images.update(conn, path.image_id, patch)
                _forget_upload(conn, held)
        except ConflictError as error:
            raise _conflict(conn, str(patch.get("uri")), "has this uri") from error
    return _respond(image)


@api.delete(
    "/<image_id>",
    operation_id="deleteImage",
    summary="Delete an image",
    responses={204: None, **openapi.errors_of(404, 412)},
    openapi_extensions={openapi.PARAMETERS: [*PARAMETERS, *IF_MATCH]},
)
@idempotent
def delete_image(path: ImagePath) -> Response:
    """Removes the image from results at once. An uploaded file is deleted too; a file elsewhere is not."""
    with write_transaction() as conn:
        held = _lock_upload(conn, path.image_id)
        _check_version(conn, path.image_id)
        images.delete(conn, path.image_id)
        _forget_upload(conn, held)
    return Response(status=204)


def _lock_upload(conn: Connection, image_id: int) -> str | None:
    """Hold the upload behind an image, if one is, and return its uri; before the row is locked, as adding does it."""
    uri = images.get(conn, image_id).uri
    if not uploads.owns(services().storage, uri):
        return None
    images.lock_upload(conn, uri)
    return uri


def _forget_upload(conn: Connection, uri: str | None) -> None:
    # Before the commit: if that fails, the image has lost its file, and the client can delete it again. After it,
    # another upload of the same content could find the file, and then lose it.
    if uri is not None and images.id_of_uri(conn, uri) is None:
        uploads.remove(services().storage, uri)


def _conflict(conn: Connection, uri: str, what: str) -> ConflictError:
    found = images.id_of_uri(conn, uri)
    return ConflictError(
        f"image {found} already {what}: {uri}" if found else f"another image with the uri {uri} was added first"
    )


def _check_version(conn: Connection, image_id: int) -> None:
    """Lock the image, and raise 412 if it does not match If-Match, so that no other client's change is lost."""
    if request.if_match and not request.if_match.contains(_tag(_json(images.lock(conn, image_id)))):
        raise PreconditionFailed(f"image {image_id} has changed meanwhile; get it again before you change it")


def _respond(image: images.Image, *, status: int = 200) -> Response:
    text = _json(image)
    response = Response(text, status=status, mimetype=request_body.JSON)
    response.set_etag(_tag(text))
    return response


def _json(image: images.Image) -> str:
    return Image.model_validate(image).model_dump_json()


def _tag(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
