"""TCL's loss as loops over images, texts and processes, on a plain state dict in float64.

Nothing of the library under test is used; the network is tests/support/oracle_tcl.py.
"""

import math

import oracle_tcl as oracle
import torch

WEIGHTS = {
    "area_loss": 0.4,
    "neg_area_loss": 0.4,
    "tclf_loss": 0.1,
    "tcli_loss": 0.1,
    "tv_img_loss": 1.0,
    "tv_mask_loss": 1.0,
}


def unit(x: torch.Tensor) -> torch.Tensor:
    """A vector over its length, which is at least 1e-6."""
    return x / max(float(x.detach().norm()), 1e-6) if x.norm() < 1e-6 else x / x.norm()


def variation(x: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbours, across plus down; the last two axes are a map."""
    across = (x[..., :, 1:] - x[..., :, :-1]).abs().mean()
    return across + (x[..., 1:, :] - x[..., :-1, :]).abs().mean()


def cross_entropy(logits: list[torch.Tensor], label: int) -> torch.Tensor:
    """-log softmax(logits)[label]."""
    row = torch.stack(logits)
    return torch.logsumexp(row, 0) - row[label]


def per_rank(p, images, texts, noise, world: int, parity: bool) -> list[dict[str, torch.Tensor]]:
    """The weighted terms of every process.

    p: the state dict; images [N, 3, H, W]; texts [N, D], raw; noise [N, h, w] in [0, 1). Without
    `parity` all processes have the terms whose mean is the loss of the whole batch.
    """
    count, size = len(images), len(images) // world
    t = [unit(text) for text in texts]
    e = oracle.encode_pixels(p, images)  # [N, D, h, w]
    w, b = p["masker.sim2mask.w"], p["masker.sim2mask.b"]
    height, width = e.shape[-2:]
    direction = e / e.norm(dim=1, keepdim=True).clamp_min(1e-6)
    logits: list[list[torch.Tensor]] = []
    soft: list[list[torch.Tensor]] = []
    pooled: list[list[torch.Tensor]] = []
    for i in range(count):
        logits.append([w * against(direction[i], t[j]) + b for j in range(count)])
        soft.append([torch.sigmoid(one) for one in logits[i]])
        pooled.append([pool(e[i], mask) for mask in soft[i]])
    seen = [
        unit(masked_embedding(p, images[i], logits[i][i], noise[i], (height, width)))
        for i in range(count)
    ]
    shown = torch.clamp(p["tcli_loss.logit_scale"].exp(), max=100)
    felt = torch.clamp(p["tclf_loss.logit_scale"].exp(), max=100)
    areas = [soft[i][i].mean() for i in range(count)]
    results = []
    for rank in range(world):
        mine = range(rank * size, (rank + 1) * size)
        measured = mine if parity else range(count)  # the areas' means are of the whole batch
        area = sum(areas[i] for i in measured) / len(measured)
        negative = [soft[i][j].mean() for i in measured for j in range(count) if j != i]
        image_level = feature_level = 0.0
        for i in mine:
            there = cross_entropy([shown * seen[i] @ t[j] for j in range(count)], i)
            back = cross_entropy([shown * t[i] @ seen[j] for j in range(count)], i)
            image_level += (there + back) / 2 / size
            there = cross_entropy([felt * pooled[i][j] @ t[j] for j in range(count)], i)
            # Image j pooled by the mask of text i; as released, of the text with i's place in the
            # batch of image j's own process.
            used = [j // size * size + i % size if parity else i for j in range(count)]
            back = cross_entropy([felt * pooled[j][used[j]] @ t[i] for j in range(count)], i)
            feature_level += (there + back) / 2 / size
        values = {
            "area_loss": (area - 0.4).abs(),
            "neg_area_loss": (sum(negative) / len(negative)).abs(),
            "tclf_loss": feature_level,
            "tcli_loss": image_level,
            "tv_img_loss": variation(e[list(mine)]),
            "tv_mask_loss": sum(variation(soft[i][j]) for i in mine for j in range(count))
            / (size * count),
        }
        results.append({name: WEIGHTS[name] * value for name, value in values.items()})
    return results


def against(direction: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Product of every cell of [D, h, w] with a text [D], channel by channel: [h, w]."""
    return sum(direction[d] * text[d] for d in range(len(text)))


def pool(e: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """e [D, h, w] weighted by a mask [h, w], cell by cell, to unit length."""
    total, weight = 0.0, 0.0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            total = total + mask[y, x] * e[:, y, x]
            weight = weight + mask[y, x]
    return unit(total / (weight + 1e-6))


def masked_embedding(p, image, logits, noise, grid) -> torch.Tensor:
    """The image under its Gumbel mask through the class-token path, [D]."""
    y = torch.sigmoid(logits + torch.log(noise / (1 - noise)))
    hard = (y > 0.5).double() - y.detach() + y
    rows = torch.tensor([r * grid[0] // image.shape[1] for r in range(image.shape[1])])
    columns = torch.tensor([c * grid[1] // image.shape[2] for c in range(image.shape[2])])
    return oracle.encode_image(p, (image * hard[rows][:, columns])[None])[0]


def start_temperature() -> float:
    """ln(1 / 0.07)."""
    return math.log(1 / 0.07)
