"""The reference embedding: timm's own transform and forward on an image's bytes, in fp32.

Of the worker's code it uses only the loading of weights.
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
    """A model that caches its embeddings by content."""

    def __init__(self, model: str, weights: str | None = None) -> None:
        self.model = load_model(model, weights)
        self._transform = timm.data.create_transform(**timm.data.resolve_model_data_config(self.model.module))
        self._cache: dict[bytes, NDArray[np.float64]] = {}
        self._lock = threading.Lock()
        self.dimensions = len(self.vector(_plain()))

    def vector(self, data: bytes) -> NDArray[np.float64]:
        """Return the unit-length embedding of an image file's bytes."""
        key = hashlib.sha256(data).digest()
        with self._lock:
            if key not in self._cache:
                with torch.inference_mode(), Image.open(io.BytesIO(data)) as image:
                    features = self.model.module(self._transform(image.convert("RGB"))[None])[0].double().numpy()
                self._cache[key] = features / np.linalg.norm(features)
            return self._cache[key]

    def closest(self) -> float:
        """Return the largest cosine between two contents so far; if it is small, a wrong embedding is detected."""
        with self._lock:
            stacked = np.stack(list(self._cache.values()))
        alike = stacked @ stacked.T
        np.fill_diagonal(alike, -1)
        return float(alike.max())


def _plain() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")
    return file.getvalue()
