"""Names of devices and number types, checked; and how the CPU computes when it trains."""

from pathlib import Path

import torch

from ..errors import TTDError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def resolve_device(device: str | torch.device | None) -> torch.device:
    """`cpu`, `cuda`, `cuda:1`, `mps`; None = CUDA where there is one, else the CPU.

    Errors: TTDError for unknown names and devices that are not there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise TTDError(f"unknown device {device!r}: use cpu, cuda, cuda:N or mps") from None
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise TTDError(f"device {device} is not supported: use cpu, cuda, cuda:N or mps")
    if chosen.type == "cuda" and (
        not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count()
    ):
        raise TTDError(
            f"device {device} is not there: {torch.cuda.device_count()} CUDA devices seen; use "
            "--device cpu"
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise TTDError("device mps is not there: use --device cpu")
    return chosen


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """A name of `DTYPES` or a torch dtype; None = float32. TTDError listing the names."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is not None and dtype not in DTYPES:
        raise TTDError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    return DTYPES[dtype or "float32"]


def fast_dtype(device: torch.device) -> torch.dtype:
    """What `auto` stands for: bfloat16 where the device multiplies in it, float32 elsewhere.

    CUDA from Ampere on; CPUs with AMX, and AMD's with AVX-512-BF16. Elsewhere bfloat16 is emulated,
    and slower; a Xeon with AVX-512-BF16 alone had 79 GFLOP/s in it and 140 in float32
    (docs/performance.md).
    """
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device)[0] >= 8
    elif device.type == "cpu":
        # Not public, so a torch without them is taken for a CPU without.
        avx, amx = (
            getattr(torch.cpu, name, bool)()
            for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
        fast = amx or (avx and made_by_amd())
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def made_by_amd() -> bool:
    """Whether Linux says so of this machine's processors; False elsewhere."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False


def use_full_float32() -> None:
    """Compute float32 convolutions on CUDA in float32, as matrix products are, for the process.

    cuDNN rounds the factors to TF32 (10 bits) unless told otherwise, which moves a ViT's patch
    embedding by 1e-3 and pixels across thresholds. Whoever wants speed asks for bfloat16.
    """
    torch.backends.cudnn.allow_tf32 = False


def use_threads(count: int | None = None) -> None:
    """Compute with `count` CPU threads and take numbers below 1e-38 as 0; for training.

    count: None takes as many as torch does. Call it early.

    Gradients of attention are full of such subnormal numbers, which a CPU multiplies many times
    slower (benchmarks/bench_training.py). The flag belongs to a thread, and the threads of a
    parallel loop inherit it from the one that starts the first such loop: hence early.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(count or torch.get_num_threads())
