"""The whole worker against what the device allows: bare forward, bare decode, and both together, in turns.

`python -m bench.worker` (see bench/README.md); `--memory` watches the worker's memory over 100,000 images, `--quick`
only shows that it runs. Writes worker.json (and worker.png) or worker-memory.json to bench/results. Imports app and
workers.
"""

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import timm
import torch
from PIL import Image

from app import db, embedded, schema, spaces
from app.config import Settings
from app.limits import limits_of
from workers.device import cores, hardware_of
from workers.encoder import PRECISIONS, Encoder
from workers.models import load_model
from workers.pixels import pixels_of
from workers.serving import Served, ready
from workers.timings import Timings
from workers.worker import Worker

RESULTS = Path(__file__).parent / "results"
GALLERY = Path(__file__).parents[1] / "app/demo/gallery"
_STAGES = ("claim", "fetch", "lookup", "decode", "encode", "write")


class Recorder(Timings):
    """Keeps every measurement of a stage, beside what the worker makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[str, float]] = []

    def add(self, stage: str, seconds: float, space_id: int | None = None) -> None:
        super().add(stage, seconds, space_id)
        self.taken.append((stage, seconds))


@contextmanager
def running(
    served_by: Encoder, settings: Settings, weights: str | None = None
) -> Iterator[tuple[db.Connection, Recorder]]:
    """A scratch server with one space, and a real worker on it, in a thread."""
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home:
        Path(home).chmod(0o755)
        with embedded.running(Path(home)) as server:
            schema.upgrade(server.url)
            with db.connect(server.url, autocommit=True) as conn:
                space = spaces.create(
                    conn,
                    name="bench",
                    model=served_by.model_name,
                    weights=weights,
                    dimensions=served_by.dimensions,
                    preprocessing=served_by.preprocessing,
                    fingerprint=served_by.fingerprint,
                )
                worker = Worker(server.url, [Served(space, served_by)], settings)
                recorder = worker._timings = Recorder()
                thread = threading.Thread(target=worker.run, name="worker")
                thread.start()
                try:
                    yield conn, recorder
                finally:
                    worker.stop()
                    thread.join()


def drain(conn: db.Connection, uris: list[str]) -> float:
    """Insert images, wait until all are embedded; return seconds from the commit on. Then delete them."""
    conn.execute("INSERT INTO lookalike.images (uri) SELECT unnest(%s::text[])", (uris,))
    began = time.perf_counter()
    while conn.execute("SELECT EXISTS (SELECT FROM lookalike.jobs)").fetchone() == (True,):
        time.sleep(0.02)
    taken = time.perf_counter() - began
    row = conn.execute(
        "SELECT (SELECT count(*) FROM lookalike.gallery), (SELECT count(*) FROM lookalike.failures)"
    ).fetchone()
    if row != (len(uris), 0):
        raise SystemExit(f"of {len(uris)} images (embedded, failed) are {row}")
    conn.execute("DELETE FROM lookalike.images")
    return taken


def bare_forward(encoder: Encoder, pixels: np.ndarray, *, threads: int) -> None:
    """timm's forward in the encoder's precision, batch and memory format; on a CPU with torch's own threads."""
    module, dtype = encoder._module, PRECISIONS[encoder.precision]
    torch.set_num_threads(threads)
    with torch.inference_mode(), torch.autocast(encoder.device.type, dtype, enabled=dtype is not torch.float32):
        for start in range(0, len(pixels), encoder.batch_size):
            module(encoder._normalised(pixels[start : start + encoder.batch_size])).float().cpu()


