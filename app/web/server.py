"""Runs the API under gunicorn."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from app.config import Settings
from app.errors import StorageError
from app.media import uploads
from app.web import logs, server_events, telemetry
from app.web.factory import create_app
from app.web.graceful_reload import Handover
from app.web.services import EXTENSION

log = logging.getLogger(__name__)

_PROPAGATED = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {},
    "loggers": {
        "gunicorn.error": {"propagate": True, "handlers": []},
        "gunicorn.access": {"propagate": True, "handlers": []},
    },
    "handlers": {},
    "formatters": {},
}
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (only gunicorn's heartbeat files, which a slow disk must not hold up)


def serve(settings: Settings, url: str) -> None:
    """Serve the API on the database at `url` until a signal ends it; requests in hand are finished first.

    What uploads that were cut off have left is swept before. gunicorn takes this process over: SIGTERM and SIGINT end
    it, SIGHUP replaces its workers one after the other. At the end, and where it cannot listen, SystemExit is raised.
    """
    if settings.log_level.upper() != "DEBUG":
        # The pool tells each loan at INFO.
        logging.getLogger("psycopg.pool").setLevel(logging.WARNING)
    logs.configure(settings)
    try:
        uploads.sweep(uploads.open_storage(settings))
    except StorageError as error:
        log.warning("%s", error)
    arbiter = os.getpid()
    try:
        _Server(settings, url).run()
    except SystemExit as ended:
        if os.getpid() == arbiter:
            raise
        # A forked worker: what the caller opened is the caller's to close, once, in the process that opened it.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


def _leave(_: object, worker: Any) -> None:  # noqa: ANN401 (gunicorn's)
    if hasattr(worker, "wsgi"):  # it came up
        telemetry.close(worker.wsgi)


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, settings: Settings, url: str) -> None:
        self._settings = settings
        self._url = url
        self._handover = Handover(settings.api_workers)
        super().__init__()

    def load_config(self) -> None:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        options: dict[str, Any] = {
            "bind": f"{host}:{self._settings.port}",
            "worker_class": "gthread",
            "workers": self._settings.api_workers,
            "threads": self._settings.api_threads,
            # Seconds without a sign of life after which a process is replaced, and given to requests at the end.
            "timeout": 60,
            "graceful_timeout": 30,
            "keepalive": 30,
            "worker_tmp_dir": str(_SHARED_MEMORY) if _SHARED_MEMORY.is_dir() else None,
            "control_socket_disable": True,
            # Into the log that `logs.configure` set up, in the place of gunicorn's own lines.
            **({"logconfig_dict": _PROPAGATED} if self._settings.log_format == "json" else {}),
            "loglevel": self._settings.log_level.lower(),
            "accesslog": "-" if self._settings.log_level.upper() == "DEBUG" else None,
            "proc_name": "lookalike api",
            "on_reload": lambda _: self._handover.begin(),
            "post_worker_init": self._begin,
            "worker_exit": _leave,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:  # noqa: ANN401 (a WSGI application)
        return create_app(self._settings, self._url)

    def _begin(self, worker: Any) -> None:  # noqa: ANN401 (gunicorn's)
        # So that event streams end with the process that serves them, and no reload waits for one.
        server_events.serve_while(lambda: worker.alive)
        worker.wsgi.extensions[EXTENSION].reads.warm()
        self._handover.ready()
