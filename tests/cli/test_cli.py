"""The commands on a real database: what they print and where, their exit codes, and users' mistakes."""

import json
import re
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import psycopg
import pytest
from PIL import Image
from psycopg.conninfo import make_conninfo

from app import db, version
from app.config import Settings
from app.db import schema
from app.store import spaces
from tests.support.cli import Command, runner

COMMANDS = [
    "up",
    "migrate",
    "maintain",
    "worker",
    "serve",
    "ingest",
    "search",
    "export",
    "import",
    "duplicates",
    "failures",
    "retry",
    "attribute",
    "key",
    "status",
    "doctor",
    "settings",
    "space",
    "index",
    "preset",
    "tradeoffs",
    "tune",
    "psql",
]


@pytest.fixture
def lookalike(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Command:
    """Run a command of the CLI in this process, on the test's database; with separate stdout and stderr."""
    return runner(monkeypatch, database_url)


@pytest.fixture
def gallery(conn: db.Connection) -> list[int]:
    """Three searchable images, at 0, 45 and 90 degrees, in an active space, and a fourth in the queue."""
    conn.autocommit = True
    space = spaces.create(conn, name="s", model="m", weights=None, dimensions=2, preprocessing={}, fingerprint="f")
    ids = []
    for number, vector in enumerate(("[1,0]", "[0.7071,0.7071]", "[0,1]", None)):
        row = conn.execute(
            "INSERT INTO lookalike.images (uri, caption, attributes) VALUES (%s, %s, %s::jsonb) RETURNING id",
            (f"/pictures/{number}\n.jpg", f"picture {number}", json.dumps({"price": number})),
        ).fetchone()
        assert row
        ids.append(int(str(row[0])))
        if vector:
            conn.execute(f"INSERT INTO lookalike.{space.table_name} VALUES (%s, %s::halfvec)", (ids[-1], vector))
            conn.execute("DELETE FROM lookalike.jobs WHERE image_id = %s", (ids[-1],))
    return ids


def fail(conn: db.Connection, image_id: int) -> None:
    conn.execute("DELETE FROM lookalike.jobs WHERE image_id = %s", (image_id,))
    conn.execute(
        "INSERT INTO lookalike.failures (image_id, space_id, uri, step, reason, attempts)"
        " SELECT %s, id, '/pictures/3.jpg', 'decode', 'the file is empty', 1 FROM lookalike.embedding_spaces",
        (image_id,),
    )


def pictures(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (4, 4 + number)).save(folder / name)
    return folder


# Help


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "worker"])
def test_every_command_explains_itself(lookalike: Command, command: str) -> None:
    result = lookalike(command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_help_has_examples_as_they_are_typed_and_exit_codes(lookalike: Command) -> None:
    shown = lookalike("--help").stdout
    assert """  lookalike search 42 --where '{"price": {"$lt": 100}}'\n""" in shown
    assert "Exit codes: 0" in shown
    assert all(command in shown for command in COMMANDS)
    assert lookalike("-h").stdout == shown
    assert "3 some were refused" in " ".join(lookalike("ingest", "--help").stdout.split())


def test_version_is_that_of_the_package(lookalike: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(r"lookalike \d+\.\d+\.\d+\n", lookalike("--version").stdout)

    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version, "installed", not_installed)
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    declared = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"]
    assert lookalike("--version").stdout == f"lookalike {declared}\n"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["search"], ["search", "1", "-k", "0"], ["search", "1", "-k", "x"], ["status", "--no"]]
)
def test_wrong_usage_is_exit_code_2_on_stderr(lookalike: Command, arguments: list[str]) -> None:
    result = lookalike(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


# Settings


def test_settings_are_listed_from_their_declarations(lookalike: Command) -> None:
    found = {
        one["name"]: one for one in json.loads(lookalike("settings", "--json", env={"LOOKALIKE_PORT": "1"}).stdout)
    }
    assert found.keys() == {f"LOOKALIKE_{name.upper()}" for name in Settings.model_fields}
    assert found["LOOKALIKE_PORT"] == {
        "name": "LOOKALIKE_PORT",
        "current": 1,
        "default": 8000,
        "set": True,
        "help": Settings.model_fields["port"].description,
    }
    assert "LOOKALIKE_BATCH_SIZE" in lookalike("settings").stdout


def test_settings_do_not_show_the_password(lookalike: Command) -> None:
    env = {"LOOKALIKE_DATABASE_URL": "postgresql://u:geheim@h/d"}
    for form in ([], ["--json"]):
        shown = lookalike("settings", *form, env=env).stdout
        assert "geheim" not in shown
        assert "password=…" in shown


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "x"), ("BATCH_SIZE", "-1"), ("LOG_LEVEL", "LOUD"), ("LOOKALIKE_LEASE_SECONDS", "-1")]
)
def test_a_wrong_setting_is_named(lookalike: Command, name: str, value: str) -> None:
    name = "LOOKALIKE_" + name.removeprefix("LOOKALIKE_")
    result = lookalike("status", env={name: value})
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {name}={value}: ")


