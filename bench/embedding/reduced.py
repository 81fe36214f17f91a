"""How much a decode at reduced scale changes an embedding, and what it saves.

`python -m bench.embedding.reduced` (see bench/README.md) enlarges every gallery drawing to camera size and adds camera
noise; with --photographs it takes photographs too. It writes bench/results/reduced.json.
"""

import argparse
import json
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.config import Settings
from app.media.decode import load
from app.media.limits import limits_of
from bench.options import RESULTS, parse_options
from workers.device import cores
from workers.encoder import MIN_COSINE, Encoder
from workers.models import load_model
from workers.preprocess import flat_share, pixels_of

GALLERY = Path(__file__).parents[2] / "app/demo/gallery"
_NOISES, _QUALITIES = (0, 1, 2, 4, 8, 16), (75, 88, 95)


@dataclass(frozen=True)
class Case:
    """One enlarged picture and its measurements.

    `cosine` compares the embedding of the reduced decode with that of the full decode; `used`: the worker uses the
    reduced decode.
    """

    kind: str
    name: str
    noise: int
    pale: bool
    quality: int
    flat: float
    cosine: float
    used: bool
    whole_seconds: float
    worker_seconds: float


def enlarged(path: Path, size: tuple[int, int], noise: NDArray[np.int16], *, pale: bool, quality: int) -> bytes:
    """Return the picture as a JPEG of `size`. Pale ones stay between 40 and 218, so that noise clips nowhere."""
    picture = np.asarray(Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC))
    values = picture.astype(np.int16)
    if pale:
        values = values * 7 // 10 + 40
    stream = BytesIO()
    Image.fromarray(np.clip(values + noise, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def measure(encoder: Encoder, kind: str, path: Path, data: bytes, made: tuple[int, bool, int]) -> Case:
    """Decode one JPEG fully, at reduced scale, and like the worker; compare the embeddings."""
    limits = limits_of(Settings())
    began = time.thread_time()
    whole = encoder.transform(load(data, limits).image)
    between = time.thread_time()
    kept = pixels_of(data, encoder, limits)[1]
    ended = time.thread_time()
    reduced = load(data, limits, target=encoder.decode_target)
    if reduced.image.width == reduced.width:
        raise SystemExit(f"{reduced.width} x {reduced.height} is too small to be decoded at reduced scale")
    pixels = encoder.transform(reduced.image)
    first, second = encoder.encode(np.stack([whole, pixels]))
    return Case(
        kind,
        path.name,
        *made,
        flat=flat_share(pixels),
        cosine=float(first @ second),
        used=np.array_equal(kept, pixels),
        whole_seconds=between - began,
        worker_seconds=ended - between,
    )


def summary(kind: str, cases: list[Case]) -> str:
    """Return a summary of the cases."""
    used = [case for case in cases if case.used]
    bad = sorted((case for case in cases if case.cosine < MIN_COSINE), key=lambda case: case.cosine)
    missed = [case for case in bad if case.used]
    lines = [
        f"{kind}: {len(cases)}, of which {len(used)} are decoded at reduced scale; {len(bad)} would be below cosine "
        f"{MIN_COSINE}, {len(missed)} are; least cosine {min((case.cosine for case in used), default=1.0):.5f} "
        f"(all reduced: {min(case.cosine for case in cases):.5f})",
        f"  CPU seconds an image: whole {statistics.mean(case.whole_seconds for case in cases):.4f}, "
        f"as the worker does {statistics.mean(case.worker_seconds for case in cases):.4f}",
    ]
    lines += [
        f"  {case.cosine:.5f} {case.name} noise {case.noise}{' pale' * case.pale} quality {case.quality} "
        f"flat {case.flat:.3f} {'reduced' if case.used else 'whole'}"
        for case in bad[:20]
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, action="append", default=[], help="folder of photographs")
    parser.add_argument(
        "--width", type=int, default=2800, help="width of the enlarged pictures, 4:3; 2800 is halved once"
    )
    parser.add_argument("--every", type=int, default=1, help="take every N-th drawing only")
    parser.add_argument("--first", type=int, default=0, help="index of the first drawing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS / "reduced.json", help="file to write")
    options = parse_options(parser, quick={"every": 300, "results": None})
    settings = Settings()
    encoder = Encoder(load_model(settings.model, settings.weights), device="cpu", concurrency=1)
    size = (options.width, options.width * 3 // 4)
    normal = np.random.default_rng(options.seed).normal(0, 1, (size[1], size[0], 3)).astype(np.float32)
    noises = {sigma: np.rint(sigma * normal).astype(np.int16) for sigma in _NOISES}
    pick = random.Random(options.seed)
    drawings = [("drawing", path) for path in sorted(GALLERY.glob("*.jpg"))]
    photographs = [
        ("photograph", path)
        for folder in options.photographs
        for path in sorted(folder.iterdir())
        if path.suffix in (".jpg", ".png")
    ]
    settings_of = [(path, (pick.choice(_NOISES), pick.random() < 0.5, pick.choice(_QUALITIES))) for _, path in drawings]
    todo = [("drawing", path, made) for path, made in settings_of[options.first :: options.every]]
    todo += [("photograph", path, (noise, False, 88)) for _, path in photographs for noise in (0, 4, 16)]

    def run(one: tuple[str, Path, tuple[int, bool, int]]) -> Case:
        kind, path, (noise, pale, quality) = one
        data = enlarged(path, size, noises[noise], pale=pale, quality=quality)
        return measure(encoder, kind, path, data, (noise, pale, quality))

    with ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(run, todo))
    report = {
        "size": size,
        "model": settings.model,
        "seed": options.seed,
        "cases": [asdict(one) for one in found],
    }
    if options.results:
        options.results.parent.mkdir(parents=True, exist_ok=True)
        options.results.write_text(json.dumps(report, indent=0) + "\n", encoding="utf-8")
    for kind in ("drawing", "photograph"):
        if cases := [one for one in found if one.kind == kind]:
            print(summary(kind, cases))


if __name__ == "__main__":
    main()
