"""Turns decoded images into unit-length embeddings on a device."""

import logging
import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from app.errors import ConfigurationError, ImageError, TransientImageError
from workers.compiled import Compiled
from workers.cpu_pool import CpuPool
from workers.device import allow_tf32, cores, device_of, name_of, native_precisions, out_of_memory
from workers.models import EmbeddingModel

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MIN_COSINE = 0.999  # least cosine of a faster precision to fp32
# A JPEG is decoded to at least this many times the size to which it is resized next. Least cosine to the full decode
# (EfficientNet-Lite0, 12 images enlarged to 12 megapixels, with and without noise): at 4 times 0.9996 for photographs
# and 0.9987 for the worst drawing with noise on flat areas; at 2 times 0.9994 and 0.9977; at 1 time 0.995 and 0.989.
_DRAFT_MARGIN = 4.0
# Images of one forward before workers.batch_size measures it. On a CPU more images fall out of its caches: Lite0
# encoded 40 images a core-second with 4 and 21 with 32.
_CPU_CHUNK, _GPU_CHUNK = 4, 64
# Resizing by the shortest side makes a longer strip gigantic: 1 × 60,000 pixels become 256 × 15,360,000.
_MAX_ASPECT = 16


class EmbeddingError(ImageError):
    """Some vectors of a batch are zero or not finite.

    `indices` are their positions in the batch. `embeddings` (n, d) holds all vectors, with zeros at these positions, so
    that the others need no second pass.
    """

    def __init__(self, reason: str, indices: tuple[int, ...], embeddings: npt.NDArray[np.float32]) -> None:
        super().__init__("encode", reason)
        self.indices = indices
        self.embeddings = embeddings


