"""Properties of a torch device: its name, fast types, out-of-memory errors."""

import os
import platform

import torch

from app.errors import ConfigurationError


def device_of(name: str | None) -> torch.device:
    """Return the device `name` (None: cuda if available, else cpu).

    Raises:
        ConfigurationError: this machine cannot use the device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"the device {name!r} cannot be used: {reason}; try cpu") from error
    return device


def name_of(device: torch.device) -> str:
    """Return the name of the device that people use."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def hardware_of(device: torch.device) -> str:
    """Return a description of the hardware for reports."""
    if device.type != "cpu":
        return name_of(device)
    return f"{torch.cpu.get_capabilities().get('architecture', platform.machine())} CPU, {cores()} cores"


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def native_precisions(device: torch.device) -> tuple[str, ...]:
    """Return the types faster than fp32 that `device` computes in hardware, the widest range first.

    Emulated types are left out because they are far slower than fp32: bf16 16 to 50 times on a CPU with AVX2 only.
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
    """Set whether fp32 convolutions and products of this process may run in TF32 (10-bit mantissa) on CUDA."""
    if hasattr(torch.backends.cudnn, "conv"):  # since torch 2.9
        torch.backends.cudnn.conv.fp32_precision = "tf32" if allowed else "ieee"
        torch.backends.cuda.matmul.fp32_precision = "tf32" if allowed else "ieee"
    else:
        torch.backends.cudnn.allow_tf32 = allowed
        torch.backends.cuda.matmul.allow_tf32 = allowed


def out_of_memory(error: RuntimeError) -> bool:
    """Return whether `error` means that the memory of the device or the machine is full."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
