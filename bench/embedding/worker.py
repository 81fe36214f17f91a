"""Compares the whole worker with the bare forward and the bare decode, in turns.

`python -m bench.embedding.worker` (see bench/README.md) writes worker.json and worker.png to bench/results. With
`--memory` it watches the worker's memory over 100,000 images and writes worker-memory.json and worker-memory.png.
"""

import argparse
import io
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from app.config import Settings
from app.media.limits import limits_of
from bench.embedding.worker_memory import memory
from bench.embedding.worker_run import NOT_WORK, STAGES, Run, conditions, cpu_seconds, drain, running
from bench.options import RESULTS, parse_options
from workers.device import cores
from workers.encoder import PRECISIONS, Encoder
from workers.models import load_model
from workers.preprocess import pixels_of
from workers.served_spaces import ready

GALLERY = Path(__file__).parents[2] / "app/demo/gallery"
_QUEUE = ("the queue", "the queue, in the database")

Batch = NDArray[np.uint8]


def forwards(encoder: Encoder, pixels: Batch, *, threads: int, seconds: float) -> int:
    """Run timm's forward on `pixels` for about `seconds` with `threads` torch threads; return the number of images.

    Precision and memory format are the encoder's.
    """
    module, dtype = encoder._module, PRECISIONS[encoder.precision]
    torch.set_num_threads(threads)
    done, ends = 0, time.perf_counter() + seconds
    with torch.inference_mode(), torch.autocast(encoder.device.type, dtype, enabled=dtype is not torch.float32):
        while not done or time.perf_counter() < ends:
            module(encoder._normalised(pixels)).float().cpu()
            done += len(pixels)
    return done


def forward_rate(encoder: Encoder, pixels: Batch, *, threads: int, seconds: float) -> float:
    """Return images/s of the bare forward with torch's own threads, in the worker's batches."""
    began = time.perf_counter()
    return forwards(encoder, pixels, threads=threads, seconds=seconds) / (time.perf_counter() - began)


def forwards_in_parallel(encoder: Encoder, pixels: Batch, *, seconds: float) -> int:
    """Run the same forwards in parallel, one core each, like the worker; return the number of images."""
    with ThreadPoolExecutor(encoder.concurrency) as pool:
        runs = [
            pool.submit(forwards, encoder, pixels[: encoder.chunk], threads=1, seconds=seconds)
            for _ in range(encoder.concurrency)
        ]
        return sum(run.result() for run in runs)


def timed(work: Callable[[], int]) -> tuple[float, float]:
    """Return images/s of `work`, which returns the number of images, and this process's CPU seconds an image."""
    began, spent = time.perf_counter(), time.process_time()
    count = work()
    return count / (time.perf_counter() - began), (time.process_time() - spent) / count


def large_jpegs(folder: Path, count: int, seed: int) -> list[str]:
    """Make 12-megapixel JPEGs from gallery pictures, with detail and noise at every scale; return their paths.

    A dozen are different; the others repeat them with another comment.
    """
    rng, pick = np.random.default_rng(seed), random.Random(seed)
    pictures = sorted(GALLERY.glob("*.jpg"))
    names: list[str] = []
    made: list[bytes] = []
    for number in range(count):
        if number < 12:
            canvas = np.zeros((3000, 4000, 3), np.float32)
            for cells, weight in ((8, 0.6), (64, 0.3), (400, 0.2)):
                noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
                canvas += weight * np.asarray(noise.resize((4000, 3000), Image.Resampling.BILINEAR), np.float32)
            picture = Image.open(pick.choice(pictures)).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
            canvas = 0.6 * canvas + 0.4 * np.asarray(picture, np.float32)
            canvas += np.resize(rng.normal(0, 4, 999_983).astype(np.float32), canvas.shape)
            stream = io.BytesIO()
            Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=88)
            made.append(stream.getvalue())
        path = folder / f"large-{number:03}.jpg"
        start, rest = made[number % 12][:2], made[number % 12][2:]
        path.write_bytes(start + b"\xff\xfe\x00\x06" + f"{number:04}".encode() + rest)
        names.append(str(path))
    return names


