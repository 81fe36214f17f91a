"""The state of the whole, cheaply: spaces, queue, workers. Imports `db`, `records`, `schema` and `sql`."""

from psycopg.rows import class_row

from app import schema, sql
from app.db import Connection, translated
from app.records import SpaceStatus, Status, WorkerStatus


def read(conn: Connection) -> Status:
    """Return the state of images, spaces and workers; SchemaError where database and code do not fit."""
    with translated():
        schema.check(conn)
        with conn.cursor(row_factory=class_row(SpaceStatus)) as cursor:
            spaces = cursor.execute(sql.query("space_status")).fetchall()
        with conn.cursor(row_factory=class_row(WorkerStatus)) as cursor:
            workers = cursor.execute(sql.query("worker_status")).fetchall()
        row = conn.execute(sql.query("count_images")).fetchone()
    return Status(revision=schema.head(), images=int(str(row[0])) if row else 0, spaces=spaces, workers=workers)