def bare_lanes(encoder: Encoder, pixels: np.ndarray) -> None:
    """The same forwards side by side, one core each: the most that was got out of a CPU."""
    parts = [pixels[i : i + encoder.chunk] for i in range(0, len(pixels), encoder.chunk)]
    with ThreadPoolExecutor(encoder.lanes) as pool:
        list(pool.map(lambda part: bare_forward(encoder, part, threads=1), parts))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of `work`."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def large_jpegs(folder: Path, count: int, seed: int) -> list[str]:
    """Make 12-megapixel JPEGs: gallery pictures side by side, enlarged, with detail and noise at every scale."""
    rng, pick = np.random.default_rng(seed), random.Random(seed)
    pictures = sorted(GALLERY.glob("*.jpg"))
    names = []
    for number in range(count):
        canvas = np.zeros((3000, 4000, 3), np.float32)
        for cells, weight in ((8, 0.6), (64, 0.3), (400, 0.2)):
            noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
            canvas += weight * np.asarray(noise.resize((4000, 3000), Image.Resampling.BILINEAR), np.float32)
        picture = Image.open(pick.choice(pictures)).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
        canvas = 0.6 * canvas + 0.4 * np.asarray(picture, np.float32)
        canvas += np.resize(rng.normal(0, 4, 999_983).astype(np.float32), canvas.shape)
        names.append(str(folder / f"large-{number:03}.jpg"))
        Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).save(names[-1], quality=88)
    return names


def compare(conn: db.Connection, recorder: Recorder, encoder: Encoder, uris: list[str], rounds: int) -> dict[str, Any]:
    """Measure forward, decode and the worker in turns; return raw rates and their ratio to the combined rate."""
    limits = limits_of(Settings())

    def decode(uri: str) -> np.ndarray:
        return pixels_of(Path(uri).read_bytes(), encoder, limits)[1]

    on_cpu = encoder.device.type == "cpu"
    rates: dict[str, list[float]] = {name: [] for name in ("forward", "lanes", "decode", "worker")}
    stages: list[tuple[str, float]] = []
    seconds = 0.0
    with ThreadPoolExecutor(cores()) as pool:
        pixels = np.stack(list(pool.map(decode, uris[:128])))
        drain(conn, uris)  # warm
        for number in range(rounds):
            works: list[tuple[str, Callable[[], object], int]] = [
                ("forward", lambda: bare_forward(encoder, pixels, threads=cores()), len(pixels)),
                ("lanes", lambda: bare_lanes(encoder, pixels), len(pixels)),
                ("decode", lambda: list(pool.map(decode, uris)), len(uris)),
            ]
            for name, work, count in works[:: 1 if number % 2 else -1]:
                rates[name].append(count / timed(work))
            recorder.taken.clear()
            taken = drain(conn, uris)
            rates["worker"].append(len(uris) / taken)
            seconds += taken
            stages += recorder.taken
    ratios = []
    for forward, lanes, decoded, worker in zip(*rates.values(), strict=True):
        best = max(forward, lanes)
        ratios.append(worker / (1 / (1 / best + 1 / decoded) if on_cpu else min(best, decoded)))
    spent = {stage: [value for name, value in stages if name == stage] for stage in _STAGES}
    bookkeeping = sum(sum(spent[name]) for name in ("claim", "lookup", "write")) / seconds
    return {
        "images": len(uris),
        "images_per_second": rates,
        "ratio_to_combined": ratios,
        "bookkeeping_share": bookkeeping,
        "stages": {name: {"count": len(v), "seconds": sum(v), "each": v} for name, v in spent.items() if v},
    }


