"""The version of this code."""

import tomllib
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def version() -> str:
    """Return the version of the installed package, or that of pyproject.toml if the code runs from a checkout."""
    try:
        return installed("lookalike")
    except PackageNotFoundError:
        return str(tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]["version"])
