"""Rules of the layout that the import contract in pyproject.toml does not check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALL = sorted(path for folder in ("app", "workers", "migrations", "bench") for path in (ROOT / folder).rglob("*.py"))


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_api_and_cli_do_not_load_torch() -> None:
    code = "import sys, app.cli, app.web; sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'workers')))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", ALL, ids=module)
def test_a_module_is_short_and_has_a_docstring(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.name == "__init__.py"
