"""What is known of a torch device: its name, fast types, out-of-memory errors."""

import os
import platform

import torch

from app.errors import ConfigurationError


def device_of(name: str | None) -> torch.device:
    """Return the device `name` (None: cuda where there is one, else cpu); ConfigurationError where it is unusable."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).partition("\n")[0]
        raise ConfigurationError(f"the device {name!r} cannot be used: {said}; try cpu") from error
    return device


def name_of(device: torch.device) -> str:
    """Return what people call the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def hardware_of(device: torch.device) -> str:
    """Return the device's hardware in words, for reports."""
    if device.type != "cpu":
        return name_of(device)
    return f"{torch.cpu.get_capabilities().get('architecture', platform.machine())} CPU, {cores()} cores"


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def native_precisions(device: torch.device) -> tuple[str, ...]:
    """Return the types faster than fp32 that `device` computes in hardware, the fastest of widest range first.

    An emulated type is far slower than fp32: bf16 16 to 50 times on a CPU that has AVX2 only.
    """
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return ("bf16", "fp16", "tf32") if major >= 8 else ("fp16",) if major >= 7 else ()
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        bf16 = any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16", "bf16"))
        fp16 = any(able.get(name) for name in ("avx512_fp16", "amx_fp16"))
        return ("bf16",) * bf16 + ("fp16",) * fp16
    return ()


def allow_tf32(allowed: bool) -> None:
    """Let the process's fp32 convolutions and products on CUDA run in TF32 (10 bits of mantissa), or not."""
    if hasattr(torch.backends.cudnn, "conv"):  # since torch 2.9
        torch.backends.cudnn.conv.fp32_precision = "tf32" if allowed else "ieee"
        torch.backends.cuda.matmul.fp32_precision = "tf32" if allowed else "ieee"
    else:
        torch.backends.cudnn.allow_tf32 = allowed
        torch.backends.cuda.matmul.allow_tf32 = allowed


def out_of_memory(error: RuntimeError) -> bool:
    """Tell whether `error` says that the device's memory, or the machine's, is full."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
