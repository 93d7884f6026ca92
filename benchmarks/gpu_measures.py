"""What a device can do at best, measured in the run that speaks of it; and how busy a GPU is.

peak = matmul_rate("cuda", "bfloat16")          # FLOP/s of one large matrix product
floor = moved_bytes / copy_rate("cuda")         # s: nothing that moves so many bytes is faster
share = gpu_busy(work)                          # of the time between first and last kernel
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import common

ROUNDS = argparse.Namespace(rounds=10)


def is_cuda(device: str) -> bool:
    """Whether a device's name is a CUDA one."""
    return device.startswith("cuda")


def copy_rate(device: str, quick: bool = False) -> float:
    """Bytes per second of a copy much larger than a cache, read and write counted."""
    import torch

    values = 2**25
    if is_cuda(device):
        values = 2**28
    if quick:
        values = 2**20
    source = torch.ones(values, device=device)
    target = torch.empty_like(source)
    took = common.measure(lambda: target.copy_(source), ROUNDS, warm_up=3)
    return 2 * source.nbytes / took.seconds


def matmul_rate(device: str, dtype: str, quick: bool = False) -> float:
    """FLOP/s of a product of two large square matrices of random values."""
    import torch

    side = 1024
    if is_cuda(device):
        side = 8192
    if quick:
        side = 512
    generator = torch.Generator(device).manual_seed(0)
    a, b = (
        torch.randn(side, side, generator=generator, device=device).to(getattr(torch, dtype))
        for _ in range(2)
    )
    return 2 * side**3 / common.measure(lambda: a @ b, ROUNDS, warm_up=3).seconds


def upload_rate(device: str, pinned: bool, quick: bool = False) -> float:
    """Bytes per second from the CPU's memory to the device's; pinned: from page-locked memory."""
    import torch

    count = 2**26
    if quick:
        count = 2**16
    source = torch.ones(count)
    if pinned:
        source = source.pin_memory()
    target = torch.empty_like(source, device=device)
    return source.nbytes / common.measure(lambda: target.copy_(source), ROUNDS, warm_up=2).seconds


def launch_seconds(device: str, count: int = 1000) -> float:
    """Seconds that each of many small operations costs: work below that is bound by launches."""
    import torch

    x = torch.zeros(16, device=device)

    def work() -> None:
        for _ in range(count):
            x.add_(1)

    return common.measure(work, ROUNDS, warm_up=2).seconds / count


def gpu_busy(work: Callable[[], object]) -> float | None:
    """Share of the time between the first and the last kernel of `work` in which one runs.

    Source: torch's profiler. None where it sees no kernel (no permission for the counters).
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    work()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:  # tracing the CPU too would slow it
        work()
        torch.cuda.synchronize()
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in seen.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    if not spans:
        return None
    return covered(spans)


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Share of the time from the first start to the last end that some span covers; 0 for none."""
    total, until = 0.0, -float("inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total / (until - min(spans)[0]) if spans and until > min(spans)[0] else 0.0
