"""The processes that a run kills: PostgreSQL, workers, API. Each is ended by its id at the end."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.db import embedded
from bench.chaos.journal import Journal

ROOT = Path(__file__).parents[2]
API = "api"
_START_SECONDS = 10.0
_API_START_SECONDS = 20.0


class Postgres:
    """The embedded server of the run, which can be killed and started again."""

    # No fsync: a killed process loses nothing that the kernel has, and a run commits often.
    SETTINGS: Mapping[str, str] = {"fsync": "off", "shared_buffers": "128MB", "log_min_messages": "warning"}

    def __init__(self, home: Path) -> None:
        self.home = home
        self._running = embedded.running(home, settings=self.SETTINGS)
        self.server = self._running.__enter__()
        self.url = self.server.url

    def kill(self) -> None:
        """Kill the postmaster with -9; its backends end by themselves."""
        os.kill(int((self.server.data_dir / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def start(self) -> None:
        """Start the server again; return when it accepts connections."""
        with embedded.running(self.home, settings=self.SETTINGS):
            return

    def stop(self) -> None:
        self._running.__exit__(None, None, None)


@dataclass
class Slot:
    """A process that is started again whenever it ends. `expected`: statuses with which it may end now."""

    name: str
    module: str
    arguments: Sequence[str]
    log: Path
    pid: int = 0
    expected: frozenset[int] = frozenset()
    since: float = 0.0  # time of its start
    due: float = 0.0  # time of its next start
    stopped: bool = False  # by SIGSTOP


class Fleet:
    """Keeps workers and the API running through the zygote; every unexpected end is a violation."""

    def __init__(self, journal: Journal, slots: Sequence[Slot], environment: Mapping[str, str]) -> None:
        self.slots = {slot.name: slot for slot in slots}
        self._journal = journal
        self._environment = dict(environment)
        self._lock = threading.RLock()
        self._forked: list[int] = []
        self._was_forked = threading.Condition(self._lock)
        self._wanted = True
        self._groups: set[int] = set()
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "bench.chaos.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read, self._keep)]
        for thread in self._threads:
            thread.start()

    # Ending and stopping processes

    def pick(self, rng: random.Random, kind: str) -> Slot | None:
        """Return a random running slot of the workers or of the API, or None."""
        with self._lock:
            up = [one for one in self.slots.values() if one.pid and one.name.startswith(kind)]
        return rng.choice(up) if up else None

    def end(self, slot: Slot, number: signal.Signals, *, status: int) -> bool:
        """Send a signal that ends the process with `status`; return whether the process was running."""
        with self._lock:
            if not slot.pid:
                return False
            # A second SIGTERM ends a worker at once, and so does the first if the worker is still starting.
            if 0 in slot.expected or time.monotonic() - slot.since < _START_SECONDS:
                slot.expected |= {-signal.SIGTERM}
            slot.expected |= {status, -signal.SIGKILL}
            os.kill(slot.pid, number)
            return True

    def freeze(self, slot: Slot) -> int:
        """Send SIGSTOP; return the process id, 0 if none is running."""
        with self._lock:
            if slot.pid:
                slot.stopped = True
                os.kill(slot.pid, signal.SIGSTOP)
            return slot.pid

    def thaw(self, slot: Slot, pid: int) -> None:
        """Send SIGCONT if the process is still the same."""
        with self._lock:
            if pid and slot.pid == pid:
                os.kill(pid, signal.SIGCONT)
            slot.stopped = False

    def api_children(self) -> list[int]:
        """Return the ids of the API's processes that answer requests."""
        with self._lock:
            arbiter = self.slots[API].pid
        if not arbiter:
            return []
        try:
            text = Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in text.split()]

    def up(self, space: str | None = None) -> float:
        """Return the seconds that a worker (of the space) has been running and not stopped; 0 without one."""
        with self._lock:
            return max(
                (
                    time.monotonic() - one.since
                    for one in self.slots.values()
                    if one.pid and not one.stopped and one.name != API and (space is None or space in one.arguments)
                ),
                default=0.0,
            )

    def workers_up(self) -> int:
        with self._lock:
            return sum(bool(one.pid) and not one.stopped and one.name != API for one in self.slots.values())

    def any_stopped(self) -> bool:
        with self._lock:
            return any(one.stopped for one in self.slots.values())

    def rest(self, seconds: float) -> frozenset[int]:
        """Send SIGTERM to all; each must end with status 0 within `seconds`. Return the ids of the processes."""
        with self._lock:
            self._wanted = False
            ended = frozenset(slot.pid for slot in self.slots.values() if slot.pid)
            for slot in self.slots.values():
                slot.expected = frozenset()
                self.end(slot, signal.SIGTERM, status=0)
                slot.expected -= {-signal.SIGKILL}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(slot.pid for slot in self.slots.values()):
            time.sleep(0.05)
        for slot in self.slots.values():
            if slot.pid:
                self._journal.violate("ends in order", f"{slot.name} did not end within {seconds:.0f} s of SIGTERM")
        return ended

    def resume(self) -> None:
        """Start everything again after `rest`."""
        with self._lock:
            self._wanted = True

    def close(self) -> None:
        """Kill every process that is left, and the zygote."""
        with self._lock:
            self._wanted = False
            for slot in self.slots.values():
                slot.expected |= {-signal.SIGKILL}
                if slot.pid:
                    os.kill(slot.pid, signal.SIGKILL)
        if self._zygote.stdin:
            self._zygote.stdin.close()
        try:
            self._zygote.wait(10)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            self._zygote.wait()
        for group in self._groups:  # the API's own children
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue

    # Keeping them up

    def _keep(self) -> None:
        rng = random.Random()
        while self._zygote.poll() is None:
            with self._lock:
                for slot in self.slots.values():
                    if self._wanted and not slot.pid and time.monotonic() >= slot.due:
                        self._start(slot)
                        slot.due = time.monotonic() + rng.uniform(0.1, 0.6)
            time.sleep(0.05)

    def _start(self, slot: Slot) -> None:
        command = {
            "module": slot.module,
            "arguments": list(slot.arguments),
            "environment": self._environment,
            "log": str(slot.log),
        }
        if self._zygote.stdin is None:
            return
        self._forked.clear()
        self._zygote.stdin.write(json.dumps(command).encode() + b"\n")
        self._zygote.stdin.flush()
        while not self._forked:
            if not self._was_forked.wait(120):
                raise RuntimeError("the zygote does not fork any more")
        slot.pid, slot.since, slot.expected, slot.stopped = self._forked.pop(), time.monotonic(), frozenset(), False
        if slot.name == API:
            self._groups = {slot.pid, *list(self._groups)[-20:]}
        self._journal.count(f"starts of {'the API' if slot.name == API else 'workers'}")

    def _read(self) -> None:
        for line in self._zygote.stdout or ():
            message = json.loads(line)
            with self._lock:
                if "status" not in message:
                    self._forked.append(message["pid"])
                    self._was_forked.notify_all()
                    continue
                for slot in self.slots.values():
                    if slot.pid == message["pid"]:
                        slot.pid = 0
                        self._judge(slot, message["status"])

    def _judge(self, slot: Slot, status: int) -> None:
        # The API exits at its start if PostgreSQL is down, or if children of a killed master still hold the port.
        starting = slot.name == API and status == 1 and time.monotonic() - slot.since < _API_START_SECONDS
        if starting:
            self._journal.count("starts of the API that found no server or port")
        elif status not in slot.expected:
            last = slot.log.read_text(errors="replace").splitlines()[-3:]
            self._journal.violate(
                "no process ends unexpectedly", f"{slot.name} ended with status {status}: {' / '.join(last)}"
            )
