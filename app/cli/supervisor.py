"""Supervisor of child processes: prefixed output, restarts with backoff, orderly shutdown."""

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
_STOP_SECONDS = 60.0  # a worker finishes its current batch
_SETTLED_SECONDS = 60.0  # a child that ran this long gets all its tries back
_COLORS = ("cyan", "magenta", "green", "yellow", "blue")


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run. If it exits `tries` times in a row, the supervisor stops; 1 means that it never restarts."""

    name: str
    command: Sequence[str]
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Milestone:
    """A condition to wait for: `reached` is polled twice a second; once it returns true, `report` is called."""

    reached: Callable[[], bool]
    report: Callable[[], None]


@dataclass
class _Running:
    child: Child
    process: "subprocess.Popen[str]"
    printer: threading.Thread
    started: float
    exits: int = 0


@dataclass
class _Restart:
    child: Child
    due: float
    exits: int


@dataclass
class Supervisor:
    """Starts children in their order, and stops them in the same order. Runs in the main thread only."""

    report: Callable[[str], None]
    environment: dict[str, str]
    backoff: float = 1.0
    _running: list[_Running] = field(default_factory=list)
    _restarts: list[_Restart] = field(default_factory=list)
    _print_lock: threading.Lock = field(default_factory=threading.Lock)
    _names: list[str] = field(default_factory=list)

    def run(self, children: Sequence[Child], milestones: Sequence[Milestone] = ()) -> int:
        """Run the children until a signal (return 0), or until one has used up its tries (return 1).

        Either way all children are stopped. A second signal kills those that still run.
        """
        self._names = [child.name for child in children]
        pending = list(milestones)
        with _received_signals() as received:
            try:
                for child in children:
                    self._start(child, exits=0)
                polled_at = 0.0
                while not received:
                    if self._restart_exited():
                        return 1
                    if time.monotonic() - polled_at > _MILESTONE_SECONDS:
                        pending = _report_reached(pending)
                        polled_at = time.monotonic()
                    time.sleep(_POLL_SECONDS)
                running = {one.child.name for one in self._running}
                self.report("stopping: " + ", then ".join(name for name in self._names if name in running))
                return 0
            finally:
                self._stop(received)

    def _start(self, child: Child, *, exits: int) -> None:
        process = subprocess.Popen(
            [*_with_parent(), *child.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            # The terminal's Ctrl-C must not reach the children, because we stop them in order.
            start_new_session=True,
        )
        printer = threading.Thread(target=self._print, args=(child.name, process), daemon=True, name=child.name)
        printer.start()
        self._running.append(_Running(child, process, printer, time.monotonic(), exits))

    def _restart_exited(self) -> bool:
        """Schedule and start restarts; return whether a child has used up its tries."""
        now = time.monotonic()
        for one in [one for one in self._running if one.process.poll() is not None]:
            self._running.remove(one)
            one.printer.join(timeout=1)
            exits = 1 if now - one.started > _SETTLED_SECONDS else one.exits + 1
            text = f"{one.child.name} exited, {status(one.process.returncode)}"
            if exits >= one.child.tries:
                self.report(text + (f", {exits} times in a row" if exits > 1 else ""))
                return True
            pause = self.backoff * 2 ** (exits - 1)
            self.report(f"{text}; restarting it in {pause:g} s (try {exits + 1} of {one.child.tries})")
            self._restarts.append(_Restart(one.child, now + pause, exits))
        for restart in [restart for restart in self._restarts if restart.due <= now]:
            self._restarts.remove(restart)
            self._start(restart.child, exits=restart.exits)
        return False

    def _stop(self, received: list[int]) -> None:
        """Stop the children in their order, each with its own children."""
        signals_before = len(received)
        for name in self._names:
            for one in [one for one in self._running if one.child.name == name]:
                one.process.terminate()
                until = time.monotonic() + _STOP_SECONDS
                while one.process.poll() is None and time.monotonic() < until and len(received) == signals_before:
                    time.sleep(_POLL_SECONDS / 5)
                if one.process.poll() is None:
                    self.report(f"{name} does not stop; killing it")
                _kill_group(one.process)
                code = one.process.wait()
                one.printer.join(timeout=1)
                if code not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
                    self.report(f"{name} exited, {status(code)}")
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
            output.note_text(Text.assemble((prefix, color), output.shown(line, keep="\t")))


def _report_reached(milestones: Sequence[Milestone]) -> list[Milestone]:
    """Report the milestones that are reached, and return the others."""
    pending = []
    for one in milestones:
        if one.reached():
            one.report()
        else:
            pending.append(one)
    return pending


def status(code: int) -> str:
    """Return a process's exit code as text: `exit status 1` or `killed by SIGTERM`."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _with_parent() -> list[str]:
    """Return a command prefix that terminates the process when its parent dies; empty without util-linux."""
    tool = shutil.which("setpriv") if sys.platform == "linux" else None
    return [tool, "--pdeathsig", "TERM", "--"] if tool else []


def _kill_group(process: "subprocess.Popen[str]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # the group is empty
        return


@contextmanager
def _received_signals() -> Iterator[list[int]]:
    """Yield a list that collects SIGINT, SIGTERM and SIGHUP within the block."""
    received: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {kind: signal.signal(kind, lambda number, _: received.append(number)) for kind in kinds}
    try:
        yield received
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
