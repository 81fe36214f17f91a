"""The reference for the demo gallery: timm's own transform and forward in fp32, exact search, precision@5.

`python -m bench.embedding.reference` checks `app/demo/reference.json` against a fresh run; `--write` writes it. With
`--against URL` it also compares the embeddings that the database stores.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pgvector import HalfVector
from PIL import Image
from timm.data.transforms_factory import create_transform

from app import config, db
from app.demo import tour
from app.store import spaces
from bench.options import parse_options
from workers.encoder import MIN_COSINE, Encoder
from workers.models import load_model

FIGURES = Path(tour.__file__).parent / "reference.json"
BATCH = 32
K = 5


def embed(files: list[Path], model_name: str) -> NDArray[np.float32]:
    """Return timm's unit-length embeddings of these files, shape (n, dimensions)."""
    model = load_model(model_name)
    transform = create_transform(**model.preprocessing, is_training=False)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(files), BATCH):
            pixels = torch.stack([transform(Image.open(file).convert("RGB")) for file in files[start : start + BATCH]])
            parts.append(model.module(pixels).numpy())
    found = np.concatenate(parts)
    unit: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def precision(embeddings: NDArray[np.float32], labels: list[str]) -> float:
    """Return the leave-one-out precision at 5 for these labels, by exact search."""
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :K]
    names = np.array(labels)
    return float((names[nearest] == names[:, None]).mean())


def lowest_cosine(url: str, files: list[Path], reference: NDArray[np.float32]) -> float:
    """Return the lowest cosine of the files' stored embeddings to the reference."""
    by_uri = dict(zip(map(str, files), reference, strict=True))
    with db.connect(url) as conn:
        table = spaces.active(conn).table_name
        rows = conn.execute(
            f"SELECT i.uri, e.embedding FROM lookalike.{table} e JOIN lookalike.images i ON i.id = e.image_id"  # noqa: S608
        ).fetchall()
    stored = [
        (by_uri[str(uri)], np.asarray(e.to_numpy(), np.float32))
        for uri, e in rows
        if str(uri) in by_uri and isinstance(e, HalfVector)
    ]
    if len(stored) < len(files):
        raise SystemExit(f"only {len(stored)} of {len(files)} images of the gallery are embedded there")
    return float(min(a @ b / np.linalg.norm(b) for a, b in stored))


def main() -> int:
    """Run the bench; return 0 if everything agrees, else 1. `--quick` compares no precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write app/demo/reference.json")
    parser.add_argument("--every", type=int, default=1, help="take every N-th picture only; no precision is compared")
    parser.add_argument("--against", metavar="URL", help='database whose embeddings to compare, or "embedded"')
    options = parse_options(parser, quick={"every": 40})
    with tour.MANIFEST.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))[:: options.every]
    files = [tour.GALLERY / row["file"] for row in rows]
    reference = embed(files, config.Settings().model)
    figures = {label: precision(reference, [row[label] for row in rows]) for label in ("subcategory", "category")}
    print(json.dumps(figures))
    if options.write and options.every == 1:
        FIGURES.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    kept = json.loads(FIGURES.read_text(encoding="utf-8"))
    fine = options.every > 1 or all(abs(kept[label] - figures[label]) < 2e-3 for label in figures)
    if options.against:
        settings = config.settings()
        if options.against != "embedded":
            settings = config.Settings(database_url=options.against)
        with db.database(settings) as url:
            cosine = lowest_cosine(url, files, reference)
        print(f"lowest cosine of a stored embedding to timm's: {cosine:.6f}")
        # What a worker uses here: bf16, say, on a CPU that computes it natively, if it is close enough to fp32.
        model = load_model(settings.model, settings.weights)
        used = Encoder(model, device=settings.device, precision=settings.precision).precision
        fine = fine and cosine >= (0.9999 if used == "fp32" else MIN_COSINE)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