# Database and schema


def test_no_database(lookalike: Command) -> None:
    result = lookalike("status", env={"LOOKALIKE_DATABASE_URL": "postgresql://127.0.0.1:1/none"})
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert "Connection refused" in result.stderr


@pytest.mark.parametrize(
    "command", [["status"], ["search", "1"], ["failures"], ["retry"], ["space", "ls"], ["ingest", "."]]
)
def test_a_database_without_schema_and_one_with_an_older_one(
    lookalike: Command, new_database: Callable[..., str], database_url: str, command: list[str], tmp_path: Path
) -> None:
    command = [str(pictures(tmp_path, "a.png")) if one == "." else one for one in command]
    result = lookalike(*command, env={"LOOKALIKE_DATABASE_URL": new_database()})
    assert result.exit_code == 1
    assert re.fullmatch(r'error: .*"lookalike migrate".*\n', result.stderr)
    with psycopg.connect(database_url) as conn:
        conn.execute("UPDATE lookalike.alembic_version SET version_num = 'future'")
    result = lookalike(*command)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the database is at revision future, newer than this code")


def test_migrate_up_and_down(lookalike: Command, new_database: Callable[..., str]) -> None:
    env = {"LOOKALIKE_DATABASE_URL": new_database()}
    head, first = schema.head(), schema.revisions()[0]
    before = lookalike("migrate", "--check", env=env)
    assert (before.exit_code, before.stdout) == (1, "")
    assert f"the database is at no revision, this code needs {head}" in before.stderr
    assert lookalike("migrate", env=env).stdout == f"no revision → {head}\n"
    assert lookalike("migrate", env=env).stdout == f"{head}, nothing to do\n"
    assert lookalike("migrate", "--check", env=env).exit_code == 0
    assert lookalike("migrate", "--to", "base", env=env).stdout == f"{head} → no revision\n"
    assert lookalike("migrate", "--to", first, env=env).stdout == f"no revision → {first}\n"
    assert lookalike("migrate", "--to", "head", env=env).exit_code == 0
    assert lookalike("migrate", "--to", first, env=env).exit_code == 0


def test_a_downgrade_that_loses_images_needs_confirmation(lookalike: Command, gallery: list[int]) -> None:
    result = lookalike("migrate", "--to", "base")
    assert result.exit_code == 1
    assert "would lose 4 images" in result.stderr
    assert "--lose-data" in result.stderr
    first = schema.revisions()[0]
    assert (f"{schema.head()} → {first}, and no further" in result.stderr) == (first != schema.head())
    assert lookalike("migrate", "--to", "base", "--lose-data").stdout == f"{first} → no revision\n"


def test_an_unknown_revision_lists_the_revisions(lookalike: Command) -> None:
    result = lookalike("migrate", "--to", "nope")
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"error: there is no revision nope; choose one of {', '.join(schema.revisions())}, head, base\n"
    )


def test_revisions_match_alembic() -> None:
    from alembic.script import ScriptDirectory

    known = [one.revision for one in ScriptDirectory.from_config(schema.config("")).walk_revisions()]
    assert schema.revisions() == tuple(reversed(known))


# Ingest


