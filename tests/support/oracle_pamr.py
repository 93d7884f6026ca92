"""PAMR (Araslanov & Roth, CVPR 2020) as TCL applies it, pixel by pixel, in any float type."""

import itertools

import torch

DILATIONS = (1, 2, 4, 8, 12, 24)


def neighbour_indices(h: int, w: int, dilations=DILATIONS) -> torch.Tensor:
    """[hw, 8 · dilations]: flat indices of each pixel's neighbours, edge pixels repeated."""
    steps = [(dy, dx) for dy, dx in itertools.product((-1, 0, 1), repeat=2) if (dy, dx) != (0, 0)]
    rows = []
    for y, x in itertools.product(range(h), range(w)):
        row = []
        for d, (dy, dx) in itertools.product(dilations, steps):
            below, beside = min(max(y + d * dy, 0), h - 1), min(max(x + d * dx, 0), w - 1)
            row.append(below * w + beside)
        rows.append(row)
    return torch.tensor(rows)


def pamr(image: torch.Tensor, maps: torch.Tensor, iterations: int = 10) -> torch.Tensor:
    """One image [C, h, w] and maps [N, h, w] of its size -> refined maps [N, h, w]."""
    c, h, w = image.shape
    colours, m = image.reshape(c, -1), maps.reshape(len(maps), -1)
    near = neighbour_indices(h, w)
    taps = colours[:, near]  # [C, hw, 48]
    centre = colours[:, :, None]
    # Unbiased deviation over 9 taps of all dilations: the centre is there once per dilation.
    sigma = torch.cat([taps, centre.expand(-1, -1, len(DILATIONS))], 2).std(2, unbiased=True)
    distance = (taps - centre).abs() / (1e-8 + 0.1 * sigma[:, :, None])
    alpha = (-distance).mean(0).softmax(1)  # [hw, 48]
    for _ in range(iterations):
        m = (m[:, near] * alpha).sum(2)
    return m.reshape(maps.shape)
