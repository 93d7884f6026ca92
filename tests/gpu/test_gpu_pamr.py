"""PAMR's paths on the GPU against its published form in float64 on the CPU."""

import warnings

import pytest
import reference_pamr
import torch

from core.refine.pamr import PAMR

pytestmark = pytest.mark.gpu

MANY = 10**6  # images of a job that is worth compiling for
CASES = [
    (1, 3, 5, 60, 83),
    (2, 3, 9, 33, 70),
    (1, 1, 1, 1, 1),
    (1, 3, 21, 7, 129),
    (1, 2, 4, 200, 3),
]


def example(batch, channels, classes, height, width):
    generator = torch.Generator().manual_seed(height)
    image = torch.rand(batch, channels, height, width, generator=generator)
    return image, torch.rand(batch, classes, height, width, generator=generator)


def difference(got, want):
    return float((got.double().cpu() - want).abs().max())


@pytest.mark.parametrize("pictures", [1, MANY])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_published_form(gpu, case, pictures):
    image, mask = example(*case)
    want = reference_pamr.pamr(image.double(), mask.double())
    assert difference(PAMR(pictures=pictures)(image.to(gpu), mask.to(gpu)), want) < 1e-5


def test_a_job_of_many_takes_the_compiled_path(gpu):
    device = torch.device(gpu)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a kernel that does not work here is said as a warning
        assert PAMR(pictures=MANY).path(device, 21) == {"cuda": "fused", "cpu": "native"}[gpu]
    assert PAMR().path(device, 1) == "shifted"


@pytest.mark.parametrize("pictures", [1, MANY])
def test_inputs_of_any_layout_type_and_size(gpu, pictures):
    image, mask = example(1, 3, 6, 40, 52)
    want = reference_pamr.pamr(image.double(), mask.double(), num_iter=3)
    pamr = PAMR(3, pictures=pictures)
    image, mask = image.to(gpu), mask.to(gpu)
    last = image.contiguous(memory_format=torch.channels_last)
    across = mask.transpose(2, 3).contiguous().transpose(2, 3)
    assert difference(pamr(last, across), want) < 1e-5
    assert difference(pamr.refine(pamr.weights(image, 6), mask[:, 2:5]), want[:, 2:5]) < 1e-5
    assert pamr(image.bfloat16(), mask.bfloat16()).dtype == torch.float32
    assert pamr(image, mask[:, :0]).shape == (1, 0, 40, 52)
    assert torch.equal(mask.cpu(), example(1, 3, 6, 40, 52)[1])  # the input stays as it was


@pytest.mark.parametrize("pictures", [1, MANY])
def test_a_whole_picture_at_once(gpu, pictures):
    """PASCAL VOC's size: many tiles and blocks of classes; a few classes of it against float64."""
    image, mask = example(1, 3, 21, 375, 500)
    got = PAMR(2, pictures=pictures)(image.to(gpu), mask.to(gpu))
    some = [0, 7, 8, 20]
    want = torch.cat(
        [reference_pamr.pamr(image.double(), mask[:, [n]].double(), num_iter=2) for n in some], 1
    )
    assert difference(got[:, some], want) < 1e-5
