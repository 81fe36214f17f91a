"""What an embedding must be: timm's own transform and forward on an image's bytes, in fp32.

Nothing of the worker's code but the loading of weights.
"""

import hashlib
import io
import threading

import numpy as np
import timm.data
import torch
from numpy.typing import NDArray
from PIL import Image

from workers.models import load_model


class Reference:
    """One model; remembers what it has embedded, by content."""

    def __init__(self, model: str, weights: str | None = None) -> None:
        self.model = load_model(model, weights)
        self._transform = timm.data.create_transform(**timm.data.resolve_model_data_config(self.model.module))
        self._known: dict[bytes, NDArray[np.float64]] = {}
        self._lock = threading.Lock()
        self.dimensions = len(self.vector(_plain()))

    def vector(self, data: bytes) -> NDArray[np.float64]:
        """The unit-length embedding of an image file's bytes."""
        key = hashlib.sha256(data).digest()
        with self._lock:
            if key not in self._known:
                with torch.inference_mode(), Image.open(io.BytesIO(data)) as image:
                    features = self.model.module(self._transform(image.convert("RGB"))[None])[0].double().numpy()
                self._known[key] = features / np.linalg.norm(features)
            return self._known[key]

    def closest(self) -> float:
        """The largest cosine between two contents seen: a wrong embedding is noticed as long as this is small."""
        with self._lock:
            stacked = np.stack(list(self._known.values()))
        alike = stacked @ stacked.T
        np.fill_diagonal(alike, -1)
        return float(alike.max())


def _plain() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")
    return file.getvalue()
