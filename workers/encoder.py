"""Turns decoded images into unit-length embeddings on a device. Imports workers.models, app.errors, torch and timm."""

import logging
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from app.errors import ConfigurationError, ImageError, TransientImageError
from workers.models import EmbeddingModel

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MIN_COSINE = 0.999  # what a faster precision may cost
# A JPEG is decoded down to no less than this many times the size it is then resized to. Least cosine to the whole
# decode, EfficientNet-Lite0, 12 images enlarged to 12 megapixels, clean and with noise added: at 4 times 0.9996 for
# photographs and 0.9987 for the worst drawing with noise on flat areas; at 2 times 0.9994 and 0.9977; at 1 time 0.995
# and 0.989.
_DRAFT_MARGIN = 4.0
# Shortest-side resizing of a longer strip would make it gigantic: 1 × 60,000 pixels become 256 × 15,360,000.
_MAX_ASPECT = 16


class EmbeddingError(ImageError):
    """Some vectors of a batch are zero or not finite.

    `indices` are their places in the batch; `embeddings` (n, d) holds all vectors, zeros in those places, so that the
    others need no second pass.
    """

    def __init__(self, reason: str, indices: tuple[int, ...], embeddings: npt.NDArray[np.float32]) -> None:
        super().__init__("encode", reason)
        self.indices = indices
        self.embeddings = embeddings


