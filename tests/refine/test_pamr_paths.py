"""The ways PAMR's sums can take: which is chosen when, and that all give the same."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from paths import ROOT

from core.refine import pamr_gather, pamr_library, pamr_native
from core.refine.pamr import PAMR, _works

MANY = 10**6  # images of a job that is worth compiling for
needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


def _random(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("size", [(9, 6), (1, 1), (40, 3), (3, 40)])
@pytest.mark.parametrize("classes", [1, 3, 4, 21, 33, 70])
def test_every_path_gives_the_same(monkeypatch, classes, size):
    """The path follows from the class count alone; either order of the weights will do."""
    image, mask = _random(9, (2, 3, *size), (2, classes, *size))
    pamr, cpu = PAMR(4), torch.device("cpu")
    assert pamr.path(cpu, classes) == ("shifted" if classes < 4 else "gathered")
    got = {many: pamr.refine(pamr.weights(image, many), mask) for many in (1, 21)}
    assert torch.equal(got[1], got[21]) and got[1].is_contiguous()
    monkeypatch.setattr("core.refine.pamr_gather.MIN_CLASSES", 100)
    torch.testing.assert_close(pamr(image, mask), got[1], atol=1e-6, rtol=0)
    many = PAMR(4, pictures=MANY)
    torch.testing.assert_close(
        many(image, mask), got[1], atol=3e-6, rtol=0
    )  # two roundings of the weights
    own = many.weights(image)
    torch.testing.assert_close(own, pamr.weights(image), atol=2e-6, rtol=0)
    torch.testing.assert_close(pamr.refine(own, mask), many.refine(own, mask), atol=1e-6, rtol=0)
    assert torch.equal(
        many.refine(own.clone(memory_format=torch.contiguous_format), mask), many.refine(own, mask)
    )


@pytest.mark.parametrize("pixels", [1, 9, 24, 100])
def test_rows_are_written_in_place_only_when_nobody_looks_at_them_any_more(monkeypatch, pixels):
    """Taller than twice the largest dilation, in blocks of few rows."""
    image, mask = _random(10, (1, 3, 77, 3), (1, 5, 77, 3))
    monkeypatch.setattr("core.refine.pamr_gather.MIN_CLASSES", 100)
    want = PAMR(3)(image, mask)
    monkeypatch.setattr("core.refine.pamr_gather.MIN_CLASSES", 4)
    monkeypatch.setattr("core.refine.pamr_gather.BLOCK_PIXELS", pixels)
    torch.testing.assert_close(PAMR(3)(image, mask), want, atol=1e-6, rtol=0)


def test_blocks_of_classes_are_of_nearly_one_size():
    for classes in range(4, 200):
        lengths = [block.stop - block.start for block in pamr_gather.class_blocks(classes)]
        assert (
            sum(lengths) == classes
            and max(lengths) <= 16
            and min(lengths) > 3
            and max(lengths) - min(lengths) <= 1
        )


def test_the_fused_path_is_for_many_pictures_on_cuda(monkeypatch):
    """The choice needs no GPU: compiling must not cost a small job more than it saves."""
    cuda = torch.device("cuda")
    monkeypatch.setattr("core.refine.pamr._works", lambda way, device: way == "fused")
    assert PAMR().path(cuda, 21) == "shifted"
    assert PAMR(pictures=10_000).path(cuda, 21) == PAMR(pictures=10_000).path(cuda, 1) == "fused"
    assert PAMR(pictures=10_000).path(torch.device("mps"), 21) == "shifted"
    monkeypatch.setattr("core.refine.pamr._works", lambda way, device: False)
    assert PAMR(pictures=10_000).path(cuda, 21) == "shifted"


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A fresh cache and no kernel loaded; sets the compiler there is."""
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    forget = [pamr_library.library.cache_clear, _works.cache_clear]
    [call() for call in forget]
    yield lambda command: monkeypatch.setenv("CC", command)
    [call() for call in forget]


