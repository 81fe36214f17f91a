"""Export and import: no bit is lost, no bad row is written, no image is embedded twice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.types.json import Jsonb

from app import db
from app.archive import transfer
from app.archive.files import open_reader
from app.db.vectors import halfvecs
from app.errors import ConflictError, InvalidInputError, LookalikeError, NotFoundError
from app.store import spaces
from tests.support.cli import Command, runner
from tests.support.gallery_data import unit

DIMENSIONS = 24
KINDS = ["parquet", "npy"]
_ALL = """
SELECT i.uri, i.sha256, i.media_type, i.width, i.height, i.caption, i.attributes::text, i.created_at, i.updated_at,
       e.embedding::text
FROM lookalike.images i LEFT JOIN lookalike.active_embeddings e ON e.image_id = i.id ORDER BY i.uri
"""


def make_space(conn: db.Connection, fingerprint: str = "f") -> spaces.Space:
    conn.autocommit = True
    return spaces.create(
        conn,
        name="s",
        model="m",
        weights=None,
        dimensions=DIMENSIONS,
        preprocessing={"crop_pct": 0.875},
        fingerprint=fingerprint,
    )


@pytest.fixture
def full(conn: db.Connection) -> db.Connection:
    """A database of 1,030 images, with metadata that is easily lost; one has no embedding yet."""
    space = make_space(conn)
    vectors = unit(1029, DIMENSIONS)
    odd = '{"price": 0.1000000000000000055511151231257827, "n": 12345678901234567890, "é": ["\\u2603", null, {}]}'
    conn.execute(
        """
        INSERT INTO lookalike.images
            (uri, sha256, media_type, width, height, caption, attributes, created_at, updated_at)
        SELECT '/pictures/' || n || ' ☃.png', CASE WHEN n % 3 > 0 THEN sha256(n::text::bytea) END, 'image/png', 3, 4,
               CASE WHEN n % 2 = 0 THEN E'a "caption"\\n' || n END, CASE WHEN n % 5 = 0 THEN %s ELSE '{}' END::jsonb,
               '2001-02-03 04:05:06.789012+00', '2020-02-03'::timestamptz + n * interval '1.000001 s'
        FROM generate_series(0, 1029) n
        """.replace("%", "%%").replace("%%s", "%s"),
        (odd,),
    )
    conn.execute(
        f"INSERT INTO lookalike.{space.table_name} SELECT i.id, u.e FROM unnest(%s) WITH ORDINALITY u (e, n)"
        " JOIN lookalike.images i ON i.uri = '/pictures/' || u.n - 1 || ' ☃.png'",
        (halfvecs(vectors),),
    )
    conn.execute("DELETE FROM lookalike.jobs WHERE image_id IN (SELECT image_id FROM lookalike.active_embeddings)")
    return conn


@pytest.fixture
def other(new_database: Any, template: str) -> Any:
    with db.connect(new_database(template), autocommit=True) as connection:
        yield connection


def jobs_of(conn: db.Connection) -> Any:
    return conn.execute("SELECT count(*) FROM lookalike.jobs").fetchone()


def import_file(conn: db.Connection, path: Path, **options: Any) -> transfer.Imported:
    """Import a file as `lookalike import` does."""
    reader = open_reader(path)
    space = transfer.target_space(conn, reader.origin, None)
    transfer.check(reader, space.dimensions, normalize=options.get("normalize", False))
    return transfer.load(conn, reader, space, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_loses_nothing(full: db.Connection, other: db.Connection, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"gallery.{kind}"
    assert transfer.export(full, spaces.active(full), path) == transfer.Exported(1030, 1029)
    assert sorted(one.suffix for one in tmp_path.iterdir()) == (
        [".parquet"] if kind == "parquet" else [".json", ".jsonl", ".npy"]
    )
    reader = open_reader(path)
    made = transfer.create_space(other, reader.origin, None)
    there = spaces.active(full)
    assert (made.fingerprint, made.preprocessing, made.index_options, made.model) == (
        *(there.fingerprint, there.preprocessing, there.index_options),
        there.model,
    )
    done = import_file(other, path, keep_ids=True)
    assert (done.rows, done.inserted, done.embedded, done.unchanged) == (1030, 1030, 1029, 0)
    assert other.execute(_ALL).fetchall() == full.execute(_ALL).fetchall()
    ids = "SELECT array_agg(id ORDER BY uri) FROM lookalike.images"
    assert other.execute(ids).fetchone() == full.execute(ids).fetchone()
    assert jobs_of(other) == (1,), "the image without embedding waits; the others need none"
    again = import_file(other, path, keep_ids=True)
    assert (again.inserted, again.embedded, again.unchanged) == (0, 0, 1030)
    assert other.execute(_ALL).fetchall() == full.execute(_ALL).fetchall()
    other.execute("INSERT INTO lookalike.images (uri) VALUES ('next')")  # its id is not taken


def test_an_export_is_a_snapshot(full: db.Connection, database_url: str, tmp_path: Path) -> None:
    def interfere(rows: int) -> None:
        with db.connect(database_url, autocommit=True) as writer:
            writer.execute("DELETE FROM lookalike.images WHERE id > 1010")
            writer.execute("INSERT INTO lookalike.images (uri) SELECT 'late' || %s", (rows,))

    done = transfer.export(full, spaces.active(full), tmp_path / "g.npy", progress=interfere)
    assert (done.images, done.embedded) == (1030, 1029)
    assert transfer.check(open_reader(tmp_path / "g.npy"), DIMENSIONS) == 1030


def test_an_export_that_fails_leaves_nothing(full: db.Connection, tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "g.parquet"
    path.write_text("mine")
    with pytest.raises(ConflictError, match="--force"):
        transfer.export(full, spaces.active(full), path)
    with pytest.raises(KeyboardInterrupt):
        transfer.export(full, spaces.active(full), path, force=True, progress=stop)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("g.parquet", "mine")]


def foreign(path: Path, vectors: Any, *, uris: Any = None, origin: Any = None, **more: Any) -> Path:
    """Write a Parquet file as other programs would."""
    columns = {"uri": uris or [f"/f/{n}" for n in range(len(vectors))], "embedding": vectors, **more}
    table = pa.table(columns)
    origin = {"fingerprint": "f"} if origin is None else origin
    pq.write_table(table.replace_schema_metadata({"lookalike": json.dumps(origin)} if origin else {}), path)
    return path


@pytest.mark.parametrize("number", ["float16", "float32", "float64"])
def test_files_of_other_programs_are_imported(conn: db.Connection, tmp_path: Path, number: str) -> None:
    space = make_space(conn)
    vectors = unit(5, DIMENSIONS)
    kept = [conn.execute("INSERT INTO lookalike.images (uri) VALUES (%s) RETURNING id", (f"/f/{n}",)) for n in (0, 1)]
    assert kept
    conn.execute("UPDATE lookalike.jobs SET lease = gen_random_uuid(), attempts = 1")
    path = foreign(
        tmp_path / "f.parquet",
        list(vectors.astype(number)),
        attributes=[{"price": n} for n in range(5)],
        shop=["x"] * 5,
    )
    reader = open_reader(path)
    assert reader.skipped == ["shop"]
    done = import_file(conn, path)
    assert (done.inserted, done.embedded) == (3, 5)
    assert jobs_of(conn) == (0,), "also those that a worker had claimed"
    rows: Any = conn.execute(f"SELECT embedding FROM lookalike.{space.table_name} ORDER BY image_id").fetchall()
    np.testing.assert_array_equal(np.stack([row[0].to_numpy() for row in rows]), vectors.astype(np.float16))
    found = conn.execute("SELECT attributes ->> 'price' FROM lookalike.images ORDER BY uri").fetchall()
    assert found == [(None,), (None,), ("2",), ("3",), ("4",)], "metadata in the database stay"
    import_file(conn, path, overwrite=True)
    assert conn.execute("SELECT attributes ->> 'price' FROM lookalike.images WHERE uri = '/f/0'").fetchone() == ("0",)


def test_rows_in_the_database_are_replaced_only_on_request(conn: db.Connection, tmp_path: Path) -> None:
    space = make_space(conn)
    one, two = unit(2, DIMENSIONS)
    import_file(conn, foreign(tmp_path / "a.parquet", [one], sha256=[b"1" * 32]))
    stored = f"SELECT embedding FROM lookalike.{space.table_name}"
    before = conn.execute(stored).fetchall()
    other_bytes = import_file(conn, foreign(tmp_path / "b.parquet", [two], sha256=[b"2" * 32]), overwrite=True)
    assert (other_bytes.other_content, other_bytes.unchanged) == (["/f/0"], 0)
    assert import_file(conn, foreign(tmp_path / "c.parquet", [two])).unchanged == 1
    assert conn.execute(stored).fetchall() == before
    assert import_file(conn, foreign(tmp_path / "c.parquet", [two]), overwrite=True).embedded == 1
    assert conn.execute(stored).fetchall() != before


def test_another_space_still_gets_its_jobs(conn: db.Connection, tmp_path: Path) -> None:
    make_space(conn)
    second = spaces.create(
        conn, name="second", model="n", weights=None, dimensions=3, preprocessing={}, fingerprint="second"
    )
    import_file(conn, foreign(tmp_path / "f.parquet", list(unit(2, DIMENSIONS))))
    assert conn.execute("SELECT space_id, count(*) FROM lookalike.jobs GROUP BY 1").fetchall() == [(second.id, 2)]
    assert conn.execute("SELECT count(*) FROM lookalike.space_gaps").fetchone() == (0,)


def bad(vectors: Any, row: int, value: Any) -> Any:
    changed = [list(map(float, vector)) for vector in vectors]
    changed[row] = value(changed[row])
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: {"vectors": bad(v, 1001, lambda one: [*one[:-1], float("nan")])},
            'row 1002, column "embedding": one of its num',
        ),
        (
            lambda v: {"vectors": bad(v, 3, lambda one: [*one[:-1], None])},
            'row 4, column "embedding": one of its numbers is',
        ),
        (
            lambda v: {"vectors": bad(v, 1, lambda one: [2 * x for x in one])},
            'row 2, column "embedding": length ',
        ),
        (
            lambda v: {"vectors": bad(v, 2, lambda one: one[:-1])},
            'row 3, column "embedding": 23 numbers, others have 24',
        ),
        (
            lambda v: {"vectors": [one[:5] for one in v]},
            'row 1, column "embedding": 5 dimensions, but the space has 24',
        ),
        (lambda v: {"uris": ["a", *map(str, range(1018)), "a"]}, 'row 1020, column "uri": the same as that of row 1'),
        (lambda v: {"uris": ["", *map(str, range(1019))]}, 'row 1, column "uri": is missing or empty'),
        (lambda v: {"sha256": [b"short"] * len(v)}, 'column "sha256"'),
        (lambda v: {"width": [0] * len(v)}, 'row 1, column "width": 0 is not a size'),
        (lambda v: {"attributes": ["[]"] * len(v)}, 'row 1, column "attributes": not a JSON object'),
        (lambda v: {"attributes": ['{"a": NaN}'] * len(v)}, 'row 1, column "attributes": not JSON'),
        (lambda v: {"caption": ["a\0b"] * len(v)}, 'row 1, column "caption": holds a NUL'),
        (lambda v: {"vectors": [1.0] * len(v)}, "not a list of floats"),
    ],
)
def test_the_first_bad_row_is_named(tmp_path: Path, change: Any, message: str) -> None:
    values = {"vectors": list(unit(1020, DIMENSIONS)), **change(list(unit(1020, DIMENSIONS)))}
    path = foreign(tmp_path / "bad.parquet", values.pop("vectors"), **values)
    with pytest.raises(InvalidInputError) as refused:
        transfer.check(open_reader(path), DIMENSIONS)
    assert message in str(refused.value)


def test_one_bad_row_prevents_the_whole_import(monkeypatch: Any, database_url: str, conn: Any, tmp_path: Path) -> None:
    make_space(conn)
    path = foreign(tmp_path / "bad.parquet", [*unit(1020, DIMENSIONS), np.ones(DIMENSIONS)])
    refused = runner(monkeypatch, database_url)("import", path)
    assert refused.exit_code == 1
    assert (
        'row 1021, column "embedding": length 4.89898, not 1; scale embeddings to it: --normalize'
        in refused.stderr.replace("\n", " ")
    )
    assert conn.execute("SELECT count(*) FROM lookalike.images").fetchone() == (0,)
    assert "1,021 new images" in runner(monkeypatch, database_url)("import", path, "--normalize").stdout


def test_the_model_must_be_the_same(conn: db.Connection, tmp_path: Path) -> None:
    space = make_space(conn)
    vectors = list(unit(2, DIMENSIONS))
    with pytest.raises(NotFoundError, match=r"fingerprint other… .*--create"):
        import_file(conn, foreign(tmp_path / "a.parquet", vectors, origin={"fingerprint": "other", "model": "m2"}))
    unknown = open_reader(foreign(tmp_path / "b.parquet", vectors, origin={}))
    with pytest.raises(InvalidInputError, match="--trust"):
        transfer.target_space(conn, unknown.origin, "s")
    assert transfer.target_space(conn, unknown.origin, "s", trust=True) == space
    with pytest.raises(InvalidInputError, match="7 dimensions, but space s has 24"):
        import_file(conn, foreign(tmp_path / "c.parquet", vectors, origin={"fingerprint": "f", "dimensions": 7}))
    other = open_reader(foreign(tmp_path / "d.parquet", vectors, origin={"fingerprint": "other"}))
    with pytest.raises(InvalidInputError, match="cannot be compared"):
        transfer.target_space(conn, other.origin, "s")
    with pytest.raises(InvalidInputError, match="does not state its model"):
        transfer.create_space(conn, other.origin, "new")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"no such thing", "not a Parquet file"),
        ("a.npy", b"no such thing", "not a .npy file"),
        ("a.csv", b"uri", "ends in neither"),
    ],
)
def test_unreadable_files_raise(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    with pytest.raises(InvalidInputError, match="no file"):
        open_reader(path)
    path.write_bytes(content)
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(InvalidInputError, match=message):
        open_reader(path)


def test_sidecars_that_do_not_fit_raise(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, unit(3, DIMENSIONS))
    lines = tmp_path / "v.jsonl"
    with pytest.raises(InvalidInputError, match=r"needs .*v\.jsonl"):
        open_reader(path)
    for text, message in (
        ('{"uri": "a"}\n', "has 1 lines, but .* has 3 rows"),
        ('{"uri": "a"}\n' * 4, "more lines than"),
        ('{"uri": "a"}\n{"uri": \n', "row 2: not JSON"),
        ('{"uri": "a"}\n{"uri": 7}\n{}\n', 'row 2, column "uri": 7 is not a string'),
        ('{"uri": "a", "width": 1.5}\n' * 3, 'row 1, column "width": 1.5 is not an integer'),
        ('{"uri": "a", "created_at": "noon"}\n' * 3, 'row 1, column "created_at"'),
    ):
        lines.write_text(text)
        with pytest.raises(InvalidInputError, match=message):
            transfer.check(open_reader(path), DIMENSIONS)


def test_a_batch_that_the_database_refuses_is_named_and_those_before_stay(conn: db.Connection, tmp_path: Path) -> None:
    make_space(conn)
    ids = [*range(1, 1011), 1]
    path = foreign(tmp_path / "f.parquet", list(unit(1011, DIMENSIONS)), id=ids)
    with pytest.raises(LookalikeError, match="rows 1001 to 1011 were not written, those before were"):
        import_file(conn, path, keep_ids=True)
    assert conn.execute("SELECT count(*) FROM lookalike.images").fetchone() == (1000,)
    assert import_file(conn, path).inserted == 11, "without their ids they fit"


def test_the_commands(
    monkeypatch: Any, database_url: str, full: db.Connection, other: db.Connection, tmp_path: Path
) -> None:
    lookalike: Command = runner(monkeypatch, database_url)
    path = tmp_path / "g.parquet"
    assert "1,030 images, 1,029 with an embedding in s" in lookalike("export", path).stdout
    assert lookalike("export", path).exit_code == 1
    full.execute("DELETE FROM lookalike.images WHERE id % 2 = 0")
    assert "1,030 rows, all valid" in lookalike("import", path, "--check").stdout
    imported = lookalike("import", path).stdout
    assert "515 new images, 514 embeddings written into s, 515 unchanged" in imported
    full.execute("UPDATE lookalike.images SET sha256 = %s WHERE id = 2", (b"n" * 32,))
    changed = full.execute("UPDATE lookalike.images SET sha256 = %s WHERE uri = '/pictures/1 ☃.png'", (b"n" * 32,))
    assert changed.rowcount == 1
    refused = lookalike("import", path)
    assert refused.exit_code == 3
    assert "1 image stored with other bytes" in refused.stderr.replace("\n", " ")
    empty: Command = runner(monkeypatch, other.info.dsn)
    assert "--create" in empty("import", path).stderr.replace("\n", " ")
    assert json.loads(empty("import", path, "--create", "--json").stdout)["embedded"] == 1029


def test_metadata_columns_in_sql(conn: db.Connection) -> None:
    """The SQL function alone: it refuses the id of another uri, and a space that does not exist."""
    space = make_space(conn)
    call = (
        "SELECT inserted FROM lookalike.import_embeddings(%s::smallint, %s, NULL, NULL, NULL, NULL, NULL, NULL, %s,"
        " NULL, NULL, %s)"
    )
    assert conn.execute(call, (space.id, ["a"], [Jsonb({"x": 1})], [70])).fetchone() == (1,)
    row = conn.execute("INSERT INTO lookalike.images (uri) VALUES ('b') RETURNING id").fetchone()
    assert int(str(row and row[0])) > 70
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(call, (space.id, ["c"], None, [70]))
    with pytest.raises(psycopg.errors.NoDataFound):
        conn.execute(call, (99, ["c"], None, None))