def test_ingest_twice(lookalike: Command, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p q", "a.png", "it's.png", "ü\n.png")
    (folder / "notes.txt").write_text("x")
    first = lookalike("ingest", folder)
    assert (first.exit_code, first.stdout) == (
        0,
        "3 new, 0 changed, 0 unchanged, 0 refused (1 other file skipped)\n",
    )
    assert first.stderr == ""
    Image.new("RGB", (9, 9)).save(folder / "a.png")
    second = lookalike("ingest", folder, "--json")
    assert json.loads(second.stdout) == {
        "new": 0,
        "changed": 1,
        "unchanged": 2,
        "refused": [],
        "skipped": 1,
        "searchable": None,
        "failed": None,
    }


def test_refused_files_are_listed_and_make_exit_code_3(lookalike: Command, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", "a.png")
    (folder / "new\nline.png").write_bytes(b"")
    result = lookalike("ingest", folder)
    assert result.exit_code == 3
    assert result.stdout == "1 new, 0 changed, 0 unchanged, 1 refused\n"
    assert result.stderr == f"refused: {folder}/new\\nline.png: the file is empty (0 bytes)\n"
    listed = json.loads(lookalike("ingest", folder, "--json").stdout)["refused"]
    assert listed == [{"origin": f"{folder}/new\nline.png", "reason": "the file is empty (0 bytes)"}]


def test_ingest_of_a_manifest(lookalike: Command, tmp_path: Path, conn: db.Connection) -> None:
    folder = pictures(tmp_path / "p", "a.png")
    csv = tmp_path / "m.csv"
    csv.write_text("file;uri;title;price;zip\np/a.png;;A;1.5;12345\np/none.png;;B;2;1\n;https://host.invalid/b;C;3;2\n")
    result = lookalike("ingest", "--manifest", csv, "--text", "zip")
    assert result.exit_code == 3
    assert f"refused: {csv} line 3: there is no file p/none.png in {tmp_path}\n" in result.stderr
    rows = conn.execute("SELECT uri, caption, attributes FROM lookalike.images ORDER BY uri").fetchall()
    assert rows == [
        (str(folder / "a.png"), "A", {"price": 1.5, "zip": "12345"}),
        ("https://host.invalid/b", "C", {"price": 3, "zip": "2"}),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "nothing to ingest"),
        (["/no/such/folder"], "there is no file or folder /no/such/folder"),
        (["--manifest", "/no/such.csv"], "/no/such.csv cannot be read: No such file or directory"),
    ],
)
def test_nothing_to_ingest(lookalike: Command, arguments: list[str], expected: str) -> None:
    result = lookalike("ingest", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert expected in result.stderr


def test_waiting_without_a_worker_ends_in_an_error(lookalike: Command, tmp_path: Path) -> None:
    result = lookalike("ingest", pictures(tmp_path / "p", "a.png"), "--wait", "--worker-timeout", "0.2")
    assert result.exit_code == 1
    assert "1 images wait, but no worker has been alive" in result.stderr


# Search


def test_search_by_id(lookalike: Command, gallery: list[int]) -> None:
    result = lookalike("search", gallery[0], "-k", "2")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["id", "distance", "caption", "uri"]
    assert [(line[0], line[1]) for line in lines[1:]] == [(str(gallery[1]), "0.7653"), (str(gallery[2]), "1.4142")]
    assert "/pictures/1\\n.jpg" in result.stdout


def test_search_as_json_is_what_the_api_answers(lookalike: Command, gallery: list[int]) -> None:
    result = lookalike("search", gallery[0], "--where", '{"price": {"$gte": 2}}', "--json", "--explain")
    found = json.loads(result.stdout)
    assert found.keys() == {"space", "results", "plan"}
    (only,) = found["results"]
    assert only["distance"] == pytest.approx(2**0.5, abs=1e-3)
    assert only["similarity"] == pytest.approx(0, abs=1e-3)
    assert (only["image"]["id"], only["image"]["uri"]) == (gallery[2], "/pictures/2\n.jpg")
    assert "plan" not in json.loads(lookalike("search", gallery[0], "--json").stdout)


def test_a_search_without_results_succeeds(lookalike: Command, gallery: list[int]) -> None:
    result = lookalike("search", gallery[0], "--max-distance", "0.1")
    assert (result.exit_code, result.stderr) == (0, "nothing found in space s\n")


def test_the_sql_of_a_search_gives_the_same_rows(lookalike: Command, gallery: list[int], conn: db.Connection) -> None:
    where = json.dumps({"caption": {"$ne": "it's"}, "price": {"$lt": 9}})
    statement = lookalike("search", gallery[0], "-k", "2", "--where", where, "--max-distance", "1.5", "--sql").stdout
    rows = conn.execute(statement.encode()).fetchall()
    assert [(row[0], row[1]) for row in rows] == [(gallery[1], "picture 1"), (gallery[2], "picture 2")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["999999"], "there is no image 999999"),
        (["4"], "4"),
        (["none.jpg"], "none.jpg is not an image file (No such file or directory) and not the id of an image"),
        (["."], ". is not an image file (Is a directory)"),
        (["1", "--where", "{bad"], "the filter is not JSON"),
        (["1", "--where", "[1]"], "a filter is a JSON object"),
        (["1", "--where", '{"price": {"$near": 1}}'], "$near"),
    ],
)
def test_mistakes_of_a_search(lookalike: Command, gallery: list[int], arguments: list[str], expected: str) -> None:
    result = lookalike("search", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert expected in result.stderr


def test_a_query_image_without_a_worker(lookalike: Command, gallery: list[int], tmp_path: Path) -> None:
    result = lookalike("search", pictures(tmp_path, "a.png") / "a.png")
    assert result.exit_code == 1
    assert "no worker is alive for embedding space s" in result.stderr
    too_large = lookalike("search", tmp_path / "a.png", env={"LOOKALIKE_MAX_IMAGE_BYTES": "10"})
    assert "the limit is 10 (LOOKALIKE_MAX_IMAGE_BYTES)" in too_large.stderr


def test_a_search_before_there_is_a_space(lookalike: Command) -> None:
    result = lookalike("search", "1")
    assert result.exit_code == 1
    assert "no embedding space is active" in result.stderr


# Status, failures, spaces, attributes, doctor


def test_status(lookalike: Command, gallery: list[int], conn: db.Connection) -> None:
    fail(conn, gallery[3])
    shown = lookalike("status")
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"4 images, schema {schema.head()}\n")
    assert re.search(r"^s +active +3 +0 +– +1 +0 .*none \(exact search\)$", shown.stdout, re.MULTILINE)
    assert "lookalike failures" in shown.stderr
    found = json.loads(lookalike("status", "--json").stdout)
    assert (found["images"], found["spaces"][0]["failed"], found["workers"]) == (4, 1, [])


