"""Compares POST /v1/search with the same SQL through psycopg: latency, throughput at concurrency 1, 8, 32, errors.

python -m bench.api.http_load                  makes a gallery of 20,000 vectors, writes bench/results/http.json
python -m bench.api.http_load --home DIR       keeps the gallery in DIR and uses it again the next time
python -m bench.api.http_load --database URL   uses an existing database
"""

import argparse
import datetime
import http.client
import json
import multiprocessing
import multiprocessing.context
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psycopg

from app import db
from app.db import embedded, schema, sql
from app.index.build import build_index
from app.store import spaces
from bench.options import RESULTS, parse_options
from bench.search import data

CONCURRENCIES = (1, 8, 32)
K = 10
SEED = 11
# The arguments that search.functions.similar passes.
ARGUMENTS: dict[str, object] = {
    "query": None,
    "k": K,
    "filter": None,
    "max_distance": None,
    "exclude": [],
    "recall": None,
    "ef_search": None,
    "strategy": None,
    "explain": False,
    "in_space": None,
}


@contextmanager
def gallery(vectors: Path | None, rows: int, kept: Path | None = None) -> Iterator[str]:
    """Yield the URL of an embedded server with `rows` embedded, indexed images; `kept` keeps its data in a folder."""
    home = kept or Path(tempfile.mkdtemp(prefix="lookalike-bench-"))
    home.mkdir(exist_ok=True)
    home.chmod(0o755)
    filled = home / "filled"
    try:
        with embedded.running(home) as server:
            if not filled.exists():
                schema.upgrade(server.url)
                fill(server.url, vectors, rows)
                filled.touch()
            yield server.url
    finally:
        if kept is None:
            shutil.rmtree(home, ignore_errors=True)


def fill(url: str, file: Path | None, rows: int) -> None:
    """Insert images and copy their embeddings: from the file, repeated with noise if it is short, else synthetic."""
    vectors = data.make(rows=rows, queries=1, file=file, dimensions=1280, seed=7).vectors
    with db.connect(url) as conn:
        conn.execute("SELECT lookalike.create_space('bench', 'none', %s, '{}', 'f')", (vectors.shape[1],))
        conn.execute(
            "INSERT INTO lookalike.images (uri, caption, attributes)"
            " SELECT '/bench/' || n || '.jpg', 'image ' || n, jsonb_build_object('price', mod(n, 100))"
            " FROM generate_series(1, %s) n",
            (len(vectors),),
        )
        conn.execute("TRUNCATE lookalike.jobs")
        data.load_vectors(conn, vectors, table="lookalike.embeddings_1")
    with db.connect(url, autocommit=True) as conn:
        build_index(conn, spaces.active(conn))
        conn.execute("VACUUM ANALYZE lookalike.images")
        conn.execute("VACUUM ANALYZE lookalike.embeddings_1")


@contextmanager
def api(url: str, *, workers: int, threads: int) -> Iterator[tuple[str, int]]:
    """Run `lookalike serve`; yield its address and process id."""
    settings = {"DATABASE_URL": url, "PORT": "0", "API_WORKERS": str(workers), "API_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve"],
        env={**os.environ, **{f"LOOKALIKE_{name}": value for name, value in settings.items()}},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr or ():
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0], process.pid
                return
        raise SystemExit("the API did not start")
    finally:
        process.terminate()
        process.wait(60)


class Http:
    """Searches by id over one kept-alive connection, like a client."""

    def __init__(self, address: str, _url: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)

    def search(self, image_id: int) -> int:
        """Return the number of results."""
        body = json.dumps({"image_id": image_id, "k": K})
        self._connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {data[:200]!r}")
        return len(json.loads(data)["results"])


