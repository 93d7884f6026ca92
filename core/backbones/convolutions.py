"""The two 3x3 convolutions of TCL's decoder with fewer multiplications, as products of matrices on [B,h,w,C] memory.

conv_doubled    after nearest-neighbour doubling: 1/4 of the work, everywhere
conv_same       any 3x3: 4/9 of the work by Winograd's minimal filtering, on CPUs in float32
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# 2x2 values of a strip: enough for products of matrices at full speed, 2 x 25 MB at TCL's width
TILES = 512
TILE = (
    (0, 2, -1),
    (1, 2, 1),
    (2, 1, -1),
    (1, 3, -1),
)  # each of the four: one value of the tile +- another


def conv_doubled(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """`conv(interpolate(x, scale_factor=2, mode="nearest"))`, conv 3x3 with padding 1: [B,C,h,w] -> [B,D,2h,2w].

    Along one side a doubled map is x_0 x_0 x_1 x_1 ..., so with taps a, b, c and the steps d_i =
    x_{i-1} - x_i

        y_{2i}   = a x_{i-1} + (b + c) x_i = (a + b + c) x_i + a d_i
        y_{2i+1} = (a + b) x_i + c x_{i+1} = (a + b + c) x_i - c d_{i+1}

    Three products for two values instead of six; nine for four instead of 36 on both sides. The
    same up to rounding.
    """
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # (B, h+2, w+2, C)
    taps = [
        _taps(part) for part in _taps(conv.weight)
    ]  # [row][column]: sum, first, minus last, each (D, C)
    # Products of rows and columns that are cells or steps; taps that meet the same of them share
    # one.
    products = {}
    for down, rows in ((0, padded[:, 1:-1]), (1, padded[:, :-1] - padded[:, 1:])):
        for across, seen in ((0, rows[:, :, 1:-1]), (1, rows[:, :, :-1] - rows[:, :, 1:])):
            pairs = [
                (i, j) for i in ((1, 2) if down else (0,)) for j in ((1, 2) if across else (0,))
            ]
            product = seen @ torch.cat([taps[i][j] for i, j in pairs]).T
            products |= dict(zip(pairs, product.chunk(len(pairs), -1), strict=True))
    height, width = x.shape[-2:]
    out = x.new_empty(x.shape[0], 2 * height, 2 * width, len(conv.weight))
    for row in (0, 1):  # an odd row takes the sum, and the last tap on the next step
        for column in (0, 1):
            pairs = [(i, j) for i in (0, 1 + row) for j in (0, 1 + column)]
            parts = [
                products[i, j][:, row * (i > 0) :][:, :height, column * (j > 0) :][:, :, :width]
                for i, j in pairs
            ]
            out[:, row::2, column::2] = sum(
                parts[1:], parts[0] if conv.bias is None else parts[0] + conv.bias
            )
    return out.permute(0, 3, 1, 2)


def _taps(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[D,C,3,...]: sum, first and minus the last of the three taps, each [D,C,...]."""
    first, middle, last = weight.unbind(2)
    return first + middle + last, first, -last


def conv_same(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """`conv(x)`, conv 3x3 with padding 1: [B,C,H,W] -> [B,D,H,W].

    On a CPU in float32, without gradient, by Winograd's F(2x2, 3x3) (Lavin & Gray, CVPR 2016),
    which torch has for GPUs alone: 16 products for 2x2 values instead of 36. Its additions are of
    neighbouring values: errors stay those of float32. Half types would lose digits, and their units
    are faster than this.
    """
    recorded = torch.is_grad_enabled() and (x.requires_grad or conv.weight.requires_grad)
    if x.device.type != "cpu" or x.dtype != torch.float32 or recorded:
        return conv(x)
    height, width = x.shape[-2:]
    maps = F.pad(
        x.permute(0, 2, 3, 1), (0, 0, 1, 1 + width % 2, 1, 1 + height % 2)
    )  # even sides, and one more around
    out = x.new_empty(len(x), height + height % 2, width + width % 2, len(conv.weight))
    _filter_(out, maps, _filters(conv.weight))
    out = out[:, :height, :width].permute(0, 3, 1, 2)
    return out if conv.bias is None else out.add_(conv.bias[:, None, None])


def _filter_(out: Tensor, padded: Tensor, filters: Tensor) -> None:
    """Winograd's convolution of [B,H+2,W+2,C] into out [B,H,W,D], by strips whose 16 quarters go through two buffers.

    New memory for each would cost as much as what is saved: the system hands it out page by page.
    """
    height, width = out.shape[1:3]
    rows = 2 * max(1, min(height // 2, TILES // (width // 2)))  # of pixels
    spread, products = (
        out.new_empty(16, rows * width // 4, side) for side in (padded.shape[-1], out.shape[-1])
    )
    for one, target in zip(padded, out, strict=True):
        for y in range(0, height, rows):
            strip = target[y : y + rows]
            if len(strip) < rows:  # the last strip is pulled back: some rows are done twice
                y = height - rows
                strip = target[y:]
            _spread_(spread, one[y : y + rows + 2])
            _collect_(strip, torch.bmm(spread, filters, out=products))


def _filters(weight: Tensor) -> Tensor:
    """Winograd's G w G^T of [D,C,3,3] -> [16,C,D]."""
    g = weight.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    return torch.einsum("ai,bj,dcij->abcd", g, g, weight).flatten(0, 1).contiguous()


def _spread_(out: Tensor, padded: Tensor) -> None:
    """Winograd's B^T d B of all 4x4 tiles, two apart, of [H+2,W+2,C] -> out [16, H/2 * W/2, C]."""
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
    """Winograd's A^T m A: products [16, H/2 * W/2, D] -> out [H,W,D]."""
    tiles = products.view(4, 4, out.shape[0] // 2, out.shape[1] // 2, out.shape[2])
    for row, rows in enumerate((tiles[0] + tiles[1] + tiles[2], tiles[1] - tiles[2] - tiles[3])):
        torch.add(rows[0], rows[1], out=out[row::2, 0::2]).add_(rows[2])
        torch.sub(rows[1], rows[2], out=out[row::2, 1::2]).sub_(rows[3])
