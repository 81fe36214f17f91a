"""The operations that run while searches go on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app import db
from app.store import spaces
from bench.soak.pool import Pool
from bench.soak.world import World, kill_standby, reload_api, start_standby


@dataclass(frozen=True)
class Done:
    """An operation: its name, begin and end, and `before`, when the calm period for comparison began."""

    name: str
    before: float
    began: float
    ended: float
    detail: str = ""


@dataclass
class Programme:
    """Runs the operations in turn, each after `calm` seconds of load alone."""

    world: World
    calm: float
    done: list[Done] = field(default_factory=list)
    models: dict[str, int] = field(default_factory=lambda: {"first": 0})  # space → model of the pool
    _spaces_made: int = 0

    @contextmanager
    def _measured(self, name: str) -> Iterator[list[str]]:
        before = time.monotonic()
        time.sleep(self.calm)
        began, details = time.monotonic(), []
        yield details
        # The after-effects of an operation (caches, plans, closed connections) belong to it.
        time.sleep(1)
        self.done.append(Done(name, before, began, time.monotonic(), "; ".join(details)))
        print(f"  {name}: {time.monotonic() - began - 1:.1f} s {'; '.join(details)}", flush=True)

    def round(self) -> None:
        """Run every operation once. Afterwards another space is active, and the old one is dropped."""
        for operation in (
            self.rebuild,
            self.reload,
            self.migrate,
            self.change_model,
            self.restart_workers,
            self.lose_standby,
        ):
            operation()

    def rebuild(self) -> None:
        with self._measured("rebuild the index"):
            self.world.cli("index", "rebuild", "--workers", "0")

    def reload(self) -> None:
        with self._measured("reload the API"):
            reload_api(self.world)

    def migrate(self) -> None:
        with self._measured("migrate down and up") as details:
            details.append(self.world.cli("migrate", "--to", "-1", "--lose-data"))
            time.sleep(1)
            details.append(self.world.cli("migrate"))

    def restart_workers(self) -> None:
        with self._measured("restart the workers"):
            for process in list(self.world.workers):
                self.world.end_worker(process)
                self.world.start_worker()

    def lose_standby(self) -> None:
        with self._measured("kill the standby, start it again"):
            kill_standby(self.world)
            time.sleep(2)
            start_standby(self.world)
            time.sleep(2)

    def change_model(self) -> None:
        """Switch from blue to green, back, and to green again; then drop blue."""
        self._spaces_made += 1
        pool: Pool = self.world.pool
        with db.connect(self.world.url, autocommit=True, application="soak") as conn:
            old = spaces.active(conn).name
        number = 1 - self.models[old]
        new, model = f"space{self._spaces_made}", pool.models[number]
        self.models[new] = number
        with self._measured("create and backfill a space") as details:
            weights = ["--weights", model.weights] if model.weights else []
            output = self.world.cli("space", "create", new, "--model", model.name, *weights)
            # Results are published without the paths of this machine.
            details.append(output.replace(f"{Path(model.weights).parent}/", "") if model.weights else output)
            details.append(self.world.cli("space", "backfill", new))
        with self._measured("build its index"):
            self._await_index(new)
        with self._measured("compare"):
            self.world.cli("space", "compare", new, "--label", "category", "--sample", "50")
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("activate", lambda: self.world.cli("space", "activate", new)),
            ("roll back", lambda: self.world.cli("space", "rollback")),
            ("activate", lambda: self.world.cli("space", "activate", new)),
            ("drop the old space", lambda: self.world.cli("space", "drop", old, "--yes")),
        )
        for name, step in steps:
            with self._measured(name) as details:
                details.append(step())

    def _await_index(self, space: str) -> None:
        """Wait until an idle worker has built the index; if no worker is idle, build it like an operator."""
        with db.connect(self.world.url, autocommit=True, application="soak") as conn:
            statement = "SELECT EXISTS (SELECT FROM lookalike.ann_indexes WHERE space = %s AND valid)"
            end = time.monotonic() + 20
            while conn.execute(statement, (space,)).fetchone() != (True,):
                if time.monotonic() > end:
                    self.world.cli("index", "rebuild", space, "--workers", "0")
                    return
                time.sleep(0.2)
