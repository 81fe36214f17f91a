"""Requests to the API on a small gallery, and checks of the responses."""

import io
from typing import Any

import numpy as np
from flask.testing import FlaskClient
from pgvector import HalfVector
from psycopg.types.json import Jsonb

from app import db
from app.types import Embedding

DIMENSIONS = 8
IMAGES = 30


def vectors() -> Embedding:
    """Return the gallery's embeddings, of unit length; row n - 1 belongs to image n."""
    made = np.random.default_rng(7).normal(size=(IMAGES, DIMENSIONS)).astype(np.float32)
    unit: Embedding = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


QUERY = vectors()[29]  # belongs to the only image without an embedding


def fill(url: str) -> None:
    """Create a space of 8 dimensions and images 1 to 30: color red or blue, price 0 to 29, all but 30 embedded."""
    with db.connect(url) as conn:
        conn.execute("SELECT lookalike.create_space('tiny', 'none', %s, '{}', 'f')", (DIMENSIONS,))
        for n, vector in enumerate(vectors(), start=1):
            conn.execute(
                "INSERT INTO lookalike.images (uri, caption, attributes) VALUES (%s, %s, %s)",
                (f"/gallery/{n}.png", f"image {n}", Jsonb({"color": "red" if n % 2 else "blue", "price": n - 1})),
            )
            if n < IMAGES:
                conn.execute("INSERT INTO lookalike.embeddings_1 VALUES (%s, %s)", (n, HalfVector(vector)))


def nearest(query: Any, among: list[int] | None = None) -> list[int]:
    """Return the ids of embedded images, nearest first, computed by numpy."""
    distances = np.linalg.norm(vectors()[: IMAGES - 1].astype(np.float16).astype(np.float32) - query, axis=1)
    ids = [int(at) + 1 for at in np.argsort(distances)]
    return [one for one in ids if among is None or one in among]


def ids(response: Any) -> list[int]:
    assert response.status_code == 200, response.text
    return [result["image"]["id"] for result in response.json["results"]]


def refused(response: Any, status: int, code: str, *texts: str) -> None:
    error = response.json["error"]
    assert (response.status_code, error["code"]) == (status, code), error
    assert error["request_id"] == response.headers["X-Request-ID"]
    for text in texts:
        assert text in error["message"], error


def upload(client: FlaskClient, data: bytes, name: str = "cat.png", **fields: str) -> Any:
    form = {"image": (io.BytesIO(data), name), **fields}
    return client.post("/v1/images", data=form, content_type="multipart/form-data")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
