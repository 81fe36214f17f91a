"""Runs child processes together: prefixed output, restarts with backoff, an orderly end."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

_POLL_SECONDS = 0.1
_MILESTONE_SECONDS = 0.5
_STOP_SECONDS = 60.0  # a worker finishes the batch in hand
_SETTLED_SECONDS = 60.0  # a child that lived so long has used up none of its tries
_COLORS = ("cyan", "magenta", "green", "yellow", "blue")


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run. `tries`: how often in a row it may die before that ends everything; 1 is never restarted."""

    name: str
    command: Sequence[str]
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Milestone:
    """Something to come: `reached` is asked twice a second until it says so; then `tell` is called, once."""

    reached: Callable[[], bool]
    tell: Callable[[], None]


@dataclass
class _Running:
    child: Child
    process: "subprocess.Popen[str]"
    printer: threading.Thread
    started: float
    deaths: int = 0


@dataclass
class _Waiting:
    child: Child
    due: float
    deaths: int


@dataclass
class Supervisor:
    """Children in the order in which they are started; they are stopped in that order too.

    Used in the main thread: `run` returns when a signal has asked for the end, or a child cannot be kept alive.
    """

    say: Callable[[str], None]
    environment: dict[str, str]
    backoff: float = 1.0
    _running: list[_Running] = field(default_factory=list)
    _waiting: list[_Waiting] = field(default_factory=list)
    _print_lock: threading.Lock = field(default_factory=threading.Lock)
    _names: list[str] = field(default_factory=list)

    def run(self, children: Sequence[Child], milestones: Sequence[Milestone] = ()) -> int:
        """Run the children until SIGINT or SIGTERM (return 0), or until one died too often (return 1).

        All are ended in either case; a second signal kills those that are left.
        """
        self._names = [child.name for child in children]
        to_come = list(milestones)
        with _signals() as asked:
            try:
                for child in children:
                    self._start(child, deaths=0)
                looked = 0.0
                while not asked:
                    if self._look():
                        return 1
                    if time.monotonic() - looked > _MILESTONE_SECONDS:
                        to_come = _pass(to_come)
                        looked = time.monotonic()
                    time.sleep(_POLL_SECONDS)
                running = {one.child.name for one in self._running}
                self.say("ending: " + ", then ".join(name for name in self._names if name in running))
                return 0
            finally:
                self._stop(asked)

    def _start(self, child: Child, *, deaths: int) -> None:
        process = subprocess.Popen(
            [*_with_parent(), *child.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            # Out of reach of the terminal's Ctrl-C: the order in which they end is ours.
            start_new_session=True,
        )
        printer = threading.Thread(target=self._print, args=(child.name, process), daemon=True, name=child.name)
        printer.start()
        self._running.append(_Running(child, process, printer, time.monotonic(), deaths))

    def _look(self) -> bool:
        """Restart what died; return whether one died too often."""
        now = time.monotonic()
        for one in [one for one in self._running if one.process.poll() is not None]:
            self._running.remove(one)
            one.printer.join(timeout=1)
            deaths = 1 if now - one.started > _SETTLED_SECONDS else one.deaths + 1
            said = f"{one.child.name} ended, {status(one.process.returncode)}"
            if deaths >= one.child.tries:
                self.say(said + (f", {deaths} times in a row" if deaths > 1 else ""))
                return True
            pause = self.backoff * 2 ** (deaths - 1)
            self.say(f"{said}; starting it again in {pause:g} s (try {deaths + 1} of {one.child.tries})")
            self._waiting.append(_Waiting(one.child, now + pause, deaths))
        for waiting in [waiting for waiting in self._waiting if waiting.due <= now]:
            self._waiting.remove(waiting)
            self._start(waiting.child, deaths=waiting.deaths)
        return False

    def _stop(self, asked: list[int]) -> None:
        """End the children in their order, each one's own children with it."""
        signals_before = len(asked)
        for name in self._names:
            for one in [one for one in self._running if one.child.name == name]:
                one.process.terminate()
                until = time.monotonic() + _STOP_SECONDS
                while one.process.poll() is None and time.monotonic() < until and len(asked) == signals_before:
                    time.sleep(_POLL_SECONDS / 5)
                if one.process.poll() is None:
                    self.say(f"{name} does not end; killing it")
                _kill_group(one.process)
                code = one.process.wait()
                one.printer.join(timeout=1)
                if code not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
                    self.say(f"{name} ended, {status(code)}")
        self._running.clear()

    def _print(self, name: str, process: "subprocess.Popen[str]") -> None:
        if process.stdout is None:
            return
        width = max(map(len, self._names))
        prefix = f"{name:<{width}} │ "
        color = _COLORS[self._names.index(name) % len(_COLORS)]
        with process.stdout as lines:
            for line in lines:
                self._print_line(prefix, line.rstrip("\n"), color)

    def _print_line(self, prefix: str, line: str, color: str) -> None:
        from rich.text import Text

        from app.cli import output

        with self._print_lock:
            output.say_text(Text.assemble((prefix, color), output.shown(line, keep="\t")))


def _pass(milestones: Sequence[Milestone]) -> list[Milestone]:
    """Tell of the milestones that are reached, and return the others."""
    left = []
    for one in milestones:
        if one.reached():
            one.tell()
        else:
            left.append(one)
    return left


def status(code: int) -> str:
    """Return how a process ended, for a person."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _with_parent() -> list[str]:
    """Return the prefix of a command that ends with its parent, however that dies; where util-linux has it."""
    tool = shutil.which("setpriv") if sys.platform == "linux" else None
    return [tool, "--pdeathsig", "TERM", "--"] if tool else []


def _kill_group(process: "subprocess.Popen[str]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nobody is left in it
        return


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in the list meanwhile."""
    asked: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {kind: signal.signal(kind, lambda number, _: asked.append(number)) for kind in kinds}
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
