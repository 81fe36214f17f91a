"""The pictures of a run and their embeddings in both models, against which every answer is checked."""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch

from app.media.limits import Limits
from bench.chaos.pictures import Pictures
from workers.encoder import Encoder
from workers.models import EmbeddingModel, load_model
from workers.preprocess import pixels_of

REAL = "tf_efficientnet_lite0"
SMALL = "test_convnext"
_LIMITS = Limits(max_bytes=2**26, max_pixels=10**8, timeout=20, allowed_hosts=frozenset())
_CHUNK = 64

Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """A model of the run and its embeddings of all pictures, shape (pictures, dimensions)."""

    name: str
    weights: str | None
    about: EmbeddingModel
    embeddings: Embeddings


@dataclass(frozen=True)
class Pool:
    """Picture files by number, and the two models."""

    files: list[Path]
    models: list[Model]

    def attributes(self, number: int) -> dict[str, Any]:
        """Return the attributes of the image; the first five pictures are `rare`."""
        return {"category": f"c{number % 8}", "rank": number} | ({"rare": True} if number < RARE else {})


RARE = 5


def make(folder: Path, *, pictures: int, seed: int, second: str) -> Pool:
    """Draw the pictures and embed them in both models, or take those of an earlier run in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = _draw(folder / f"pictures-{seed}", pictures, seed)
    weights = None
    if second == SMALL:  # random weights from the seed, because no trained ones are packaged
        weights = folder / f"{SMALL}-{seed}.pt"
        if not weights.exists():
            torch.manual_seed(seed)
            torch.save(timm.create_model(SMALL).state_dict(), weights)
    models = []
    for name, file in ((REAL, None), (second, weights)):
        about = load_model(name, None if file is None else str(file))
        models.append(Model(name, None if file is None else str(file), about, _embed(about, files, folder)))
    return Pool(files, models)


def _draw(folder: Path, count: int, seed: int) -> list[Path]:
    rng = random.Random(seed)
    if not folder.exists():
        draft = folder.with_suffix(".part")
        pictures = Pictures(draft)
        for number in range(count):
            (draft / f"{number:06}.img").write_bytes(pictures.picture(rng))
        draft.rename(folder)
    found = sorted(folder.glob("*.img"))
    if len(found) < count:
        raise SystemExit(f"{folder} has {len(found)} pictures, fewer than {count}: remove it, or lower --images")
    return found[:count]


def _embed(about: EmbeddingModel, files: list[Path], folder: Path) -> Embeddings:
    key = hashlib.sha256(f"{about.fingerprint} {len(files)} {files[0]}".encode()).hexdigest()[:16]
    kept = folder / f"embeddings-{key}.npy"
    if not kept.exists():
        encoder = Encoder(about, device="cpu")
        parts = []
        for start in range(0, len(files), _CHUNK):
            loaded = [pixels_of(file.read_bytes(), encoder, _LIMITS)[1] for file in files[start : start + _CHUNK]]
            parts.append(encoder.encode(np.stack(loaded)))
        np.save(kept, np.concatenate(parts))
    embeddings: Embeddings = np.load(kept)
    return embeddings
