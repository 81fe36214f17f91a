"""The command line: `lookalike`.

Commands import what they need when they run, so that `--help` is quick. Exit codes: 0 done; 1 a failure with its
reason; 2 wrong usage; 3 ingest or import refused some items; 130 interrupted; 143 terminated; 141 broken pipe.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any

import typer

from app.cli.commands import (
    attribute,
    bench,
    compare,
    costs,
    doctor,
    duplicates,
    index,
    ingest,
    key,
    maintain,
    migrate,
    preset,
    psql,
    recall,
    search,
    serve,
    settings,
    space,
    status,
    tradeoffs,
    transfer,
    tune,
    up,
)
from app.cli.help import Command, Group, examples
from app.errors import LookalikeError

BROKEN_PIPE = 141
_INTERRUPTED = 130


class _Group(Group):
    """Reports errors that a user can cause in one line on stderr; any other exception keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 — typer's context or click's, depending on typer's version
        from app.cli import output

        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except LookalikeError as error:
            output.error(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            output.note("interrupted")
            raise typer.Exit(_INTERRUPTED) from error
        except BrokenPipeError as error:
            raise typer.Exit(BROKEN_PIPE) from error
        return result


app = typer.Typer(
    name="lookalike",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Image retrieval inside PostgreSQL: search your images with SQL.",
    epilog=examples(
        "lookalike up                       start database, worker and API",
        "lookalike ingest ~/photos --wait   in a second terminal",
        "lookalike search cat.jpg -k 5      find images that look like this file",
        'lookalike search 42 --where \'{"price": {"$lt": 100}}\'',
        "lookalike psql                     search in SQL",
        after="""
Without LOOKALIKE_DATABASE_URL, each command starts and uses an embedded PostgreSQL in LOOKALIKE_HOME. "lookalike
settings" lists all variables. Results go to stdout, messages and progress to stderr.

Exit codes: 0 done; 1 failed, with the reason on stderr; 2 wrong usage; 3 some files refused; 130 interrupted.
""",
    ),
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from app.version import version as version_of

        typer.echo(f"lookalike {version_of()}")
        raise typer.Exit


_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
_RUN, _IMAGES, _SPACES, _INSPECT = "Run", "Images", "Embedding spaces and indexes", "Inspect"


def _add(command: Callable[..., None], panel: str, epilog: str | None = None, **options: Any) -> None:  # noqa: ANN401
    app.command(cls=Command, rich_help_panel=panel, epilog=epilog, **options)(command)


_add(up.up, _RUN, up.EPILOG)
_add(serve.serve, _RUN, serve.EPILOG)
# The worker prints its own --help.
_add(serve.worker, _RUN, context_settings={**_PASSED_ON, "help_option_names": []}, add_help_option=False)
_add(migrate.migrate, _RUN, migrate.EPILOG)
_add(maintain.maintain, _RUN, maintain.EPILOG)
app.add_typer(key.app, name="key", rich_help_panel=_RUN)
_add(ingest.ingest, _IMAGES, ingest.EPILOG)
_add(search.search, _IMAGES, search.EPILOG)
_add(transfer.export, _IMAGES, transfer.EXPORT_EPILOG)
_add(transfer.import_, _IMAGES, transfer.IMPORT_EPILOG, name="import")
_add(duplicates.duplicates, _IMAGES, duplicates.EPILOG)
_add(status.failures, _IMAGES, status.FAILURES_EPILOG)
_add(status.retry, _IMAGES, status.RETRY_EPILOG)
app.add_typer(attribute.app, name="attribute", rich_help_panel=_IMAGES)
app.add_typer(space.app, name="space", rich_help_panel=_SPACES)
_add(compare.compare_spaces, _SPACES, compare.EPILOG, name="compare-spaces")
app.add_typer(index.app, name="index", rich_help_panel=_SPACES)
_add(tradeoffs.tradeoffs, _SPACES, tradeoffs.EPILOG)
_add(tune.tune, _SPACES, tune.EPILOG)
app.add_typer(preset.app, name="preset", rich_help_panel=_SPACES)
_add(status.status, _INSPECT, status.EPILOG)
_add(doctor.doctor, _INSPECT, doctor.EPILOG)
app.add_typer(recall.app, name="recall", rich_help_panel=_INSPECT)
_add(costs.costs, _INSPECT, costs.EPILOG)
_add(settings.settings, _INSPECT, settings.EPILOG)
# psql has its own -h.
_add(psql.psql, _INSPECT, psql.EPILOG, context_settings={**_PASSED_ON, "help_option_names": ["--help"]})
app.add_typer(bench.app, name="bench", rich_help_panel=_INSPECT)


def main() -> None:
    """Run the command line, then exit the process with the command's code."""
    for stream in (sys.stdout, sys.stderr):
        # A file name that is not UTF-8 must not crash the command that reports it.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for number in (signal.SIGTERM, signal.SIGHUP):
        # An exception unwinds the blocks that stop the embedded server.
        signal.signal(number, _exit)
    try:
        app(prog_name="lookalike")
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
