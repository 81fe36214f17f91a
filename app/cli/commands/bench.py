"""`lookalike bench worker`."""

import os
import sys

import typer

from app.cli import session
from app.cli.commands.serve import check_worker_extra
from app.cli.help import Command, Group

app = typer.Typer(cls=Group, no_args_is_help=True, help="Run benchmarks on your own hardware.")


@app.callback()
def _bench() -> None:
    pass


# The benchmark prints its own --help.
@app.command(
    "worker",
    cls=Command,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def worker(context: typer.Context) -> None:
    """Measure images per second on this device for each setting, and recommend settings."""
    check_worker_extra()
    session.settings()
    os.execv(sys.executable, [sys.executable, "-m", "workers.benchmark", *context.args])  # noqa: S606 — no shell
