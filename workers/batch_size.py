"""Measures how many images a device should encode at once."""

import logging
import time

import numpy as np
import torch

from app.errors import TransientImageError
from workers.encoder import Encoder, calibration_images

log = logging.getLogger(__name__)

# The smallest size this close to the best is chosen, because a query image waits for the batch before it.
_NEAR_BEST = 0.97
_MOST_MEMORY = 0.9
_CPU_CHUNKS = (2, 4, 8, 16)
_GPU_CHUNKS = (8, 16, 32, 64, 128, 256, 512, 1024)
# A claim takes several of these small batches: about this many seconds of work, and no more than this many batches.
_CLAIM_SECONDS, _MOST_BATCHES = 0.5, 16


def tune(encoder: Encoder, *, seconds: float = 1.5) -> None:
    """Set `encoder.chunk` and `images_per_second` by encoding synthetic images for about `seconds`.

    On a CPU it tries chunks of 2 to 16 images, as many at once as the worker encodes. Elsewhere it tries 8 to 1024,
    until they no longer pay or the memory is full. If the time is up early, the best chunk measured so far is kept.
    """
    chunks = _CPU_CHUNKS if encoder.device.type == "cpu" else _GPU_CHUNKS
    images = calibration_images(encoder.input_shape)
    rates: dict[int, float] = {}
    encoder.encode(images[:1])
    began = time.monotonic()
    encoder.encode(images[:1])
    expected = time.monotonic() - began
    ends = time.monotonic() + seconds
    while True:
        before = dict(rates)
        for chunk in chunks:
            if rates and time.monotonic() + expected * chunk > ends:
                break
            batch = np.resize(images, (chunk * encoder.concurrency, *encoder.input_shape))
            rate = _rate(encoder, batch, chunk)
            if rate is None:
                break
            rates[chunk] = max(rate, rates.get(chunk, 0))
            expected = encoder.concurrency / rate
            if encoder.device.type != "cpu" and rate < max(rates.values()) * 0.9:
                break  # past its best; on a CPU sizes are few, and another process may have slowed the round
        if len(rates) < 2 or rates == before or time.monotonic() >= ends:
            break
    if not rates:
        return  # `encode` has already set the chunk that fits into memory
    encoder.chunk = choose(rates)
    encoder.images_per_second = rates[encoder.chunk]
    measured = ", ".join(f"{chunk * encoder.concurrency}: {rate:.0f}" for chunk, rate in sorted(rates.items()))
    log.info("batches of %d on %s (images/s by batch: %s)", encoder.batch_size, encoder.device_name, measured)


def choose(rates: dict[int, float]) -> int:
    """Return the smallest size whose rate is within 3 % of the best."""
    return min(size for size, rate in rates.items() if rate >= _NEAR_BEST * max(rates.values()))


def claim_size(encoder: Encoder) -> int:
    """Return how many jobs to claim at once: several batches if `encoder` has been measured, else one."""
    if encoder.images_per_second is None:
        return encoder.batch_size
    batches = round(_CLAIM_SECONDS * encoder.images_per_second / encoder.batch_size)
    return encoder.batch_size * max(1, min(batches, _MOST_BATCHES))


def _rate(encoder: Encoder, batch: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", chunk: int) -> float | None:
    """Return images/s with forwards of `chunk` images, or None if they do not fit into memory."""
    encoder.chunk = chunk
    try:
        if encoder.device.type != "cpu":
            encoder.encode(batch)  # libraries choose their algorithms at the first call of a shape
        began = time.perf_counter()
        encoder.encode(batch)
    except TransientImageError:
        return None
    taken = time.perf_counter() - began
    if encoder.chunk != chunk or _memory_share(encoder.device) * encoder.threads > _MOST_MEMORY:
        return None
    return len(batch) / taken


def _memory_share(device: torch.device) -> float:
    """Return the peak share of a GPU's memory that the process used."""
    if device.type != "cuda":
        return 0.0
    return torch.cuda.max_memory_allocated(device) / torch.cuda.get_device_properties(device).total_memory