def test_status_reports_that_no_worker_is_alive(lookalike: Command, gallery: list[int]) -> None:
    assert "no worker is alive" in lookalike("status").stderr


def test_status_of_an_empty_database(lookalike: Command) -> None:
    assert "no embedding space yet" in lookalike("status").stdout


def test_failures_and_retry(lookalike: Command, gallery: list[int], conn: db.Connection) -> None:
    assert lookalike("failures").stderr == "no failures\n"
    fail(conn, gallery[3])
    assert "the file is empty" in lookalike("failures").stdout
    (only,) = json.loads(lookalike("failures", "--json").stdout)
    assert (only["image_id"], only["step"]) == (gallery[3], "decode")
    unknown = lookalike("retry", gallery[0])
    assert (unknown.exit_code, unknown.stderr.split(";")[0]) == (1, f"error: no failures of {gallery[0]}")
    assert "there are: s" in lookalike("retry", "--space", "none").stderr
    assert lookalike("retry", gallery[3]).stdout == "1 job queued again\n"
    assert lookalike("retry").stdout == "0 jobs queued again\n"


def test_spaces_are_listed(lookalike: Command, gallery: list[int]) -> None:
    assert re.search(r"^s +active +m +2 +hnsw", lookalike("space", "ls").stdout, re.MULTILINE)
    assert [one["name"] for one in json.loads(lookalike("space", "ls", "--json").stdout)] == ["s"]


def test_attribute_indexes(lookalike: Command, gallery: list[int]) -> None:
    assert lookalike("attribute", "ls").stderr == "no attribute has an index\n"
    assert lookalike("attribute", "add", "price", "numeric").exit_code == 0
    assert lookalike("attribute", "ls").stdout.splitlines()[1].startswith("price      numeric  ready")
    assert [one["name"] for one in json.loads(lookalike("attribute", "ls", "--json").stdout)] == ["price"]
    assert lookalike("attribute", "drop", "price").stdout.startswith("dropped images_attribute_price")
    assert "has no index" in lookalike("attribute", "drop", "price").stderr
    result = lookalike("attribute", "add", "price", "money")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: type 'money' does not exist; choose numeric, text, boolean, timestamp or text[]\n",
    )


def test_doctor(lookalike: Command, gallery: list[int], conn: db.Connection) -> None:
    ill = lookalike("doctor")
    assert ill.exit_code == 1
    assert "WRONG  workers:     no live worker" in ill.stdout
    conn.execute(
        "INSERT INTO lookalike.workers (name, version, device, space_ids)"
        " SELECT 'h:1', '1', 'cpu', array_agg(id) FROM lookalike.embedding_spaces"
    )
    well = lookalike("doctor", "--json")
    assert well.exit_code == 0
    names = {one["name"] for one in json.loads(well.stdout)}
    assert names == {"worker", "server", "pgvector", "schema", "settings", "roles", "space", "index", "workers"}


