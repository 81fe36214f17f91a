"""Pictures to ingest, and a space of two dimensions for them."""

import io

from PIL import Image

from app import db
from app.store import spaces


def picture(color: str = "red", size: tuple[int, int] = (8, 5), form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, form, **options)
    return file.getvalue()


def make_space(conn: db.Connection) -> spaces.Space:
    return spaces.create(
        conn, name="s", model="m", weights=None, dimensions=2, preprocessing={}, fingerprint="f", index_options=None
    )


def embed(conn: db.Connection, space: spaces.Space, *ids: int) -> None:
    for id_ in ids:
        conn.execute(f"INSERT INTO lookalike.{space.table_name} VALUES (%s, '[1,0]')", (id_,))
        conn.execute("DELETE FROM lookalike.jobs WHERE image_id = %s", (id_,))