class Encoder:
    """A model on a device. `transform` and `encode` are safe in threads.

    Public attributes: `model_name`, `fingerprint`, `preprocessing` (timm's data config as JSON values), `dimensions`,
    `device`, `device_name`, `precision` (in use), `cosine` (its least cosine to fp32), `channels_last`, `concurrency`,
    `chunk` (images of one forward), `images_per_second` (None until measured), `decode_target` for media.decode.load.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        *,
        device: str | None = None,
        precision: str = "fp32",
        channels_last: bool = True,
        calibration: npt.NDArray[np.uint8] | None = None,
        concurrency: int = 0,
        chunk: int = 0,
    ) -> None:
        """Move `model` to `device` (None: cuda if available, else cpu) and run it once.

        `precision`: fp32, tf32, bf16, fp16 or auto. Auto chooses the first type that the hardware computes natively and
        whose cosines to fp32 on `calibration` images ((n, 3, h, w), None: synthetic) are all at least 0.999, else fp32.
        `concurrency`: parallel forwards; 0: one a core on a CPU, else one. `chunk`: most images of one forward; 0: a
        default for the device.

        Raises:
            ConfigurationError: the device or precision is unknown, or the model returns no pooled features.
        """
        if precision != "auto" and precision not in PRECISIONS:
            raise ConfigurationError(f"precision {precision!r} is unknown; choose auto, {', '.join(PRECISIONS)}")
        self.model_name = model.name
        self.fingerprint = model.fingerprint
        self.preprocessing = model.preprocessing
        self.device = device_of(device)
        self.device_name = name_of(self.device)
        self.channels_last = channels_last
        self.images_per_second: float | None = None
        on_cpu = self.device.type == "cpu"
        self._pool = CpuPool(concurrency or (cores() if on_cpu else 1))
        self.chunk = chunk or (_CPU_CHUNK if on_cpu else _GPU_CHUNK)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._module = model.module.to(self.device, memory_format=self._memory_format)  # type: ignore[call-overload]
        self._fast: Compiled | None = None
        self._local = threading.local()
        self._transform = create_transform(**_transform_options(self.preprocessing), use_prefetcher=True)
        self._mean = self._channels(self.preprocessing["mean"])
        self._std = self._channels(self.preprocessing["std"])
        self._dtype = torch.float32
        self.dimensions = self._probe()
        self.precision, self.cosine = self._choose_precision(precision, calibration)
        self._dtype = PRECISIONS[self.precision]

    @property
    def concurrency(self) -> int:
        return self._pool.count

    @property
    def batch_size(self) -> int:
        """The number of images that keeps the device busy."""
        return self.chunk * self._pool.count

    @property
    def threads(self) -> int:
        """How many threads should call `encode`, with `chunk` images each.

        On a CPU one for each parallel forward, so that none waits; on a GPU two, so that copies overlap forwards.
        """
        return 2 if self.device.type == "cuda" else self._pool.count

    @property
    def description(self) -> str:
        """Device and precision, for people."""
        kind = self.precision if self.cosine is None else f"{self.precision} (cosine to fp32 {self.cosine:.4f})"
        return f"{self.device_name}, {kind}"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one transformed image."""
        channels, height, width = self.preprocessing["input_size"]
        return channels, height, width

    @property
    def decode_target(self) -> tuple[int, int]:
        """The least (width, height) of a reduced-scale decode: four times the size to which the transform resizes."""
        _, height, width = self.input_shape
        scale = _DRAFT_MARGIN / self.preprocessing["crop_pct"]
        return math.ceil(width * scale), math.ceil(height * scale)

    def transform(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Resize and crop an RGB image by timm's data config; return uint8 (3, height, width).

        Raises:
            ImageError: the image cannot be resized (step "transform").
        """
        try:
            pixels: npt.NDArray[np.uint8] = self._transform(self._trimmed(image)).numpy()
        except Exception as error:
            width, height = image.size
            raise ImageError("transform", f"the {width} × {height} image cannot be resized: {error}") from error
        return pixels

    def encode(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed transformed images, uint8 (n, 3, height, width); return float32 (n, dimensions) of unit length.

        The batch is encoded in chunks. When the device runs out of memory, the chunk is halved for good. If a faster
        type makes a vector zero or not finite, its image is encoded again in fp32.

        Raises:
            EmbeddingError: a vector is zero or not finite.
            TransientImageError: the device has too little memory for a single image.
        """
        if batch.ndim != 4 or batch.shape[1:] != self.input_shape or batch.dtype != np.uint8:
            raise ImageError(
                "encode", f"the batch is {batch.dtype} {batch.shape}; the model takes uint8 (n, *{self.input_shape})"
            )
        features = self._features(batch)
        try:
            return _unit(features)
        except EmbeddingError as error:
            if self._dtype is torch.float32:
                raise
            log.warning("%s overflows on %d images; encoding them in fp32", self.precision, len(error.indices))
            again = list(error.indices)
            features[again] = np.concatenate([self._forward(batch[i : i + 1], torch.float32) for i in again])
            return _unit(features)

    def accelerate(self, *, compiled: bool = False, cuda_graphs: bool = False) -> None:
        """Compile the forward of a full chunk, or record it as a CUDA graph; other sizes stay uncompiled.

        The call is slow.

        Raises:
            ConfigurationError: the machine cannot compile the model, or compiling changes its embeddings.
        """
        self._fast = None
        if not compiled and not cuda_graphs:
            return
        sample = np.resize(calibration_images(self.input_shape), (self.chunk, *self.input_shape))
        plain = _unit(self._forward(sample))
        fast = Compiled(self._module, self._dtype, compiled=compiled, cuda_graphs=cuda_graphs, device=self.device)
        with torch.inference_mode():
            fast.prepare(self._normalised(sample))
        self._fast = fast
        self._fast_chunk = self.chunk
        cosine = float((_unit(self._forward(sample)) * plain).sum(axis=1).min())
        if not cosine >= MIN_COSINE:
            self._fast = None
            raise ConfigurationError(
                f"compiled for {self.device_name}, the model {self.model_name} gives other embeddings: cosine "
                f"{cosine:.5f}; unset LOOKALIKE_COMPILE and LOOKALIKE_CUDA_GRAPHS"
            )

    def _channels(self, values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=self.device).view(1, -1, 1, 1) * 255

    def _trimmed(self, image: Image.Image) -> Image.Image:
        """Cut the ends off a very long strip, because the centre crop discards them after resizing anyway."""
        short, long = sorted(image.size)
        if self.preprocessing["crop_mode"] != "center" or long <= short * _MAX_ASPECT:
            return image
        kept = short * _MAX_ASPECT
        if (long - kept) % 2:
            kept += 1  # cutting the same number of pixels off both ends keeps the centre
        cut = (long - kept) // 2
        wide = image.width > image.height
        return image.crop((cut, 0, cut + kept, short) if wide else (0, cut, short, cut + kept))

    def _features(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        features = np.empty((len(batch), self.dimensions), np.float32)
        left = [slice(0, len(batch))] if len(batch) else []
        while left:
            # A small batch is split over the pool. A full chunk goes to one thread, because other threads call too.
            count = sum(part.stop - part.start for part in left)
            size = self.chunk if count >= self.chunk else -(-count // self._pool.count)
            parts = [
                slice(start, min(start + size, part.stop))
                for part in left
                for start in range(part.start, part.stop, size)
            ]
            full = threading.Event()

            def run(part: slice, full: threading.Event = full) -> str | None:
                return self._forward_into(features, batch, part, full)

            messages = self._pool.map(run, parts)
            left = [part for part, message in zip(parts, messages, strict=True) if message is not None]
            if left:
                self._shrink(size, next(message for message in messages if message))
        return features

    def _forward_into(
        self, features: npt.NDArray[np.float32], batch: npt.NDArray[np.uint8], part: slice, full: threading.Event
    ) -> str | None:
        """Encode `part` of the batch; return None, or the message if memory ran out, here or in another part."""
        if full.is_set():
            return ""
        try:
            features[part] = self._forward(batch[part])
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            full.set()
            return str(error).partition("\n")[0] or "out of memory"
        return None

    def _shrink(self, size: int, message: str) -> None:
        """Halve the chunk. The caller holds no traceback, which would keep the tensors in memory."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if size == 1:
            raise TransientImageError("encode", f"{self.device_name} has too little memory for one image: {message}")
        self.chunk = min(self.chunk, size // 2)
        log.warning("%s is out of memory with %d images; continuing with %d", self.device, size, self.chunk)

    @torch.inference_mode()
    def _forward(self, batch: npt.NDArray[np.uint8], dtype: torch.dtype | None = None) -> npt.NDArray[np.float32]:
        """Return float32 features (n, d). On CUDA each calling thread has its own stream and waits for its result."""
        if self.device.type != "cuda":
            return self._run(self._normalised(batch), dtype).float().numpy()
        stream = getattr(self._local, "stream", None)
        if stream is None:
            stream = self._local.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            return self._run(self._normalised(batch), dtype).float().cpu().numpy()

    def _normalised(self, batch: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Move to the device and normalise there, because uint8 is a quarter of the transfer."""
        pixels = torch.from_numpy(np.ascontiguousarray(batch))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        pixels = pixels.to(self.device, non_blocking=True)
        return pixels.to(torch.float32, memory_format=self._memory_format).sub_(self._mean).div_(self._std)

    def _run(self, images: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
        if self._fast is not None and dtype is None and len(images) == self._fast_chunk:
            return self._fast(images)
        dtype = dtype or self._dtype
        with torch.autocast(self.device.type, dtype, enabled=dtype is not torch.float32):
            features: torch.Tensor = self._module(images)
        return features

    def _probe(self) -> int:
        features = self._forward(np.zeros((1, *self.input_shape), np.uint8))
        if features.ndim != 2:
            raise ConfigurationError(
                f"the model {self.model_name!r} gives features of shape {features.shape[1:]}, not one pooled vector"
            )
        return int(features.shape[1])

    def cosine_to_fp32(self, precision: str, images: npt.NDArray[np.uint8]) -> float:
        """Return the least cosine between embeddings of `images` in `precision` and in fp32; NaN if a vector is bad."""
        try:
            allow_tf32(False)
            exact = _unit(self._forward(images, torch.float32))
            allow_tf32(precision != "fp32")
            return float((_unit(self._forward(images, PRECISIONS[precision])) * exact).sum(axis=1).min())
        except EmbeddingError:
            return math.nan
        finally:
            allow_tf32(_tf32 is True)

    def _choose_precision(self, precision: str, calibration: npt.NDArray[np.uint8] | None) -> tuple[str, float | None]:
        """Return the precision to use and its cosine to fp32 (None for fp32)."""
        images = calibration_images(self.input_shape) if calibration is None else calibration
        chosen, cosine = "fp32", None
        for fast in native_precisions(self.device) if precision == "auto" else (precision,):
            if fast == "fp32":
                break
            near = self.cosine_to_fp32(fast, images)
            good = near >= MIN_COSINE
            verdict = (
                "used" if good else "used because LOOKALIKE_PRECISION is set" if precision != "auto" else "refused"
            )
            level = logging.INFO if good or precision == "auto" else logging.WARNING
            log.log(level, "%s on %s: least cosine to fp32 %.5f, %s", fast, self.device_name, near, verdict)
            if good or precision != "auto":
                chosen, cosine = fast, near
                break
        else:
            log.info("%s computes in fp32 because no faster type of it is close enough", self.device_name)
        _keep_tf32(chosen)
        return chosen, cosine


# TF32 is a setting of the process, so the strictest of its encoders decides.
_tf32: bool | None = None


def _keep_tf32(precision: str) -> None:
    global _tf32
    if precision in ("fp32", "tf32"):
        _tf32 = precision == "tf32" and _tf32 is not False
    allow_tf32(_tf32 is True)


def calibration_images(shape: tuple[int, int, int], count: int = 8) -> npt.NDArray[np.uint8]:
    """Return `count` synthetic images, uint8 (count, *shape): coloured noise from coarse to fine, deterministic."""
    channels, height, width = shape
    rng = np.random.default_rng(0)
    images = np.empty((count, channels, height, width), np.uint8)
    for i in range(count):
        cells = 2 + 2 * i
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, channels), np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        noisy = smooth + rng.normal(0, 4 * i, smooth.shape)
        images[i] = np.clip(noisy, 0, 255).astype(np.uint8).transpose(2, 0, 1)
    return images


def _transform_options(preprocessing: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in preprocessing.items()}


def _unit(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # In float64, because the squares of large float32 features may overflow.
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    good = np.isfinite(lengths) & (lengths > 0)
    unit: npt.NDArray[np.float32] = np.divide(features, lengths, out=np.zeros(features.shape), where=good).astype(
        np.float32
    )
    if not good.all():
        bad = tuple(int(i) for i in np.flatnonzero(~good[:, 0]))
        kind = "zero" if lengths[bad[0], 0] == 0 else "not finite"
        raise EmbeddingError(f"the model's vector of image {bad[0]} of the batch is {kind}", bad, unit)
    return unit
