"""The layout's rules: who may import whom, and how long a module may grow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
APP = sorted((ROOT / "app").rglob("*.py"))
ALL = sorted(path for folder in ("app", "workers", "migrations", "bench") for path in (ROOT / folder).rglob("*.py"))

EDGES = ("app.web", "app.cli", "app.demo")
BASE = (
    "app.config",
    "app.db",
    "app.db.embedded",
    "app.errors",
    "app.types",
    "app.db.schema",
    "app.db.sql",
    "app.db.tables",
)


def imports(path: Path) -> set[str]:
    """The dotted names that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("path", APP, ids=module)
def test_app_imports_no_worker_and_no_torch(path: Path) -> None:
    assert not [name for name in imports(path) if within(name, ("workers", "torch", "torchvision", "timm"))]


@pytest.mark.parametrize("path", [path for path in APP if not within(module(path), EDGES)], ids=module)
def test_imports_point_from_edges_to_domain_to_base(path: Path) -> None:
    names = {name for name in imports(path) if name.startswith("app.")}
    assert not [name for name in names if within(name, EDGES)], "an edge is imported from below"
    if within(module(path), BASE):
        assert not [name for name in names if not within(name, BASE)], "base imports domain"


def test_api_and_cli_load_no_torch() -> None:
    code = "import sys, app.cli, app.web; sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'workers')))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", ALL, ids=module)
def test_a_module_stays_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 420
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.name == "__init__.py"
