"""PAMR's Triton kernels compile to machine code of real GPUs without one, no register spilled."""

import inspect
import os
import re
import subprocess
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton's interpreter compiles nothing", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from core.refine import pamr_triton  # noqa: E402

if "constexprs" not in inspect.signature(ASTSource).parameters:
    pytest.skip("Triton before 3.3 compiles ahead by another interface", allow_module_level=True)

ALIGNED = [["tt.divisibility", 16]]  # torch's allocations
POINTERS = {"out", "image", "scales", "maps", "alpha"}
NUMBERS = {"K": 48, "TAPS": 54, "TY": pamr_triton.TILE[0], "TX": pamr_triton.TILE[1]}
CARDS = {"A100": 80, "RTX 4090": 89, "H100": 90, "B200": 100}


def compiled(kernel, capability: int, **constants):
    """The kernel as `pamr_triton` launches it, with machine code of that compute capability."""
    names = kernel.arg_names
    kinds = {
        name: "*fp32" if name in POINTERS else "*i32" if name == "offsets" else "i32"
        for name in names
    }
    fixed = {name: value for name, value in {**NUMBERS, **constants}.items() if name in names}
    attributes = {(i,): ALIGNED for i, name in enumerate(names) if kinds[name].startswith("*")}
    source = ASTSource(kernel, {**kinds, **dict.fromkeys(fixed, "constexpr")}, fixed, attributes)
    return triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8}
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def spilled(ptx: str, capability: int, tmp_path: Path) -> int:
    """Bytes of registers that ptxas keeps in memory instead."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    if not tool.exists():
        pytest.skip("this triton ships no ptxas")
    file = tmp_path / "kernel.ptx"
    file.write_text(ptx)
    done = subprocess.run(
        [tool, "-v", f"-arch=sm_{capability}a", file, "-o", "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr)
    assert found, done.stderr
    return sum(map(int, found))


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("classes", [1, pamr_triton.CLASSES])
def test_an_iteration_compiles(card, classes):
    kernel = compiled(pamr_triton._step_kernel, CARDS[card], N=classes)
    assert kernel.asm["cubin"] and kernel.metadata.num_warps == 8


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_weights_compile(card, channels):
    assert compiled(pamr_triton._weights_kernel, CARDS[card], C=channels).asm["cubin"]


def test_no_register_is_spilled_on_an_h100(tmp_path):
    step = compiled(pamr_triton._step_kernel, 90, N=pamr_triton.CLASSES)
    weights = compiled(pamr_triton._weights_kernel, 90, C=3)
    assert spilled(step.asm["ptx"], 90, tmp_path) == spilled(weights.asm["ptx"], 90, tmp_path) == 0
