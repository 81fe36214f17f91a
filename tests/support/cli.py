"""Run `lookalike` in this process, on the test's database."""

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from app import cli, config

Command = Callable[..., Any]


def runner(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Command:
    """Return a function that runs a CLI command in this process, on this database; stdout and stderr are separate."""
    monkeypatch.setenv("LOOKALIKE_DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object, env: dict[str, str] | None = None) -> Any:
        config.settings.cache_clear()
        try:
            result = CliRunner().invoke(cli.app, [str(one) for one in arguments], env=env)
        finally:
            config.settings.cache_clear()
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
