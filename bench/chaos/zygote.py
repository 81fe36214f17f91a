"""Forks workers and APIs on command, so that each costs a fork and not an import of torch; for bench.chaos.processes.

Reads lines of JSON {"module", "arguments", "environment", "log"} on stdin; writes {"pid"} for each, and later {"pid",
"status"} when it ended. Single-threaded, and nothing of torch has run before a fork, so a child is as good as a process
of its own. Every child dies with this process, and this one with its parent.
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
    """Have the kernel kill this process when its parent ends, however that ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve until stdin ends; then kill what is left."""
    # What a child would spend its time on.
    import workers.served_spaces
    import workers.worker  # noqa: F401

    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's business
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
                _tell({"pid": pid})
        _reap(children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _reap(children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        _tell({"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _tell(message: dict[str, int]) -> None:
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
        logging.getLogger(__name__).exception("the worker broke")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
