"""Presets take effect, and an audited space names the model and the data version of its answers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from app import config, db
from app.config import ENVIRONMENT_FILE
from app.db import schema
from app.errors import ConflictError, NotFoundError
from app.index.switch import current_spec
from app.search import functions
from app.store import spaces
from app.tuning import presets
from tests.support import gallery_data
from tests.support.cli import runner

DIMENSIONS = 8
VECTORS = gallery_data.unit(40, DIMENSIONS)
AUDITED = "SELECT id, distance, fingerprint, data_version FROM lookalike.audited_search(%s, 5, filter => %s)"


@pytest.fixture(scope="module")
def small(new_database: Callable[..., str], template: str) -> str:
    """The name of a small gallery to clone."""
    url = new_database(template)
    with db.connect(url) as conn:
        gallery_data.make_space(conn, DIMENSIONS)
        gallery_data.fill(conn, VECTORS, [{"price": n} for n in range(40)])
    return str(conninfo_to_dict(url)["dbname"])


@pytest.fixture
def url(new_database: Callable[..., str], small: str) -> str:
    return new_database(small)


@pytest.fixture
def conn(url: str) -> Iterator[db.Connection]:
    with db.connect(url, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("preset", presets.PRESETS, ids=lambda one: one.name)
def test_an_applied_preset_holds_and_another_can_follow(
    preset: presets.Preset, conn: db.Connection, tmp_path: Path
) -> None:
    space = spaces.active(conn)
    (tmp_path / ENVIRONMENT_FILE).write_text("# mine\nLOOKALIKE_PORT=8123\n", encoding="utf-8")
    assert not all(line.holds for line in presets.compare(conn, preset, space, tmp_path))
    lines = presets.apply(conn, preset, space, tmp_path)
    assert [line for line in lines if not line.holds] == []
    assert str(current_spec(spaces.active(conn))) == preset.choice
    assert functions.search(conn, VECTORS[6], k=3).hits[0].image.id == 7
    if preset.environment:
        assert "LOOKALIKE_PORT=8123" in (tmp_path / ENVIRONMENT_FILE).read_text(encoding="utf-8")
    again = presets.apply(conn, preset, spaces.active(conn), tmp_path)
    assert again == lines
    other = next(one for one in presets.PRESETS if one is not preset)
    assert all(line.holds for line in presets.apply(conn, other, spaces.active(conn), tmp_path))


def test_processes_read_the_file_and_their_environment_overrides_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ENVIRONMENT_FILE).write_text("LOOKALIKE_PORT=8123\nLOOKALIKE_JOB_SHARE=4\n", encoding="utf-8")
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    monkeypatch.setenv("LOOKALIKE_JOB_SHARE", "2")
    config.settings.cache_clear()
    try:
        assert (config.settings().port, config.settings().job_share) == (8123, 2)
    finally:
        config.settings.cache_clear()


def test_the_command(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    lookalike = runner(monkeypatch, url)
    assert "medical-archive" in lookalike("preset", "ls").stdout
    before = json.loads(lookalike("preset", "show", "shop", "--json").stdout)
    assert {one["now"] for one in before["settings"] if one["name"] == "price"} == {None}
    done = lookalike("preset", "apply", "shop")
    assert done.exit_code == 0, done.stderr
    assert "hnsw(m=16,ef_construction=64)" in done.stdout
    assert lookalike("preset", "show", "sho").exit_code == 1
    with pytest.raises(NotFoundError, match='no preset "sho"; the presets are: social-feed'):
        presets.get("sho")


def answer(conn: db.Connection, **filter_: object) -> tuple[list[object], set[object]]:
    rows = conn.execute(AUDITED, (gallery_data.half(VECTORS[3]), Jsonb(filter_))).fetchall()
    return [row[:2] for row in rows], {row[2:] for row in rows}


def test_an_audited_answer_names_model_and_data_version(conn: db.Connection) -> None:
    with pytest.raises(ConflictError, match=r"is not audited.*audit_space\('small'\)"), db.translated():
        conn.execute(AUDITED, (gallery_data.half(VECTORS[3]), None))
    conn.execute("SELECT lookalike.audit_space('small'), lookalike.audit_space('small')")
    first, version = answer(conn)
    assert version == {("f", 1)}
    assert answer(conn) == (first, version)
    # All that an answer depends on counts: embeddings, deleted images, and metadata.
    conn.execute("UPDATE lookalike.images SET attributes = attributes || '{\"price\": 99}' WHERE id = 4")
    assert answer(conn, price=99)[1] == {("f", 2)}
    conn.execute("DELETE FROM lookalike.images WHERE id = 4")
    after, version = answer(conn)
    assert after != first
    assert version == {("f", 3)}
    conn.execute("SELECT lookalike.audit_space('small', false)")
    assert conn.execute("SELECT lookalike.data_version(1::smallint)").fetchone() == (None,)


def test_a_change_that_commits_later_is_another_version(conn: db.Connection, url: str) -> None:
    conn.execute("SELECT lookalike.audit_space('small')")
    version = "SELECT lookalike.data_version(1::smallint)"
    with db.connect(url) as early, db.connect(url) as late, db.connect(url) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert reader.execute(version).fetchone() == (1,)
        early.execute("UPDATE lookalike.images SET caption = 'a' WHERE id = 1")
        late.execute("UPDATE lookalike.images SET caption = 'b' WHERE id = 2")
        late.commit()
        assert conn.execute(version).fetchone() == (2,)
        early.rollback()
        assert conn.execute(version).fetchone() == (2,)
        early.execute("UPDATE lookalike.images SET caption = 'c' WHERE id = 1")
        early.commit()
        assert conn.execute(version).fetchone() == (3,)
        assert reader.execute(version).fetchone() == (1,)


def test_an_audited_space_can_be_dropped_and_the_schema_downgraded(conn: db.Connection, url: str) -> None:
    conn.execute("SELECT lookalike.create_space('second', 'm', 4, '{}', 'g')")
    conn.execute("SELECT lookalike.audit_space('second'), lookalike.audit_space('small')")
    spaces.drop(conn, "second")
    conn.execute("UPDATE lookalike.images SET caption = 'still' WHERE id = 1")
    assert conn.execute("SELECT lookalike.data_version(1::smallint)").fetchone() == (2,)
    schema.downgrade(url, "0007", lose_data=True)
    conn.execute("UPDATE lookalike.images SET caption = 'and still' WHERE id = 1")
