"""How good a model is on a world's evaluation set: tags by three scorers, word maps, captions, and the baselines."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from core.backbones.base import Backbone, resize_maps
from core.errors import TTDError
from core.images import read_image
from core.tagging import is_stopword, minmax, select, split_words

SCORERS = ("pixel", "image", "text")


@dataclass(frozen=True)
class Item:
    """One evaluation caption: K words with `truth` [K] and `stop` [K] (bool); masks [T,H,W] bool of its T true tags."""

    id: str
    image: Tensor  # uint8 [3, H, W]
    text: str
    words: list[str]
    truth: Tensor
    stop: Tensor
    tags: list[str]
    masks: Tensor


def make_item(name: str, image: np.ndarray, text: str, tags: list[str], masks: np.ndarray) -> Item:
    """An `Item` from a picture uint8 RGB [H,W,3], a caption, its true tags and their masks bool [T,H,W]."""
    words = [word.text for word in split_words(text)]
    truth = torch.tensor([word.casefold() in tags for word in words])
    stop = torch.tensor([is_stopword(word) for word in words])
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return Item(name, pixels, text, words, truth, stop, tags, torch.from_numpy(masks))


def load_items(world: Path, limit: int | None = None) -> list[Item]:
    """The evaluation set of a world (world/cc3m_for_evaluation), in the order of its ids. TTDError if there is none."""
    root = world / "cc3m_for_evaluation"
    records = sorted((root / "json_refined").glob("*.json"))[:limit]
    if not records:
        raise TTDError(f"no captions in {root}/json_refined: run tools/make_world.py --out {world} first")
    items = []
    for path in records:
        record = json.loads(path.read_text(encoding="utf-8"))
        files = [root / "mask_using_HQ-SAM" / path.stem / f"{tag}.png" for tag in record["tags"]]
        masks = np.stack([read_image(file)[..., 0] > 127 for file in files])
        items.append(
            make_item(path.stem, read_image(root / f"image/{path.stem}.jpg"), record["text"], record["tags"], masks)
        )
    return items


def with_unseen_pair(world: Path, items: list[Item]) -> list[Item]:
    """Those of `items` whose picture holds a noun-colour pair that training never showed, as world.yaml lists them."""
    path = world / "world.yaml"
    if not path.is_file():
        raise TTDError(f"{path} is missing: the world was not finished; run tools/make_world.py --out {world} again")
    unseen = yaml.safe_load(path.read_text(encoding="utf-8"))["unseen_ids"]
    return [item for item in items if item.id in unseen]


@dataclass(frozen=True)
class Encoded:
    """The items in embedding space, L2-normalised: pixels [B,D,h,w], pooled and captions [B,D], words by name [D]."""

    pixels: Tensor
    pooled: Tensor
    captions: Tensor
    words: dict[str, Tensor]

    def word_maps(self, index: int, words: list[str]) -> Tensor:
        """Cosine maps of some words over picture `index` -> [K,h,w]."""
        return torch.einsum("dhw,kd->khw", self.pixels[index], torch.stack([self.words[w] for w in words]))


@torch.no_grad()
def encode(backbone: Backbone, items: list[Item], size: int | None = None, batch: int = 50) -> Encoded:
    """Encode pictures (all of one size, resized to `size` when given), captions, and every distinct word once."""
    pixels, pooled = [], []
    for start in range(0, len(items), batch):
        images = torch.stack([item.image for item in items[start : start + batch]]).float() / 255
        if size:
            images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
        images = backbone.normalize(images)
        pixels.append(F.normalize(backbone.encode_pixels(images).float(), dim=1))
        pooled.append(F.normalize(backbone.encode_image(images).float(), dim=1))
    names = sorted({w for item in items for w in item.words} | {t for item in items for t in item.tags})
    words = F.normalize(backbone.encode_text(names).float(), dim=1)
    captions = F.normalize(backbone.encode_text([item.text for item in items]).float(), dim=1)
    return Encoded(torch.cat(pixels), torch.cat(pooled), captions, dict(zip(names, words, strict=True)))


def word_scores(encoded: Encoded, index: int, item: Item, scorer: str) -> Tensor:
    """Raw score of each word [K]: against its nearest pixel, the pooled picture, or the whole caption."""
    if scorer == "pixel":
        return encoded.word_maps(index, item.words).flatten(1).amax(1)
    words = torch.stack([encoded.words[w] for w in item.words])
    return words @ (encoded.pooled if scorer == "image" else encoded.captions)[index]


def precision_recall_f1(selected: list[Tensor], truth: list[Tensor]) -> dict[str, float]:
    """Micro over every word of every caption, in percent; both are lists of [K] bool. P is 0 when nothing is kept."""
    kept, true = torch.cat(selected), torch.cat(truth)
    hit = int((kept & true).sum())
    precision, recall = hit / max(1, int(kept.sum())), hit / max(1, int(true.sum()))
    f1 = 2 * precision * recall / max(1e-12, precision + recall)
    return {"P": 100 * precision, "R": 100 * recall, "F1": 100 * f1, "Acc": 100 * float((kept == true).float().mean())}


def evaluate_tags(encoded: Encoded, items: list[Item]) -> dict[str, dict[str, float]]:
    """Rows of P, R, F1, Acc: three scorers x (Otsu, fixed 0.5) x (stop words allowed, rejected), and two baselines."""
    truth, stops = [i.truth for i in items], [i.stop for i in items]
    rows = {}
    for scorer in SCORERS:
        scores = [word_scores(encoded, k, item, scorer) for k, item in enumerate(items)]
        for cut, threshold in (("otsu", None), ("fixed", 0.5)):
            for ending, rejected in (("", [None] * len(items)), (" stopwords", stops)):
                kept = [select(s, r, threshold=threshold)[0] for s, r in zip(scores, rejected, strict=True)]
                rows[f"{scorer} {cut}{ending}"] = precision_recall_f1(kept, truth)
    rows["every content word"] = precision_recall_f1([~s for s in stops], truth)
    rows["every word"] = precision_recall_f1([torch.ones_like(s) for s in stops], truth)
    return rows


def iou(prediction: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of bool [...,H,W] -> [...]; 1 where both are empty."""
    union = (prediction | truth).flatten(-2).sum(-1)
    both = (prediction & truth).flatten(-2).sum(-1)
    return torch.where(union == 0, 1.0, both / union.clamp(min=1))


