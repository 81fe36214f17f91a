"""Types that every package shares: JSON objects and embeddings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Anything that JSON can hold at the top of an object.
Json = dict[str, Any]

# One embedding: float32, shape (dimensions,), unit length.
Embedding = NDArray[np.float32]