@needs_compiler
def test_the_native_path_is_for_many_pictures_and_compiled_once(compiler, tmp_path):
    cpu, calls = torch.device("cpu"), tmp_path / "calls"
    (counting := tmp_path / "cc").write_text(f'#!/bin/sh\necho >> {calls}\nexec cc "$@"\n')
    counting.chmod(0o755)
    compiler(str(counting))
    assert [PAMR(pictures=n).path(cpu, 21) for n in (1, 31)] == [
        "gathered"
    ] * 2 and not calls.exists()
    assert PAMR(pictures=32).path(cpu, 21) == PAMR(pictures=32).path(cpu, 1) == "native"
    pamr_library.library.cache_clear(), _works.cache_clear()  # another process, later
    assert PAMR(pictures=32).path(cpu, 21) == "native"
    assert calls.read_text() == "\n" and [
        file.suffix for file in (tmp_path / "cache").iterdir()
    ] == [".so"]


@pytest.mark.parametrize("command", ["/nowhere/cc", "false", "true"])
def test_without_a_working_compiler_the_plain_path_serves(compiler, command, tmp_path):
    compiler(command)
    assert PAMR(pictures=MANY).path(torch.device("cpu"), 21) == "gathered"
    assert not list(tmp_path.glob("cache/*"))


@needs_compiler
def test_native_takes_no_picture_and_a_part_of_the_weights():
    image, mask = _random(13, (2, 3, 9, 60), (2, 5, 9, 60))
    pamr = PAMR(2, pictures=MANY)
    weights = pamr.weights(image)
    part = pamr.refine(weights[..., 10:60], mask[..., :50])
    assert torch.equal(part, pamr.refine(weights[..., 10:60].clone(), mask[..., :50]))
    assert pamr(image[:0], mask[:0]).shape == (0, 5, 9, 60)


@needs_compiler
@pytest.mark.parametrize("wrong", ["result", "error"])
def test_a_kernel_that_does_not_work_is_not_used(compiler, monkeypatch, wrong):
    refine = pamr_native.refine

    def broken(*args):
        if wrong == "error":
            raise RuntimeError("no such\ninstruction")
        return refine(*args) + 1e-3

    monkeypatch.setattr(pamr_native, "refine", broken)
    image, mask = _random(12, (1, 3, 8, 9), (1, 5, 8, 9))
    with pytest.warns(
        UserWarning, match=r"native kernel does not work.*(is wrong|no such instruction)"
    ):
        got = PAMR(pictures=MANY)(image, mask)
    assert (
        torch.equal(got, PAMR()(image, mask))
        and PAMR(pictures=MANY).path(image.device, 5) == "gathered"
    )


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
def test_native_sums_do_not_depend_on_the_threads(threads):
    image, mask = _random(11, (2, 3, 30, 37), (2, 21, 30, 37))
    want, before = PAMR(pictures=MANY)(image, mask), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(PAMR(pictures=MANY)(image, mask), want)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_fused_kernels_by_tritons_interpreter():
    """The kernels' arithmetic without a GPU, in a process of its own.

    Triton reads the switch when it is imported.
    """
    pytest.importorskip("triton")
    script = """
import torch
from core.refine import pamr_triton
from core.refine.pamr import PAMR, neighbour_offsets
pamr = PAMR(2)
offsets = neighbour_offsets(pamr.dilations)
for shape in ((2, 3, 3, 20, 70), (1, 1, 9, 5, 3), (1, 2, 1, 17, 1)):
    batch, channels, classes, *size = shape
    image, mask = torch.rand(batch, channels, *size), torch.rand(batch, classes, *size)
    kept, weights = mask.clone(), pamr_triton.weights(image, offsets, 6)
    torch.testing.assert_close(weights, pamr.weights(image), atol=2e-6, rtol=0)
    refined = pamr_triton.refine(weights, mask, 2, offsets)
    torch.testing.assert_close(refined, pamr(image, mask), atol=5e-6, rtol=0)
    assert torch.equal(mask, kept)
"""
    root = ROOT
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    subprocess.run(
        [sys.executable, "-c", script], check=True, env=environment, cwd=root, timeout=600
    )


def test_blocks_of_rows_and_classes_cover_everything(monkeypatch):
    image, mask = _random(5, (2, 3, 11, 7), (2, 5, 11, 7))
    whole = PAMR(3)(image, mask)
    monkeypatch.setattr("core.refine.pamr_shifted.CPU_BLOCK_VALUES", 30)
    monkeypatch.setattr("core.refine.pamr_gather.BLOCK_PIXELS", 15)
    monkeypatch.setattr("core.refine.pamr_gather.BLOCK_CLASSES", 2)
    torch.testing.assert_close(PAMR(3)(image, mask), whole, atol=1e-6, rtol=0)