class Sql:
    """Runs the same statement through psycopg, on one connection."""

    def __init__(self, _address: str, url: str) -> None:
        self._connection = db.connect(url, autocommit=True, application="bench")
        self._query = sql.query("search")

    def search(self, image_id: int) -> int:
        """Return the number of results."""
        return len(self._connection.execute(self._query, {**ARGUMENTS, "image_id": image_id}).fetchall())


def latency(address: str, url: str, ids: list[int]) -> dict[str, list[float]]:
    """Return the milliseconds of each search, both contenders in turns, without the warm-up."""
    contenders = {"http": Http(address, url), "sql": Sql(address, url)}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number, image_id in enumerate(ids):
        order = list(contenders) if number % 2 else list(contenders)[::-1]
        for name in order:
            began = time.perf_counter()
            contenders[name].search(image_id)  # type: ignore[attr-defined]
            if number >= 50:
                taken[name].append((time.perf_counter() - began) * 1000)
    return taken


def _client(kind: type[Http] | type[Sql], address: str, url: str, seed: int, rows: int, start, seconds, out) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    contender = kind(address, url)
    numbers = np.random.default_rng(seed)
    contender.search(1)
    start.wait()
    done = errors = 0
    used = time.process_time()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        try:
            errors += contender.search(int(numbers.integers(1, rows + 1))) != K
        except (RuntimeError, OSError, psycopg.Error, http.client.HTTPException):
            errors += 1
            contender = kind(address, url)
        done += 1
    out.put((done, errors, time.process_time() - used))


