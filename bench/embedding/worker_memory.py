"""Watches the worker's memory: `python -m bench.embedding.worker --memory`."""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from app.config import Settings
from bench.embedding.worker_run import conditions, drain, running
from bench.options import RESULTS
from workers.models import load_model
from workers.served_spaces import ready

_MODEL = "test_efficientnet"
_WARM = 0.1  # the first tenth of the images


def memory(options: argparse.Namespace) -> None:
    """Embed many small images with a small model of random weights, and watch the memory of the process."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    portion = min(2000, options.images)
    samples: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory(prefix="lookalike-memory-") as folder:
        weights = Path(folder) / "weights.pth"
        torch.save(timm.create_model(_MODEL, num_classes=0).state_dict(), weights)
        settings = Settings(index_min_rows=10**9)
        encoder = ready(load_model(_MODEL, str(weights)), settings)
        with running(encoder, settings, str(weights)) as run:
            seconds = 0.0
            for done in range(0, options.images, portion):
                uris = []
                for number in range(portion):
                    path = Path(folder) / f"{number}.jpg"  # other bytes each time, so that no embedding is reused
                    Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(path, quality=70)
                    uris.append(str(path))
                seconds += drain(run, uris)
                samples.append((done + portion, resident()))
                if not (done // portion) % 5:
                    print(f"{done + portion:>8} images, {samples[-1][1] / 2**20:.0f} MiB", flush=True)
    warm = [size for count, size in samples if count > options.images * _WARM]
    middle = statistics.median(warm)
    spread = max(abs(size - middle) / middle for size in warm)
    rate = f"{samples[-1][0]} images at {samples[-1][0] / seconds:.0f} images/s"
    print(f"{rate}; after warm-up {middle / 2**20:.0f} MiB ± {spread:.1%}")
    if options.quick and not options.results:
        return
    target = options.results or RESULTS
    target.mkdir(parents=True, exist_ok=True)
    report = {**conditions(encoder, options), "samples": samples, "median": middle, "spread": spread}
    (target / "worker-memory.json").write_text(json.dumps(report) + "\n", encoding="utf-8")
    plot(samples, middle, target / "worker-memory.png")


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def plot(samples: list[tuple[int, int]], middle: float, path: Path) -> None:
    """Draw memory over images, with a band of 5 % around the median."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.5))
    axis.plot([count for count, _ in samples], [size / 2**20 for _, size in samples], marker=".")
    axis.axhspan(0.95 * middle / 2**20, 1.05 * middle / 2**20, alpha=0.15, label="median after the first tenth, ± 5 %")
    axis.set(xlabel="images embedded", ylabel="MiB in memory", ylim=(0, None))
    axis.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
