"""Run workers in threads of a test, and read what they wrote."""

import csv
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import timm.data
import torch
from PIL import Image

from app.store import spaces
from tests.support.running import ROOT
from workers.encoder import Encoder
from workers.models import load_model

GALLERY = ROOT / "app/demo/gallery"
with (GALLERY / "manifest.csv").open(newline="", encoding="utf-8") as manifest:
    PICTURES = [str(GALLERY / row["file"]) for row in csv.DictReader(manifest)]


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def one(conn, statement: str, *values: object) -> object:
    return conn.execute(statement, values).fetchone()[0]


def add(conn, *uris: str | Path) -> list[int]:
    rows = conn.execute(
        "INSERT INTO lookalike.images (uri) SELECT unnest(%s::text[]) RETURNING id", ([str(uri) for uri in uris],)
    ).fetchall()
    return [int(row[0]) for row in rows]


def drained(conn) -> bool:
    return not one(conn, "SELECT count(*) FROM lookalike.jobs")


def embedding(conn, image_id: int) -> np.ndarray | None:
    row = conn.execute("SELECT embedding FROM lookalike.gallery WHERE id = %s", (image_id,)).fetchone()
    return row and row[0].to_numpy().astype(np.float64)


def cosine(encoder: Encoder, found: np.ndarray, path: str | Path) -> float:
    """Return the cosine of a stored embedding and timm's own fp32 features of the file."""
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(encoder._module))
    with torch.inference_mode(), Image.open(path) as image:
        vector = encoder._module(transform(image.convert("RGB"))[None])[0].double().numpy()
    return float(found @ vector / np.linalg.norm(found) / np.linalg.norm(vector))


class Gated(Encoder):
    """The real encoder, held back by a gate."""

    def __init__(self) -> None:
        super().__init__(load_model("tf_efficientnet_lite0"), device="cpu")
        self.gate = threading.Event()
        self.reached = threading.Event()

    def encode(self, batch: np.ndarray) -> np.ndarray:
        self.reached.set()
        assert self.gate.wait(30)
        return super().encode(batch)


MODEL = "test_convnext"


def make_space(conn, encoder: Encoder, name: str, fingerprint: str):
    return spaces.create(
        conn,
        name=name,
        model=MODEL,
        weights=None,
        dimensions=encoder.dimensions,
        preprocessing=encoder.preprocessing,
        fingerprint=fingerprint,
    )