class Encoder:
    """A model on a device, held ready. `transform` may run in many threads at once, `encode` in one.

    Public attributes: `model_name`, `fingerprint`, `preprocessing` (timm's data config as JSON values), `dimensions`,
    `device`, `device_name`, `precision` (in use), `channels_last`, and `decode_target` for loader.load.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        *,
        device: str | None = None,
        precision: str = "fp32",
        channels_last: bool = True,
        calibration: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        """Move `model` to `device` (None: cuda where there is one, else cpu) and run it once.

        `precision`: fp32, bf16, fp16, or auto: the first type that the hardware computes natively and for which every
        cosine to fp32 on `calibration` images ((n, 3, h, w), None: made ones) is at least 0.999; else fp32.
        Raises ConfigurationError: unknown device or precision, a model without pooled features.
        """
        if precision != "auto" and precision not in PRECISIONS:
            raise ConfigurationError(f"precision {precision!r} is unknown; choose auto, {', '.join(PRECISIONS)}")
        self.model_name = model.name
        self.fingerprint = model.fingerprint
        self.preprocessing = model.preprocessing
        self.device = _device(device)
        self.device_name = _device_name(self.device)
        self.channels_last = channels_last
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._module = model.module.to(self.device, memory_format=self._memory_format)  # type: ignore[call-overload]
        self._transform = create_transform(**_transform_options(self.preprocessing), use_prefetcher=True)
        self._mean = self._channels(self.preprocessing["mean"])
        self._std = self._channels(self.preprocessing["std"])
        self._max_batch: int | None = None  # found when the device runs out of memory
        self._dtype = torch.float32
        self.dimensions = self._probe()
        self.precision = self._choose(calibration) if precision == "auto" else precision
        self._dtype = PRECISIONS[self.precision]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one transformed image."""
        channels, height, width = self.preprocessing["input_size"]
        return channels, height, width

    @property
    def decode_target(self) -> tuple[int, int]:
        """(width, height) below which reduced-scale decoding would show: four times what the transform resizes to."""
        _, height, width = self.input_shape
        scale = _DRAFT_MARGIN / self.preprocessing["crop_pct"]
        return math.ceil(width * scale), math.ceil(height * scale)

    def transform(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Resize and crop an RGB image as timm's data config says: uint8 (3, height, width). Safe in threads.

        Raises ImageError, step "transform".
        """
        try:
            pixels: npt.NDArray[np.uint8] = self._transform(self._trimmed(image)).numpy()
        except Exception as error:
            width, height = image.size
            raise ImageError("transform", f"the {width} × {height} image cannot be resized: {error}") from error
        return pixels

    def encode(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed transformed images, uint8 (n, 3, height, width): float32 (n, dimensions) of unit length.

        Where the device runs out of memory, the batch is halved and the smaller size kept for the batches to come.
        Raises EmbeddingError where a vector is zero or not finite, TransientImageError where the device has too
        little memory for a single image.
        """
        if batch.ndim != 4 or batch.shape[1:] != self.input_shape or batch.dtype != np.uint8:
            raise ImageError(
                "encode", f"the batch is {batch.dtype} {batch.shape}; the model takes uint8 (n, *{self.input_shape})"
            )
        parts = []
        start = 0
        while start < len(batch):
            size = min(self._max_batch or len(batch), len(batch) - start)
            part = self._forward_or_shrink(batch[start : start + size])
            if part is not None:
                parts.append(part)
                start += size
        features = np.concatenate(parts) if parts else np.empty((0, self.dimensions), np.float32)
        return _unit(features)

    def _channels(self, values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=self.device).view(1, -1, 1, 1) * 255

    def _trimmed(self, image: Image.Image) -> Image.Image:
        """Cut the ends off a very long strip, which the centre crop would cut off anyway, after resizing them."""
        short, long = sorted(image.size)
        if self.preprocessing["crop_mode"] != "center" or long <= short * _MAX_ASPECT:
            return image
        kept = short * _MAX_ASPECT
        if (long - kept) % 2:
            kept += 1  # the same number of pixels off both ends keeps the centre where it was
        cut = (long - kept) // 2
        wide = image.width > image.height
        return image.crop((cut, 0, cut + kept, short) if wide else (0, cut, short, cut + kept))

    def _forward_or_shrink(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32] | None:
        """Return the features, or None when memory ran out and `_max_batch` was halved."""
        try:
            return self._forward(batch)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            message = str(error).partition("\n")[0]
        # Outside the except block, whose traceback holds the tensors that filled the memory.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            raise TransientImageError("encode", f"{self.device_name} has too little memory for one image: {message}")
        self._max_batch = len(batch) // 2
        log.warning("%s is out of memory with %d images; going on with %d", self.device, len(batch), self._max_batch)
        return None

    @torch.inference_mode()
    def _forward(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Normalise on the device (uint8 is a quarter of the transfer) and return float32 features (n, d)."""
        pixels = torch.from_numpy(np.ascontiguousarray(batch))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        pixels = pixels.to(self.device, non_blocking=True)
        images = pixels.to(torch.float32, memory_format=self._memory_format).sub_(self._mean).div_(self._std)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not torch.float32):
            features = self._module(images)
        return features.float().cpu().numpy()  # type: ignore[no-any-return]

    def _probe(self) -> int:
        features = self._forward(np.zeros((1, *self.input_shape), np.uint8))
        if features.ndim != 2:
            raise ConfigurationError(
                f"the model {self.model_name!r} gives features of shape {features.shape[1:]}, not one pooled vector"
            )
        return int(features.shape[1])

    def cosine_to_fp32(self, precision: str, images: npt.NDArray[np.uint8]) -> float:
        """Return the least cosine between the embeddings of `images` in `precision` and in fp32; NaN if one is bad."""
        before = self._dtype
        try:
            self._dtype = torch.float32
            exact = self.encode(images)
            self._dtype = PRECISIONS[precision]
            return float((self.encode(images) * exact).sum(axis=1).min())
        except EmbeddingError:
            return math.nan
        finally:
            self._dtype = before

    def _choose(self, calibration: npt.NDArray[np.uint8] | None) -> str:
        images = calibration_images(self.input_shape) if calibration is None else calibration
        for fast in native_precisions(self.device):
            cosine = self.cosine_to_fp32(fast, images)
            good = cosine >= MIN_COSINE
            log.info(
                "%s on %s: cosine to fp32 %.5f, %s", fast, self.device_name, cosine, "taken" if good else "refused"
            )
            if good:
                return fast
        return "fp32"


def native_precisions(device: torch.device) -> tuple[str, ...]:
    """Return the fast types that `device` computes in hardware, the one of wider range first.

    An emulated type is far slower than fp32: bf16 16 to 50 times on a CPU that has AVX2 only.
    """
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return ("bf16", "fp16") if major >= 8 else ("fp16",) if major >= 7 else ()
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        bf16 = any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16", "bf16"))
        fp16 = any(able.get(name) for name in ("avx512_fp16", "amx_fp16"))
        return ("bf16",) * bf16 + ("fp16",) * fp16
    return ()


def calibration_images(shape: tuple[int, int, int], count: int = 8) -> npt.NDArray[np.uint8]:
    """Return `count` made images, uint8 (count, *shape): coloured noise from coarse to fine, the same every time."""
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


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).partition("\n")[0]
        raise ConfigurationError(f"the device {name!r} cannot be used: {said}; try cpu") from error
    return device


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _transform_options(preprocessing: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in preprocessing.items()}


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _unit(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # In float64: the squares of large float32 features could overflow.
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
