"""The decoder's convolutions against torch's own in float64."""

import pytest
import torch
import torch.nn.functional as F
from small_clip import relative_error

from core.backbones.tcl.convolutions import conv_doubled, conv_same

SIZES = [(1, 1), (1, 5), (4, 3), (6, 8), (7, 7), (10, 4)]


def example(size, bias: bool = True, channels: int = 5):
    """Map [2,C,h,w] in float64, and a convolution of it to six channels."""
    generator = torch.Generator().manual_seed(size[1])
    conv = torch.nn.Conv2d(
        channels, 6, 3, padding=1, bias=bias, dtype=torch.float64
    ).requires_grad_(False)
    conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator, dtype=torch.float64))
    return torch.randn(2, channels, *size, generator=generator, dtype=torch.float64), conv


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_convolution_after_doubling(size, bias):
    """Border cells included; float64: the two are equal, float32: rounding stays small."""
    x, conv = example(size, bias)
    want = conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(conv_doubled(x, conv), want, atol=1e-12, rtol=0)
    assert relative_error(conv_doubled(x.float(), conv.float()), want) < 2e-6


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tiles", [1, 8, 512])
def test_convolution_by_minimal_filtering(monkeypatch, size, bias, tiles):
    """Odd sides, and strips that do not divide the image."""
    monkeypatch.setattr("core.backbones.tcl.convolutions.TILES", tiles)
    x, conv = example(size, bias)
    want = conv(x)
    assert relative_error(conv_same(x.float(), conv.float()), want) < 2e-6


def test_autocast_takes_the_plain_convolution():
    x, conv = example((6, 8))
    x, conv = x.float(), conv.float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        got, want = conv_same(x, conv), conv(x)
    assert got.dtype == torch.bfloat16 and torch.equal(got, want)


def test_many_channels_do_not_add_up_errors():
    """As wide as the decoder: no worse than 3 times torch's own float32."""
    x, conv = example((8, 6), channels=768)
    want = conv(x)
    x, conv = x.float(), conv.float()
    assert relative_error(conv_same(x, conv), want) < 3 * relative_error(conv(x), want) + 1e-6
    doubled = F.interpolate(x, scale_factor=2, mode="nearest")
    want = conv.double()(doubled.double())
    conv = conv.float()
    assert (
        relative_error(conv_doubled(x, conv), want) < 3 * relative_error(conv(doubled), want) + 1e-6
    )


def test_images_of_a_batch_are_the_same_alone_in_any_memory_order():
    x, conv = example((6, 8))
    x, conv = x.float(), conv.float()
    for fast in (conv_same, conv_doubled):
        together = fast(x, conv)
        torch.testing.assert_close(fast(x[1:], conv), together[1:], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(
            fast(x.contiguous(memory_format=torch.channels_last), conv), together
        )


@pytest.mark.parametrize("fast", [conv_same, conv_doubled])
def test_gradients_reach_input_and_weights(fast):
    """Training goes through the decoder."""
    x, conv = example((4, 3))
    conv.requires_grad_()
    x.requires_grad_()

    def call(x, weight, bias):
        return torch.func.functional_call(
            Wrapped(fast, conv), {"conv.weight": weight, "conv.bias": bias}, (x,)
        )

    assert torch.autograd.gradcheck(call, (x, conv.weight, conv.bias), atol=1e-6)


class Wrapped(torch.nn.Module):
    """A function of a convolution as a module."""

    def __init__(self, fast, conv):
        super().__init__()
        self.fast, self.conv = fast, conv

    def forward(self, x):
        return self.fast(x, self.conv)
