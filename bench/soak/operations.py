"""What is done while searches go on: one function an operation."""

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
    """An operation: its name, when it began and ended, and since when the searches before it are its measure."""

    name: str
    before: float
    began: float
    ended: float
    told: str = ""


@dataclass
class Programme:
    """Carries the operations out in turn; each is preceded by `calm` seconds in which nothing but the load runs."""

    world: World
    calm: float
    done: list[Done] = field(default_factory=list)
    models: dict[str, int] = field(default_factory=lambda: {"first": 0})  # space → model of the pool
    _spaces_made: int = 0

    @contextmanager
    def _measured(self, name: str) -> Iterator[list[str]]:
        before = time.monotonic()
        time.sleep(self.calm)
        began, told = time.monotonic(), []
        yield told
        # What an operation leaves behind it (caches, plans, closed connections) belongs to it.
        time.sleep(1)
        self.done.append(Done(name, before, began, time.monotonic(), "; ".join(told)))
        print(f"  {name}: {time.monotonic() - began - 1:.1f} s {'; '.join(told)}", flush=True)

    def round(self) -> None:
        """Do everything once. The active space is another one afterwards, and the one before is gone."""
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
        with self._measured("migrate down and up") as told:
            told.append(self.world.cli("migrate", "--to", "-1", "--lose-data"))
            time.sleep(1)
            told.append(self.world.cli("migrate"))

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
        """Blue, green, blue again, green; then blue goes."""
        self._spaces_made += 1
        pool: Pool = self.world.pool
        with db.connect(self.world.url, autocommit=True, application="soak") as conn:
            old = spaces.active(conn).name
        number = 1 - self.models[old]
        new, model = f"space{self._spaces_made}", pool.models[number]
        self.models[new] = number
        with self._measured("create and backfill a space") as told:
            weights = ["--weights", model.weights] if model.weights else []
            said = self.world.cli("space", "create", new, "--model", model.name, *weights)
            # Results are kept: where the files lie is of this machine alone.
            told.append(said.replace(f"{Path(model.weights).parent}/", "") if model.weights else said)
            told.append(self.world.cli("space", "backfill", new))
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
            with self._measured(name) as told:
                told.append(step())

    def _await_index(self, space: str) -> None:
        """A worker builds it in its idle time; where there is none of that, the operator does."""
        with db.connect(self.world.url, autocommit=True, application="soak") as conn:
            statement = "SELECT EXISTS (SELECT FROM lookalike.ann_indexes WHERE space = %s AND valid)"
            end = time.monotonic() + 20
            while conn.execute(statement, (space,)).fetchone() != (True,):
                if time.monotonic() > end:
                    self.world.cli("index", "rebuild", space, "--workers", "0")
                    return
                time.sleep(0.2)
