"""The two 3x3 convolutions of TCL's decoder with fewer multiplications.

Both are products of matrices on [B, h, w, C] memory:

conv_doubled    after nearest-neighbour doubling: 1/4 of the work, everywhere
conv_same       any 3x3: 4/9 of the work by Winograd's minimal filtering, on CPUs in float32
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# 2x2 values of a strip: enough for products of matrices at full speed, 2 x 25 MB at TCL's width
TILES = 512
# Each of the four: one value of the tile +- another
TILE = ((0, 2, -1), (1, 2, 1), (2, 1, -1), (1, 3, -1))

# Products by (row tap, column tap), in the order of `_taps`
Products = dict[tuple[int, int], Tensor]


def conv_doubled(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """`conv(interpolate(x, scale_factor=2, mode="nearest"))` for a 3x3 convolution with padding 1.

    Along one side a doubled map is x_0 x_0 x_1 x_1 ..., so with taps a, b, c and the steps
    d_i = x_{i-1} - x_i

        y_{2i}   = a x_{i-1} + (b + c) x_i = (a + b + c) x_i + a d_i
        y_{2i+1} = (a + b) x_i + c x_{i+1} = (a + b + c) x_i - c d_{i+1}

    Three products for two values instead of six; nine for four instead of 36 on both sides. The
    same up to rounding.

    Args: x [B, C, h, w]; conv from C to D channels. Returns: [B, D, 2h, 2w].
    """
    products = _products(F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)), conv.weight)
    height, width = x.shape[-2:]
    out = x.new_empty(x.shape[0], 2 * height, 2 * width, len(conv.weight))
    for row in (0, 1):
        for column in (0, 1):
            out[:, row::2, column::2] = _quarter(products, row, column, conv.bias)
    return out.permute(0, 3, 1, 2)


def _products(padded: Tensor, weight: Tensor) -> Products:
    """Cells and steps of [B, h+2, w+2, C] times the taps of [D, C, 3, 3]: each [B, ., ., D].

    Taps that meet the same cells or steps share one product of matrices.
    """
    taps = [_taps(part) for part in _taps(weight)]  # [row][column] -> [D, C]
    cells, steps = padded[:, 1:-1], padded[:, :-1] - padded[:, 1:]
    products: Products = {}
    for rows, row_taps in ((cells, (0,)), (steps, (1, 2))):
        plain = rows[:, :, 1:-1]
        stepped = rows[:, :, :-1] - rows[:, :, 1:]
        for seen, column_taps in ((plain, (0,)), (stepped, (1, 2))):
            pairs = list(itertools.product(row_taps, column_taps))
            product = seen @ torch.cat([taps[i][j] for i, j in pairs]).T
            products |= dict(zip(pairs, product.chunk(len(pairs), -1), strict=True))
    return products


def _quarter(products: Products, row: int, column: int, bias: Tensor | None) -> Tensor:
    """The values at (2i + row, 2j + column) of the doubled map: [B, h, w, D].

    An odd row takes the sum of the taps, and the last tap on the next step; columns alike.
    """
    height, width = products[0, 0].shape[1:3]
    total = products[0, 0]
    if bias is not None:
        total = total + bias
    for i, j in ((0, 1 + column), (1 + row, 0), (1 + row, 1 + column)):
        top, left = row * (i > 0), column * (j > 0)
        total = total + products[i, j][:, top : top + height, left : left + width]
    return total


def _taps(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[D, C, 3, ...]: sum, first and minus the last of the three taps, each [D, C, ...]."""
    first, middle, last = weight.unbind(2)
    return first + middle + last, first, -last


def conv_same(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """`conv(x)` for a 3x3 convolution with padding 1: [B, C, H, W] -> [B, D, H, W].

    On a CPU in float32, without gradient, by Winograd's F(2x2, 3x3) (Lavin & Gray, CVPR 2016),
    which torch has for GPUs alone: 16 products for 2x2 values instead of 36. Its additions are of
    neighbouring values: errors stay those of float32. Half types, autocast's too, would lose
    digits, and their units are faster than this.
    """
    recorded = torch.is_grad_enabled() and (x.requires_grad or conv.weight.requires_grad)
    single = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if x.device.type != "cpu" or not single or recorded:
        plain: Tensor = conv(x)
        return plain
    height, width = x.shape[-2:]
    # even sides, and one more around
    maps = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1 + width % 2, 1, 1 + height % 2))
    out = x.new_empty(len(x), height + height % 2, width + width % 2, len(conv.weight))
    _filter_(out, maps, _filters(conv.weight))
    out = out[:, :height, :width].permute(0, 3, 1, 2)
    return out if conv.bias is None else out.add_(conv.bias[:, None, None])


def _filter_(out: Tensor, padded: Tensor, filters: Tensor) -> None:
    """Winograd's convolution of [B, H+2, W+2, C] into out [B, H, W, D], strip by strip.

    All strips go through the same two buffers. New memory for each would cost as much as what is
    saved: the system hands it out page by page.
    """
    height, width = out.shape[1:3]
    rows = 2 * max(1, min(height // 2, TILES // (width // 2)))  # of pixels
    tiles = rows * width // 4
    spread = out.new_empty(16, tiles, padded.shape[-1])
    products = out.new_empty(16, tiles, out.shape[-1])
    for one, target in zip(padded, out, strict=True):
        for y in range(0, height, rows):
            strip = target[y : y + rows]
            if len(strip) < rows:  # the last strip is pulled back: some rows are done twice
                y = height - rows
                strip = target[y:]
            _spread_(spread, one[y : y + rows + 2])
            _collect_(strip, torch.bmm(spread, filters, out=products))


def _filters(weight: Tensor) -> Tensor:
    """Winograd's G w G^T of [D, C, 3, 3] -> [16, C, D]."""
    g = weight.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    return torch.einsum("ai,bj,dcij->abcd", g, g, weight).flatten(0, 1).contiguous()


def _spread_(out: Tensor, padded: Tensor) -> None:
    """Winograd's B^T d B of all 4x4 tiles, two apart: [H+2, W+2, C] -> out [16, H/2*W/2, C]."""
    height, width, channels = padded.shape[0] - 2, padded.shape[1] - 2, padded.shape[2]
    tiles = out.view(4, 4, height // 2, width // 2, channels)
    for i, (row, other, sign) in enumerate(TILE):
        rows = torch.add(
            padded[row : row + height : 2], padded[other : other + height : 2], alpha=sign
        )
        for j, (column, second, also) in enumerate(TILE):
            torch.add(
                rows[:, column : column + width : 2],
                rows[:, second : second + width : 2],
                alpha=also,
                out=tiles[i, j],
            )


def _collect_(out: Tensor, products: Tensor) -> None:
    """Winograd's A^T m A: products [16, H/2*W/2, D] -> out [H, W, D]."""
    tiles = products.view(4, 4, out.shape[0] // 2, out.shape[1] // 2, out.shape[2])
    for row, rows in enumerate((tiles[0] + tiles[1] + tiles[2], tiles[1] - tiles[2] - tiles[3])):
        torch.add(rows[0], rows[1], out=out[row::2, 0::2]).add_(rows[2])
        torch.sub(rows[1], rows[2], out=out[row::2, 1::2]).sub_(rows[3])
