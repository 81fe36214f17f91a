"""Forks workers and APIs on command for bench.chaos.processes, so that a start needs no import of torch.

It reads lines of JSON {"module", "arguments", "environment", "log"} on stdin. It writes {"pid"} for each, and {"pid",
"status"} when the process ends. It has one thread and runs nothing of torch before a fork, so a child equals a new
process. Every child dies with this process, and this process with its parent.
"""

import ctypes
import json
import logging
import os
import random
import runpy
import select
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent ends for any reason (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve until stdin ends; then kill the children that are left."""
    # Imported here, so that children need not import them.
    import workers.served_spaces
    import workers.worker  # noqa: F401

    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles a terminal's Ctrl-C
    children: set[int] = set()
    rest = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.05)
        if ready:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                pid = _fork(json.loads(line))
                children.add(pid)
                _report({"pid": pid})
        _reap(children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _reap(children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        _report({"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _report(message: dict[str, int]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _fork(command: dict[str, object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        die_with_parent()
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        random.seed()
        os.environ.update(command["environment"])  # type: ignore[call-overload]
        with Path(str(command["log"])).open("ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        logging.getLogger("PIL").setLevel(logging.INFO)
        module = str(command["module"])
        sys.argv = [module, *command["arguments"]]  # type: ignore[misc]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        logging.getLogger(__name__).exception("the process failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
