"""The gunicorn server of the API."""

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
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (for gunicorn's heartbeat files, because a disk may be slow)


def serve(settings: Settings, url: str) -> None:
    """Serve the API on the database at `url` until a signal stops it; running requests are finished first.

    Removes leftovers of interrupted uploads first. gunicorn then controls this process: SIGTERM and SIGINT stop it,
    SIGHUP replaces its workers.

    Raises:
        SystemExit: the server stopped, or cannot listen.
    """
    if settings.log_level.upper() != "DEBUG":
        # The pool logs every checkout at INFO.
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
        # A forked worker must not run the caller's cleanup, which belongs to the parent process.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


def _close_telemetry(_: object, worker: Any) -> None:  # noqa: ANN401 (gunicorn's)
    if hasattr(worker, "wsgi"):  # the worker has started
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
            "timeout": 60,  # seconds without a heartbeat after which a process is replaced
            "graceful_timeout": 30,  # seconds for running requests at the end
            "keepalive": 30,
            "worker_tmp_dir": str(_SHARED_MEMORY) if _SHARED_MEMORY.is_dir() else None,
            "control_socket_disable": True,
            # Write gunicorn's lines to the log that `logs.configure` set up.
            **({"logconfig_dict": _PROPAGATED} if self._settings.log_format == "json" else {}),
            "loglevel": self._settings.log_level.lower(),
            "accesslog": "-" if self._settings.log_level.upper() == "DEBUG" else None,
            "proc_name": "lookalike api",
            "on_reload": lambda _: self._handover.begin(),
            "post_worker_init": self._start_worker,
            "worker_exit": _close_telemetry,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:  # noqa: ANN401 (a WSGI application)
        return create_app(self._settings, self._url)

    def _start_worker(self, worker: Any) -> None:  # noqa: ANN401 (gunicorn's)
        # Event streams end with their process, so that a reload does not wait for them.
        server_events.serve_while(lambda: worker.alive)
        worker.wsgi.extensions[EXTENSION].router.warm()
        self._handover.ready()
