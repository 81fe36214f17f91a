"""The command line: `lookalike`.

So `--help` is quick. Exit codes: 0 done; 1 a failure that a person can mend; 2 wrong usage; 3 ingest refused some
files; 130 interrupted, 143 terminated, 141 the reader of the output went away.
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
    """Turns what a user can cause into one line on stderr and an exit code; anything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 — typer's own, or click's context, by typer's version
        from app.cli import output

        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except LookalikeError as error:
            output.error(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            output.say("interrupted")
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
    help="Image retrieval inside PostgreSQL: a folder of images becomes SQL you can search.",
    epilog=examples(
        "lookalike up                                   server, worker and API; Ctrl-C ends all",
        "lookalike ingest ~/photos --wait               in a second terminal",
        "lookalike search cat.jpg -k 5                  images that look like this file",
        'lookalike search 42 --where \'{"price": {"$lt": 100}}\'',
        "lookalike psql                                 the same in SQL",
        after="""
Without LOOKALIKE_DATABASE_URL every command uses an embedded PostgreSQL in LOOKALIKE_HOME, and starts it by itself.
All variables: lookalike settings. Results go to stdout, messages and progress to stderr. Exit codes: 0 done; 1
failed, with a line that says why; 2 wrong usage; 3 ingest refused some files; 130 interrupted.
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
_RUN, _FILL, _LOOK = "Run it", "Images", "Look"


def _add(command: Callable[..., None], panel: str, epilog: str | None = None, **options: Any) -> None:  # noqa: ANN401
    app.command(cls=Command, rich_help_panel=panel, epilog=epilog, **options)(command)


_add(up.up, _RUN, up.EPILOG)
_add(migrate.migrate, _RUN, migrate.EPILOG)
_add(maintain.maintain, _RUN, maintain.EPILOG)
# --help is the worker's own.
_add(serve.worker, _RUN, context_settings={**_PASSED_ON, "help_option_names": []}, add_help_option=False)
_add(serve.serve, _RUN, serve.EPILOG)
_add(ingest.ingest, _FILL, ingest.EPILOG)
_add(search.search, _FILL, search.EPILOG)
_add(transfer.export, _FILL, transfer.EXPORT_EPILOG)
_add(transfer.import_, _FILL, transfer.IMPORT_EPILOG, name="import")
_add(duplicates.duplicates, _FILL, duplicates.EPILOG)
_add(status.failures, _FILL, status.FAILURES_EPILOG)
_add(status.retry, _FILL, status.RETRY_EPILOG)
app.add_typer(attribute.app, name="attribute", rich_help_panel=_FILL)
app.add_typer(key.app, name="key", rich_help_panel=_RUN)
_add(status.status, _LOOK, status.EPILOG)
_add(doctor.doctor, _LOOK)
_add(costs.costs, _LOOK, costs.EPILOG)
app.add_typer(recall.app, name="recall", rich_help_panel=_LOOK)
_add(settings.settings, _LOOK, settings.EPILOG)
app.add_typer(space.app, name="space", rich_help_panel=_LOOK)
_add(compare.compare_spaces, _LOOK, compare.EPILOG, name="compare-spaces")
app.add_typer(index.app, name="index", rich_help_panel=_LOOK)
app.add_typer(preset.app, name="preset", rich_help_panel=_LOOK)
_add(tradeoffs.tradeoffs, _LOOK, tradeoffs.EPILOG)
_add(tune.tune, _LOOK, tune.EPILOG)
app.add_typer(bench.app, name="bench", rich_help_panel=_LOOK)
# psql has a -h of its own.
_add(psql.psql, _LOOK, psql.EPILOG, context_settings={**_PASSED_ON, "help_option_names": ["--help"]})


def main() -> None:
    """Run the command line and exit the process with its code."""
    for stream in (sys.stdout, sys.stderr):
        # A file name that is not UTF-8 must not end the command that reports it.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for number in (signal.SIGTERM, signal.SIGHUP):
        # So that the embedded server is stopped by the blocks that started it.
        signal.signal(number, _end)
    try:
        app(prog_name="lookalike")
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