def cpu_seconds(parent: int) -> float:
    """Return the CPU seconds of a process and its children, including ended ones (proc(5): utime to cstime)."""
    total = 0.0
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    for pid in (parent, *children):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except FileNotFoundError:  # it ended, and its parent has its seconds now
            continue
        total += sum(int(one) for one in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def postmaster(url: str) -> int:
    """Return the process id of the server, which runs on this machine."""
    with db.connect(url) as conn:
        backend = conn.info.backend_pid
        return int(Path(f"/proc/{backend}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])


def _processes() -> multiprocessing.context.ForkServerContext:
    """Return a context whose processes fork from one with the large modules loaded, but no threads or connections."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numpy", "app.db", "app.index.build"])
    return context


def throughput(
    kind: type[Http] | type[Sql],
    address: str,
    url: str,
    concurrency: int,
    rows: int,
    seconds: float,
    processes: dict[str, int],
) -> dict[str, object]:
    """Return searches a second by `concurrency` client processes, and the CPU time of a search by process.

    Other load on the machine disturbs the rate, but hardly the CPU time. `processes`: ids of the serving processes, by
    name; their children count too.
    """
    context = _processes()
    start, out = context.Barrier(concurrency + 1), context.SimpleQueue()
    clients = [
        context.Process(target=_client, args=(kind, address, url, seed, rows, start, seconds, out))
        for seed in range(concurrency)
    ]
    for client in clients:
        client.start()
    start.wait()
    before = {name: cpu_seconds(pid) for name, pid in processes.items()}
    answers = [out.get() for _ in clients]
    used = {name: cpu_seconds(pid) - before[name] for name, pid in processes.items()}
    for client in clients:
        client.join()
    done = sum(one for one, _, _ in answers)
    used["client"] = sum(one for _, _, one in answers)
    return {
        "concurrency": concurrency,
        "searches_per_second": done / seconds,
        "errors": sum(errors for _, errors, _ in answers),
        "cpu_ms": {name: round(spent / done * 1000, 4) for name, spent in used.items()},
    }


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="URL of a database with embedded images 1 to --rows")
    parser.add_argument("--vectors", type=Path, help=".npy of unit vectors (default: synthetic)")
    parser.add_argument("--home", type=Path, help="folder that keeps the gallery for the next run")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--searches", type=int, default=550, help="searches for the latency; the first 50 warm up")
    parser.add_argument("--seconds", type=float, default=8, help="seconds of a round of throughput")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of throughput, in turns; the median counts")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS / "http.json", help="file to write")
    given = parse_options(parser, quick={"rows": 300, "searches": 60, "seconds": 0.3, "rounds": 1, "out": None})
    if given.database:
        result = run(given.database, given)
    else:
        with gallery(given.vectors, given.rows, given.home) as url:
            result = run(url, given)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


def run(url: str, given: argparse.Namespace) -> dict[str, object]:
    """Measure latency, throughput and 1,000 requests at concurrency 32; return the raw results."""
    with psycopg.connect(url) as conn:
        conditions = {**data.conditions(conn, seed=SEED), "load": os.getloadavg()[0]}
    ids = [int(one) for one in np.random.default_rng(SEED).integers(1, given.rows + 1, given.searches)]
    with api(url, workers=given.workers, threads=given.threads) as (address, pid):
        processes = {"api": pid, "database": postmaster(url)}
        taken = latency(address, url, ids)
        rounds = [
            {"contender": name, **throughput(kind, address, url, concurrency, given.rows, given.seconds, processes)}
            for concurrency in CONCURRENCIES
            for _ in range(given.rounds)
            for name, kind in (("http", Http), ("sql", Sql))
        ]
        with _processes().Pool(32) as pool:
            began = time.perf_counter()
            failed = sum(pool.starmap(_one, [(address, one) for one in (ids * 2)[:1000]], chunksize=1))
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "conditions": conditions,
        "settings": {
            name: value.name if isinstance(value, Path) else value
            for name, value in vars(given).items()
            if name not in ("out", "database", "home")
        },
        "latency_ms": taken,
        "throughput": rounds,
        "thousand_at_32": {"errors": failed, "seconds": time.perf_counter() - began},
    }


def _one(address: str, image_id: int) -> bool:
    try:
        return Http(address, "").search(image_id) != K
    except (RuntimeError, OSError, http.client.HTTPException):
        return True


def table(result: dict[str, object]) -> str:
    """Return the README's table."""
    taken: dict[str, list[float]] = result["latency_ms"]  # type: ignore[assignment]
    http_p50, sql_p50 = (statistics.median(taken[name]) for name in ("http", "sql"))
    lines = [
        "| | HTTP | SQL | |",
        "|---|---|---|---|",
        f"| search by id, p50 | {http_p50:.2f} ms | {sql_p50:.2f} ms | + {http_p50 - sql_p50:.2f} ms |",
    ]
    rounds: list[dict[str, Any]] = result["throughput"]  # type: ignore[assignment]
    for concurrency in CONCURRENCIES:
        per_second = {
            name: statistics.median(
                float(one["searches_per_second"])
                for one in rounds
                if (one["contender"], one["concurrency"]) == (name, concurrency)
            )
            for name in ("http", "sql")
        }
        share = per_second["http"] / per_second["sql"]
        cells = f"{per_second['http']:.0f}/s | {per_second['sql']:.0f}/s | {share:.0%}"
        lines.append(f"| throughput, {concurrency} at once | {cells} |")
    for concurrency in CONCURRENCIES:
        shares = {
            name: _median_cpu(
                [one["cpu_ms"] for one in rounds if (one["contender"], one["concurrency"]) == (name, concurrency)]
            )
            for name in ("http", "sql")
        }
        shown = {
            name: f"{sum(cpu.values()):.2f} ms ("
            + ", ".join(f"{who} {ms:.2f}" for who, ms in cpu.items() if ms >= 0.01)
            + ")"
            for name, cpu in shares.items()
        }
        share = sum(shares["sql"].values()) / sum(shares["http"].values())
        lines.append(f"| CPU time a search, {concurrency} at once | {shown['http']} | {shown['sql']} | {share:.0%} |")
    errors = result["thousand_at_32"]["errors"]  # type: ignore[index]
    lines.append(f"| 1,000 requests, 32 at once | {errors} errors | | |")
    return "\n".join(lines)


def _median_cpu(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


if __name__ == "__main__":
    main()