def conditions(encoder: Encoder, options: argparse.Namespace) -> dict[str, Any]:
    """Return hardware, versions, settings and seed."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "hardware": f"{model} {hardware_of(encoder.device)}",
        "model": encoder.model_name,
        "encoder": encoder.description,
        "batch": encoder.batch_size,
        "chunk": encoder.chunk,
        "lanes": encoder.lanes,
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "pillow": PIL.__version__,
            "python": platform.python_version(),
        },
        "load_average": os.getloadavg(),
        "options": {key: str(value) for key, value in vars(options).items()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def show(name: str, found: dict[str, Any]) -> None:
    """Print one comparison: rates, ratio, stages."""
    middle = {key: statistics.median(values) for key, values in found["images_per_second"].items()}
    ratios = found["ratio_to_combined"]
    print(f"\n{name}: worker {middle['worker']:.1f} images/s; bare forward {middle['forward']:.1f},", end=" ")
    print(f"in lanes {middle['lanes']:.1f}, bare decode {middle['decode']:.1f}")
    print(f"  ratio to the combined rate: median {statistics.median(ratios):.3f}", end=" ")
    print(f"({min(ratios):.3f} to {max(ratios):.3f}); bookkeeping {found['bookkeeping_share']:.1%} of the time")
    for stage, one in found["stages"].items():
        each = sorted(one["each"])
        p50, p95 = each[len(each) // 2], each[int(len(each) * 0.95)]
        bar = "█" * max(1, round(40 * one["seconds"] / max(s["seconds"] for s in found["stages"].values())))
        print(f"  {stage:<7}{one['count']:>7} × p50 {1000 * p50:8.1f} ms, p95 {1000 * p95:8.1f} ms  {bar}")


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw how long each stage took, as histograms."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(6 * len(results), 4), squeeze=False)
    bins = np.logspace(-4, 1, 60)
    for axis, (name, found) in zip(axes[0], results.items(), strict=True):
        for stage, one in found["stages"].items():
            axis.hist(one["each"], bins=bins, weights=one["each"], histtype="step", label=stage)
        axis.set(xscale="log", xlabel="seconds, each time", ylabel="seconds in all", title=name)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def throughput(options: argparse.Namespace) -> None:
    """Compare on small and large images, and write the results."""
    settings = Settings(index_min_rows=10**9)
    encoder = ready(load_model(settings.model, settings.weights), settings)
    pictures = [str(path) for path in sorted(GALLERY.glob("*.jpg"))]
    results = {}
    with (
        tempfile.TemporaryDirectory(prefix="lookalike-large-") as folder,
        running(encoder, settings) as (conn, recorder),
    ):
        kinds = {"256-px drawings": list(islice(pictures, options.small))}
        if options.large:
            kinds["12-megapixel JPEGs"] = large_jpegs(Path(folder), options.large, options.seed)
        for name, uris in kinds.items():
            results[name] = compare(conn, recorder, encoder, uris, options.rounds)
            show(name, results[name])
    if options.quick and not options.results:
        return
    target = options.results or RESULTS
    target.mkdir(parents=True, exist_ok=True)
    report = {**conditions(encoder, options), "kinds": results}
    (target / "worker.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    plot(results, target / "worker.png")


def resident() -> int:
    """Return the bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory(options: argparse.Namespace) -> None:
    """Embed many small images by a small model with random weights, and watch the process's memory."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    name, portion = "test_efficientnet", min(2000, options.images)
    samples: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory(prefix="lookalike-memory-") as folder:
        weights = Path(folder) / "weights.pth"
        torch.save(timm.create_model(name, num_classes=0).state_dict(), weights)
        settings = Settings(index_min_rows=10**9, batch_size=32)
        encoder = ready(load_model(name, str(weights)), settings)
        with running(encoder, settings, str(weights)) as (conn, recorder):
            for done in range(0, options.images, portion):
                uris = []
                for number in range(portion):
                    path = Path(folder) / f"{number}.jpg"  # other bytes each time, so that none is known already
                    Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(path, quality=70)
                    uris.append(str(path))
                drain(conn, uris)
                recorder.taken.clear()
                samples.append((done + portion, resident()))
                print(f"{done + portion:>8} images, {samples[-1][1] / 2**20:.0f} MiB", flush=True)
    warm = [size for count, size in samples if count > options.images * 0.1] or [samples[-1][1]]
    middle = statistics.median(warm)
    spread = max(abs(size - middle) / middle for size in warm)
    print(f"after warm-up {middle / 2**20:.0f} MiB ± {spread:.1%}")
    if options.quick and not options.results:
        return
    target = options.results or RESULTS
    target.mkdir(parents=True, exist_ok=True)
    report = {**conditions(encoder, options), "samples": samples, "median": middle, "spread": spread}
    (target / "worker-memory.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run what the options name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", type=int, default=600, help="gallery images (at most 769)")
    parser.add_argument("--large", type=int, default=60, help="12-megapixel JPEGs to make; 0: none")
    parser.add_argument("--memory", action="store_true", help="watch the memory instead")
    parser.add_argument("--images", type=int, default=100_000, help="with --memory: so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, help="folder (default: bench/results)")
    parser.add_argument("--quick", action="store_true", help="few images, one round, nothing written")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.small, options.large, options.images = 1, 24, 2, 200
    if options.memory:
        memory(options)
    else:
        throughput(options)


if __name__ == "__main__":
    main()