def _maps_at_size(maps: Tensor, item: Item) -> Tensor:
    return resize_maps(maps[None], tuple(item.masks.shape[-2:]))[0]


def each_word_map(encoded: Encoded, items: list[Item]) -> list[Tensor]:
    """Cosine maps of the true tags of each caption at the masks' size -> one [T,H,W] per item."""
    return [_maps_at_size(encoded.word_maps(k, item.tags), item) for k, item in enumerate(items)]


def _normalised(maps: Tensor) -> Tensor:
    return minmax(maps.flatten(-2)).view_as(maps)


def evaluate_maps(encoded: Encoded, items: list[Item], backbone: Backbone, bg: float = 0.4) -> dict[str, float]:
    """Word-map and Caption IoU in percent: through the soft mask at `bg`, min-max at 0.5, and painting everything."""
    soft, flat, full, caption, whole = [], [], [], [], []
    for k, (item, maps) in enumerate(zip(items, each_word_map(encoded, items), strict=True)):
        soft.append(iou(backbone.soft_mask(maps) > bg, item.masks))
        flat.append(iou(_normalised(maps) > 0.5, item.masks))
        full.append(item.masks.float().mean((-2, -1)))
        truth = item.masks.any(0)
        own = _maps_at_size(torch.einsum("dhw,d->hw", encoded.pixels[k], encoded.captions[k])[None], item)[0]
        caption.append(iou(backbone.soft_mask(own) > bg, truth))
        whole.append(truth.float().mean())
    return {
        f"word-map IoU, soft mask at {bg}": 100 * float(torch.cat(soft).mean()),
        "word-map IoU, min-max at 0.5": 100 * float(torch.cat(flat).mean()),
        "word-map IoU, whole picture": 100 * float(torch.cat(full).mean()),
        f"caption IoU, caption's own map at {bg}": 100 * float(torch.stack(caption).mean()),
        "caption IoU, whole picture": 100 * float(torch.stack(whole).mean()),
    }


def fit_mask_mapping(encoded: Encoded, items: list[Item], bg: float = 0.4) -> dict[str, float]:
    """a, b of `sigmoid(a (S - b))` for the word maps of the true tags, to be fitted on a split that is not reported.

    The slope a is that of a logistic regression of "the pixel shows the tag" on its cosine; then b is set so that
    the cut at `bg` falls on the cosine with the best mean IoU: b = t + log((1 - bg) / bg) / a.
    """
    maps, masks = each_word_map(encoded, items), [item.masks for item in items]
    cosine = torch.cat([m[..., ::3, ::3].flatten() for m in maps])
    shown = torch.cat([m[..., ::3, ::3].flatten() for m in masks])
    slope = _logistic_slope(cosine, shown)
    low, high = (float(q) for q in np.quantile(cosine.numpy(), (0.3, 0.999)))
    cuts = np.linspace(low, high, 60)
    best = max(cuts, key=lambda t: float(torch.cat([iou(m > t, g) for m, g in zip(maps, masks, strict=True)]).mean()))
    return {"mask_scale": round(slope, 3), "mask_bias": round(float(best) + np.log((1 - bg) / bg) / slope, 4)}


def _logistic_slope(x: Tensor, y: Tensor, rounds: int = 30) -> float:
    """Slope of the logistic regression of y [P] bool on x [P], by Newton's method on standardised x."""
    mean, std = x.double().mean(), x.double().std()
    z, target, weight = (x.double() - mean) / std, y.double(), torch.zeros(2, dtype=torch.float64)
    design = torch.stack([z, torch.ones_like(z)], 1)
    for _ in range(rounds):
        p = torch.sigmoid(design @ weight)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + 1e-6 * torch.eye(2, dtype=torch.float64)
        weight = weight + torch.linalg.solve(hessian, design.T @ (target - p))
    return float(weight[0] / std)


def report(rows: dict[str, dict[str, float]], maps: dict[str, float]) -> str:
    """Both results as plain text."""
    lines = [f"{'':24s}{'P':>7s}{'R':>7s}{'F1':>7s}{'Acc':>7s}"]
    lines += [
        f"{name:24s}" + "".join(f"{row[key]:7.1f}" for key in ("P", "R", "F1", "Acc")) for name, row in rows.items()
    ]
    return "\n".join(lines + [f"{name:42s}{value:7.1f}" for name, value in maps.items()])


def evaluate(backbone: Backbone, items: list[Item], say: Callable[[str], None] = lambda line: None) -> dict:
    """Tags and maps of a model on `items`, as `report` prints them."""
    say(f"encoding {len(items)} pictures")
    encoded = encode(backbone, items)
    return {"tags": evaluate_tags(encoded, items), "maps": evaluate_maps(encoded, items, backbone)}
