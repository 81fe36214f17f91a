"""Types shared by all packages: JSON objects and embeddings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A JSON object.
Json = dict[str, Any]

# One embedding: float32, shape (dimensions,), unit length.
Embedding = NDArray[np.float32]
