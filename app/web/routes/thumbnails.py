"""GET /v1/images/{id}/thumbnail."""

import hashlib

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.errors import ImageError, TransientImageError
from app.media.decode import THUMBNAIL_MEDIA_TYPE, make_thumbnail
from app.media.fetch import fetch
from app.store import images
from app.web import openapi
from app.web.errors import ImageSourceError
from app.web.schemas import ImagePath, ThumbnailQuery
from app.web.services import services

api = APIBlueprint("thumbnails", __name__, url_prefix="/v1/images", abp_tags=[Tag(name="images")])

# An image's content may change, so caches must revalidate after a while; the ETag makes that cheap.
_CACHE = "private, max-age=300"
_PICTURE: dict[str, object] = {
    "description": "A JPEG, upright, on white",
    "content": {THUMBNAIL_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
}


@api.get(
    "/<image_id>/thumbnail",
    operation_id="thumbnail",
    summary="A small JPEG of an image",
    responses={200: _PICTURE, 304: None, **openapi.errors_of(404, 410, 502)},
)
def get_thumbnail(path: ImagePath, query: ThumbnailQuery) -> Response:
    """Returns 410 if the file no longer exists, 502 if it cannot be fetched, 422 if it is not an image."""
    with services().database.connection() as conn:
        image = images.get(conn, path.image_id)
    # Compare with the hash in the database first: the file is read only if the client's copy is stale.
    if image.sha256 is not None and request.if_none_match.contains(_tag(image.sha256, query.size)):
        return _cached(Response(status=304), image.sha256, query.size)
    data = _read(image)
    sha256 = hashlib.sha256(data).hexdigest()
    if request.if_none_match.contains(_tag(sha256, query.size)):
        return _cached(Response(status=304), sha256, query.size)
    picture = make_thumbnail(data, size=query.size, limits=services().limits)
    return _cached(Response(picture, mimetype=THUMBNAIL_MEDIA_TYPE), sha256, query.size)


def _read(image: images.Image) -> bytes:
    try:
        return fetch(image.uri, limits=services().limits)
    except ImageError as error:
        gone = not isinstance(error, TransientImageError) and isinstance(error.__cause__, FileNotFoundError)
        raise ImageSourceError(f"cannot read the file of image {image.id}: {error}", gone=gone) from error


def _tag(sha256: str, size: int) -> str:
    return f"{sha256}-{size}"


def _cached(response: Response, sha256: str, size: int) -> Response:
    response.set_etag(_tag(sha256, size))
    response.headers["Cache-Control"] = _CACHE
    return response