def test_doctor_runs_a_single_check(lookalike: Command, conn: db.Connection) -> None:
    assert lookalike("doctor", "--only", "workers").exit_code == 1
    conn.execute("SELECT lookalike.create_space('s', 'm', 3, '{}', 'f')")
    conn.execute("SELECT lookalike.begin_worker('host:1', '1', 'cpu', ARRAY[1]::smallint[])")
    conn.commit()
    alive = lookalike("doctor", "--only", "workers")
    assert alive.exit_code == 0
    assert alive.stdout.count("\n") == 1
    assert "no check nonsense" in lookalike("doctor", "--only", "nonsense").stderr


def test_doctor_reports_unsafe_plain_sql(lookalike: Command, conn: db.Connection) -> None:
    name = conn.info.dbname
    conn.execute(f"ALTER DATABASE {name} SET hnsw.iterative_scan = off")
    conn.commit()
    checked = lookalike("doctor", "--only", "settings")
    assert checked.exit_code == 1
    assert "hnsw.iterative_scan is off, not strict_order" in checked.stdout
    assert "lookalike.tune_database()" in checked.stdout


def test_doctor_without_schema_or_database(lookalike: Command, new_database: Callable[..., str]) -> None:
    without = lookalike("doctor", env={"LOOKALIKE_DATABASE_URL": new_database()})
    assert without.exit_code == 1
    assert "no Lookalike schema yet" in without.stdout
    assert 'run "lookalike migrate"' in without.stdout
    none = lookalike("doctor", env={"LOOKALIKE_DATABASE_URL": "postgresql://127.0.0.1:1/none"})
    assert none.exit_code == 1
    assert "WRONG  database:" in none.stdout


# Worker


def test_a_worker_without_its_extra(lookalike: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "timm") else found(name))
    for command in ("worker", "up"):
        result = lookalike(command)
        assert result.exit_code == 1
        assert result.stderr == "error: a worker needs torch and timm: pip install 'lookalike[worker]'\n"


def test_a_port_in_use_is_reported_before_anything_starts(lookalike: Command) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = lookalike("up", env={"LOOKALIKE_PORT": str(port)})
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use); set LOOKALIKE_PORT" in result.stderr


def test_an_unknown_database_is_named(lookalike: Command, database_url: str) -> None:
    result = lookalike("status", env={"LOOKALIKE_DATABASE_URL": make_conninfo(database_url, dbname="none")})
    assert result.exit_code == 1
    assert 'database "none" does not exist' in result.stderr


def test_duplicates_are_listed_by_group(lookalike: Command, gallery: list[int]) -> None:
    rows = [line.split() for line in lookalike("duplicates", "--threshold", "0.8").stdout.splitlines()[1:]]
    assert [row[:3] for row in rows] == [[str(gallery[0]), str(one), "0.7653"] for one in gallery[:3]]
    found = json.loads(
        lookalike("duplicates", "--threshold", 0.8, "--where", '{"price": {"$gte": 1}}', "--json").stdout
    )
    assert found["total"] == 1
    (group,) = found["groups"]
    assert group["group"] == gallery[1]
    assert [one["image"]["id"] for one in group["images"]] == gallery[1:3]
    none = lookalike("duplicates", "--threshold", 0.1)
    assert none.exit_code == 0
    assert none.stderr == "no two images within 0.1 of each other\n"
    assert lookalike("duplicates", "--threshold", 3).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--watch"], "--watch needs exactly one folder"),
        (["--watch", "a", "b"], "--watch needs exactly one folder"),
        (["--watch", "none"], "there is no folder none to watch"),
        (["--delete", "."], "--delete goes with --watch"),
        (["--poll", "2", "."], "--poll goes with --watch"),
        (["clip.mp4"], "clip.mp4 is a video; give the frames to take per second: --fps 1"),
        (["rtsp://camera/front"], "--fps 1"),
        (["none.mp4", "--fps", "1"], "there is no video none.mp4"),
        (["rtsp://camera/front", "--fps", "1"], "LOOKALIKE_IMAGE_HOSTS=camera"),
        (["a.mp4", "--fps", "1", "--watch"], "--fps needs videos"),
        (["a.jpg", "--skip-similar", "0.1"], "--skip-similar goes with --fps"),
        (["a.jpg", "--max-lag", "1"], "--max-lag goes with --fps"),
    ],
)
def test_mistakes_of_streams(lookalike: Command, arguments: list[str], expected: str) -> None:
    result = lookalike("ingest", *arguments)
    assert result.exit_code == 1
    assert expected in result.stderr