def best_threads(encoder: Encoder, pixels: Batch, *, seconds: float) -> int:
    """Return the number of torch threads with which the bare forward is fastest."""
    if encoder.device.type != "cpu":
        return cores()
    rates: dict[int, float] = {}
    for threads in sorted({1, cores(), max(1, cores() // 2)}):
        rates[threads] = max(forward_rate(encoder, pixels, threads=threads, seconds=seconds) for _ in range(2))
    return max(rates, key=lambda threads: rates[threads])


def compare(run: Run, encoder: Encoder, uris: list[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Measure forward, decode and the worker in turns; return raw rates and their ratio to the combined rate.

    `seconds`: duration of one measurement of the bare forward.
    """
    limits = limits_of(Settings())

    def decode(uri: str) -> Batch:
        return pixels_of(Path(uri).read_bytes(), encoder, limits)[1]

    rates: dict[str, list[float]] = {name: [] for name in ("forward", "lanes", "decode", "worker")}
    each_cpu: dict[str, list[float]] = {name: [] for name in rates}
    stages: list[tuple[str, float]] = []
    spent: Counter[str] = Counter()
    with ThreadPoolExecutor(cores()) as pool:
        some = np.stack(list(pool.map(decode, uris[: encoder.batch_size])))
        pixels = np.resize(some, (encoder.batch_size, *encoder.input_shape))
        threads = best_threads(encoder, pixels, seconds=seconds / 3)
        drain(run, uris)  # warm
        for number in range(rounds):
            works: list[tuple[str, Callable[[], int]]] = [
                ("forward", lambda: forwards(encoder, pixels, threads=threads, seconds=seconds)),
                ("lanes", lambda: forwards_in_parallel(encoder, pixels, seconds=seconds)),
                ("decode", lambda: len(list(pool.map(decode, uris)))),
            ]
            for name, work in works[:: 1 if number % 2 else -1]:
                rate, cpu = timed(work)
                rates[name].append(rate)
                each_cpu[name].append(cpu)
            before = cpu_seconds(run.conn)
            rates["worker"].append(len(uris) / drain(run, uris))
            stages += run.recorder.taken
            taken = {name: value - before.get(name, 0.0) for name, value in cpu_seconds(run.conn).items()}
            spent.update(taken)
            each_cpu["worker"].append(sum(taken[name] for name in taken if name not in NOT_WORK) / len(uris))
    worked = sum(len(uris) / rate for rate in rates["worker"])
    each = {stage: [value for name, value in stages if name == stage] for stage in STAGES}
    machine = {name: value / worked / cores() for name, value in spent.items()}
    cpu_ratios = [
        (min(forward, lanes) + decoded) / worker
        for forward, lanes, decoded, worker in zip(*each_cpu.values(), strict=True)
    ]
    return {
        "images": len(uris),
        "torch_threads": threads,
        "images_per_second": rates,
        "ratio_to_combined": [
            worker / allowed(encoder, max(forward, lanes), decoded)
            for forward, lanes, decoded, worker in zip(*rates.values(), strict=True)
        ],
        "cpu_seconds_an_image": each_cpu,
        "ratio_of_cpu": cpu_ratios if encoder.device.type == "cpu" else [],
        "bookkeeping_share_of_time": sum(sum(each[name]) for name in ("claim", "lookup", "write")) / worked,
        "bookkeeping_share_of_cpu": sum(machine.get(name, 0.0) for name in _QUEUE),
        "share_of_cpu": machine,
        "stages": {name: {"count": len(v), "seconds": sum(v), "each": v} for name, v in each.items() if v},
    }


def allowed(encoder: Encoder, forward: float, decode: float) -> float:
    """Return the best rate that both bare rates allow; on a CPU both compete for the cores."""
    return 1 / (1 / forward + 1 / decode) if encoder.device.type == "cpu" else min(forward, decode)


def show(name: str, found: dict[str, Any]) -> None:
    """Print one comparison: rates, ratio, stages."""
    middle = {key: statistics.median(values) for key, values in found["images_per_second"].items()}
    ratios = found["ratio_to_combined"]
    print(f"\n{name}: worker {middle['worker']:.1f} images/s; bare forward {middle['forward']:.1f}", end=" ")
    print(f"(torch threads: {found['torch_threads']}), in parallel {middle['lanes']:.1f}, bare decode", end=" ")
    print(f"{middle['decode']:.1f}")
    print(f"  ratio to the combined rate: median {statistics.median(ratios):.3f}", end=" ")
    print(f"({min(ratios):.3f} to {max(ratios):.3f})")
    if ratios := found["ratio_of_cpu"]:
        print(f"  by CPU seconds: median {statistics.median(ratios):.3f}", end=" ")
        print(f"({min(ratios):.3f} to {max(ratios):.3f})")
    print(f"  bookkeeping: {found['bookkeeping_share_of_time']:.1%} of the time,", end=" ")
    print(f"{found['bookkeeping_share_of_cpu']:.1%} of the CPU")
    shares = sorted(found["share_of_cpu"].items(), key=lambda item: -item[1])
    print("  CPU:", ", ".join(f"{whose} {share:.1%}" for whose, share in shares), end=", ")
    print(f"others' {1 - sum(found['share_of_cpu'].values()):.1%}")
    for stage, one in found["stages"].items():
        each = sorted(one["each"])
        p50, p95 = each[len(each) // 2], each[int(len(each) * 0.95)]
        bar = "█" * max(1, round(40 * one["seconds"] / max(s["seconds"] for s in found["stages"].values())))
        print(f"  {stage:<7}{one['count']:>7} × p50 {1000 * p50:8.1f} ms, p95 {1000 * p95:8.1f} ms  {bar}")


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw a histogram of each stage's seconds, and the shares of CPU time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, len(results), figsize=(6 * len(results), 5.5), squeeze=False, height_ratios=(3, 1), layout="constrained"
    )
    bins = np.logspace(-4, 1, 60)
    for column, (name, found) in enumerate(results.items()):
        times, shares = axes[0][column], axes[1][column]
        for stage, one in found["stages"].items():
            times.hist(one["each"], bins=bins, weights=one["each"], histtype="step", label=stage)
        times.set(xscale="log", xlabel="seconds, each time", ylabel="seconds in all", title=name)
        times.legend()
        at = 0.0
        for whose, share in sorted(found["share_of_cpu"].items(), key=lambda item: -item[1]):
            shares.barh([0], [share], left=at, label=f"{whose} {share:.1%}")
            at += share
        shares.set(xlim=(0, 1), yticks=[], xlabel="share of the machine's CPU time")
        shares.legend(ncols=2, fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, 1.6))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def throughput(options: argparse.Namespace) -> None:
    """Compare on small and large images, and write the results."""
    settings = Settings(index_min_rows=10**9)
    encoder = ready(load_model(settings.model, settings.weights), settings)
    pictures = [str(path) for path in sorted(GALLERY.glob("*.jpg"))]
    results = {}
    with tempfile.TemporaryDirectory(prefix="lookalike-large-") as folder, running(encoder, settings) as run:
        kinds = {"256-px drawings": pictures[: options.small]}
        if options.large:
            kinds["12-megapixel JPEGs"] = large_jpegs(Path(folder), options.large, options.seed)
        before = conditions(encoder, options)
        for name, uris in kinds.items():
            results[name] = compare(run, encoder, uris, options.rounds, options.seconds)
            show(name, results[name])
    if options.quick and not options.results:
        return
    target = options.results or RESULTS
    target.mkdir(parents=True, exist_ok=True)
    (target / "worker.json").write_text(json.dumps({**before, "kinds": results}) + "\n", encoding="utf-8")
    plot(results, target / "worker.png")


def main() -> None:
    """Run the comparison, or watch the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="seconds of one measurement of the bare forward")
    parser.add_argument("--small", type=int, default=769, help="gallery images (at most 769)")
    parser.add_argument("--large", type=int, default=192, help="12-megapixel JPEGs to make; 0: none")
    parser.add_argument("--memory", action="store_true", help="watch the memory instead")
    parser.add_argument("--images", type=int, default=100_000, help="with --memory: number of images")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, help="folder (default: bench/results)")
    quick = {"rounds": 1, "seconds": 0.3, "small": 12, "large": 1, "images": 200}
    options = parse_options(parser, quick=quick)
    if options.memory:
        memory(options)
    else:
        throughput(options)


if __name__ == "__main__":
    main()
