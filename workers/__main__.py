"""`python -m workers`: read options and settings, load the models, run one worker."""

import argparse
import logging
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from types import FrameType

from app import db
from app.config import Settings, settings
from app.db.retry import until_available
from app.errors import ConfigurationError, DatabaseRefusedError, LookalikeError

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker; return the exit status: 0 if stopped or drained, 1 after an error that waiting cannot mend."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=settings().log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _quit)
    try:
        with db.database(settings()) as url:
            _run(url, settings(), names=options.space, drain=options.drain)
    except LookalikeError as error:
        log.error("%s", error)  # noqa: TRY400 — one line, because a traceback would add nothing
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lookalike worker",
        description="Embeds queued images and query images until it is stopped. SIGTERM or Ctrl-C ends it after the "
        "batch in hand; a second one ends it at once. Settings are environment variables (LOOKALIKE_…).",
    )
    parser.add_argument(
        "--space",
        action="append",
        default=[],
        metavar="NAME",
        help="embedding space to serve, repeatable (default: all, including those created later; if the database has "
        "none, the worker creates one)",
    )
    parser.add_argument("--drain", action="store_true", help="exit with status 0 when the queue is empty")
    return parser


def _run(url: str, chosen: Settings, *, names: Sequence[str], drain: bool) -> None:
    until_available(lambda: _connect(url).close(), pause=_sleep)
    # Imported here so that --help, a bad option and a database that refuses do not wait for torch.
    from workers.served_spaces import Served, serve
    from workers.served_spaces import load as load_space
    from workers.worker import Worker

    def load() -> list[Served]:
        with closing(_connect(url)) as conn, db.translated():
            return serve(conn, chosen, names=names)

    follow = None if names else lambda space: load_space(space, chosen)
    worker = Worker(url, until_available(load, pause=_sleep) or [], chosen, drain=drain, load=follow)

    def stop(number: int, _: FrameType | None) -> None:
        log.info("%s: finishing the batch in hand", signal.Signals(number).name)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)  # a second one ends the process at once
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    worker.run()


def _connect(url: str) -> db.Connection:
    try:
        return db.connect(url, autocommit=True, application="lookalike worker")
    except DatabaseRefusedError as error:  # waiting helps later (a password rotates), but not at the start
        raise ConfigurationError(str(error)) from error


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def _quit(_: int, __: FrameType | None) -> None:
    """Exit at once, because before the worker runs there is no batch to finish."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
