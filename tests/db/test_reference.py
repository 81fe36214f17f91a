"""docs/sql.md: current, complete, and every example runs."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from app import db
from app.db.embedded import EmbeddedServer
from migrations import reference
from tests.support import clients

EXAMPLES = reference.examples()
PHOTO = b"bytes of a stored image"


@pytest.fixture(scope="module")
def url(new_database: Callable[..., str], template: str) -> str:
    """A small gallery with the names that the examples use."""
    made = new_database(template)
    clients.fill(made, space="tf_efficientnet_lite0")
    with db.connect(made) as conn:
        conn.execute(
            "UPDATE lookalike.images SET caption = 'a cup of tea', attributes = jsonb_build_object("
            "'category', (ARRAY['animals', 'food'])[1 + id % 2], 'subcategory', id % 9, 'brightness', id)"
        )
        conn.execute("UPDATE lookalike.images SET sha256 = sha256(%s) WHERE id = 42", (PHOTO,))
    return made


def test_the_page_is_current() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), (
        "sql/ changed: run python -m migrations.reference --write"
    )


def test_every_public_function_and_view_has_an_example_that_names_it() -> None:
    assert [name for name, example in EXAMPLES.items() if f"lookalike.{name}" not in example] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name: str, server: EmbeddedServer, url: str, tmp_path: Path) -> None:
    """Each in a transaction that is rolled back, except for embed_image, which commits."""
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    example = EXAMPLES[name] if "CALL" in EXAMPLES[name] else f"BEGIN;\n{EXAMPLES[name]}\nROLLBACK;"
    command = [str(server.bin_dir / "psql"), url, "-v", "ON_ERROR_STOP=1", "-f", "-"]
    done = subprocess.run(command, input=example, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"
