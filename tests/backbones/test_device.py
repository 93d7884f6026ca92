"""What dtype `auto` stands for, by what the hardware says of itself."""

import pytest
import torch

from core.backbones.device import fast_dtype
from core.training.config import RunConfig
from core.training.precision import products, settled

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("avx", "amx", "amd", "dtype"),
    [
        (False, False, True, torch.float32),
        (True, False, True, torch.bfloat16),
        (True, False, False, torch.float32),  # slower there
        (False, True, False, torch.bfloat16),
    ],
)
def test_a_cpu_with_bfloat16_units_uses_them(monkeypatch, avx, amx, amd, dtype):
    monkeypatch.setattr("core.backbones.device.made_by_amd", lambda: amd)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert fast_dtype(CPU) == products("auto", CPU) == dtype
    assert settled(RunConfig(dtype="auto"), CPU).dtype == str(dtype).removeprefix("torch.")
    assert settled(RunConfig(dtype="float16"), CPU).dtype == "float16"


def test_a_torch_that_cannot_tell(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert fast_dtype(CPU) == torch.float32


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_cuda_from_ampere_on(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert fast_dtype(CUDA) == dtype


def test_a_named_dtype_stays(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert products("float32", CPU) == torch.float32
    assert fast_dtype(torch.device("mps")) == torch.float32
