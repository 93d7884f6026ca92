"""Which words of a caption its image shows, by a rule that knows nothing of the model's cosines.

    calibration = calibrate(backbone, images, captions, stopwords=True)
    calibration.choose(base, texts, stopwords=True).selected             # bool [B, K]

A cosine says little by itself: every model has its own scale, and so has every word ("the" may lie
above "boat" in all images). What counts is how much higher a word scores in its own image than in
other images. `evidence` is that difference, for the nearest pixel and for the whole image, each in
units of its spread over pairs of words and images that do not belong together, and their mean.

The cut follows from a few hundred pairs without labels (all of it ours): Otsu's, of the evidence of
all the words in their own images. How good the selection is can be estimated, too. Words in their
own images are a mixture of shown and not shown, words in other images are mostly not shown, so the
share of mistakes above a cut t is about pi0 * P(evidence > t | other image) / P(evidence > t | own
image), pi0 = the share of a caption's words that are not shown (target-decoy search; Storey, 2002).
It is an upper bound where other images often show the word, too.

A word below its usual score is rejected; in between nothing is known: such words are unsure, and
training leaves their maps as they are. A flat word scores alike in all images. In a model that
knows the captions' words it names nothing, and is rejected. In one that knows few, nouns are flat,
too, and what pushes "the" down takes them along: flat words are unsure there. How many words a
model knows is seen from the share that is selected, where most of it is not mistaken.

A function word is never shown, however it scores ("near" does better where there are two things).
It is treated as a flat word, but earlier, and any model draws it a little below the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..errors import TTDError
from ..tags.selection import otsu_threshold
from ..text.encode import encode_texts
from .config import LEAST_PAIRS
from .embedding import Embedded, TextBatch, embed, gather_texts

IMAGES = 16  # of the sample that go through the model, and are compared with words, at a time
# Of the sample's pixels: parts of unit vectors, which float16 holds to 1 / 4096. In float32, those
# of a TCL, 112 x 112 in an image of 448 pixels, would take 6.6 GB.
STORED = torch.float16
FLAT = 0.5  # spreads: a word whose scores vary by no more says nothing
# Shares of selected words between which such words go from left alone to rejected. Function words
# first: in a model that knows half of its nouns, training can tell them from the other half.
FUNCTION, CONTENT = (0.15, 0.3), (0.3, 0.45)
# How far any model rejects function words, lest they win where it knows nothing else.
LEAST = 0.2


@dataclass(frozen=True)
class Cut:
    """Where the evidence is cut, and what is known of it without labels.

    spread [2]: standard deviation, over words in other images, of the scores (nearest pixel, whole
    image) less the word's mean. threshold: a word with more evidence is selected. mistakes:
    estimated share of the selected words that are not shown, selected: share of the words that are
    selected, both in [0, 1].
    """

    spread: Tensor
    threshold: float
    mistakes: float
    selected: float


@dataclass(frozen=True)
class Choice:
    """The words of B captions: selected as shown, bool [B, K]; unsure, how far, [B, K] in [0, 1].

    All the rest is rejected: not shown, padding. absent bool [B, R]: the words of other captions
    that an image does not show.
    """

    selected: Tensor
    unsure: Tensor
    absent: Tensor


@dataclass(frozen=True)
class Calibration:
    """The sample that words are compared with, M images, and the cut that it gave.

    pixels, parts [m, D, P], and pooled [M, D]: the frozen model's embeddings, of unit length. side:
    of the images in pixels; scores move with it, so a batch is compared as it looks at that size.
    words: of the sample's captions, as often as they stand there; those that may be selected.
    """

    pixels: Sequence[Tensor]
    pooled: Tensor
    cut: Cut
    side: int
    words: Sequence[str]

    def draw(self, rng: np.random.Generator, count: int) -> list[str]:
        """Words of the sample, the frequent ones more often: `count`, less those drawn twice."""
        chosen = rng.choice(len(self.words), min(count, len(self.words)), replace=False)
        return list(dict.fromkeys(self.words[i] for i in chosen.tolist()))

    @torch.no_grad()
    def evidence(self, base: Embedded) -> tuple[Tensor, Tensor]:
        """How much higher each of U words scores in an image than in the sample's: [B, U].

        Also the standard deviation of its scores over the sample, in the same unit [U]. base:
        the frozen model's embeddings of the batch at `side`, with pooled ones.
        """
        elsewhere = scores(base.words, self.pixels, self.pooled)  # [U, M, 2]
        usual = elsewhere.mean(1)
        varies = ((elsewhere - usual[:, None]) / self.cut.spread).mean(-1).std(1)  # [U]
        parts = torch.split(base.pixels.flatten(2), IMAGES)
        here = scores(base.words, parts, pooled_of(base))
        above = here - usual[:, None]  # [U, B, 2]
        return (above / self.cut.spread).mean(-1).T, varies

    def choose(self, base: Embedded, texts: TextBatch, stopwords: bool) -> Choice:
        """What the frozen model can tell of each word."""
        every, varied = self.evidence(base)
        index, others = (places.to(every.device) for places in (texts.index, texts.others))
        evidence, varies = every.gather(1, index), varied[index]
        valid, stop = (flags.to(evidence.device) for flags in (texts.valid, texts.stop))
        selected = valid & (evidence > self.cut.threshold)
        if stopwords:
            selected = selected & ~stop
        flat = varies <= FLAT
        rejected = torch.where(flat, self._rejected(CONTENT), (evidence < 0).float())
        if stopwords:
            rejected = torch.where(stop, max(LEAST, self._rejected(FUNCTION)), rejected)
        unsure = (1 - rejected) * (valid & ~selected)
        below = (every[:, others] < 0) & (varied[others] > FLAT)
        return Choice(selected, unsure, below & texts.foreign.to(below.device))

    def _rejected(self, between: tuple[float, float]) -> float:
        """How far flat words of a kind are rejected, in [0, 1]."""
        low, high = between
        # Of a model that knows nothing half of the words are above the cut, by chance.
        known = self.cut.selected * min(1.0, 2 * (1 - self.cut.mistakes))
        return min(1.0, max(0.0, (known - low) / (high - low)))

    def describe(self) -> str:
        """One line of what was found."""
        return (
            f"calibration: {len(self.pooled)} pairs without labels; a word is selected "
            f"{self.cut.threshold:.2f} spreads above its mean in other images: "
            f"{100 * self.cut.selected:.0f} % of the words, an estimated "
            f"{100 * self.cut.mistakes:.0f} % of them wrongly"
        )


@torch.no_grad()
def calibrate(
    backbone: Backbone, images: Sequence[Tensor], captions: Sequence[str], *, stopwords: bool
) -> Calibration:
    """Look at M images float32 [3, S, S] in [0, 1] and their captions with a model as it is.

    stopwords: function words are left out. TTDError: fewer than `LEAST_PAIRS` pairs, no words.
    """
    if len(images) < LEAST_PAIRS:
        raise TTDError(
            f"selection 'calibrated' needs {LEAST_PAIRS} pairs with readable images, there are "
            f"{len(images)}: use more pairs, or "
            "--set distill.selection=caption distill.rank_weight=0"
        )
    texts = gather_texts(captions)
    pixels, wholes = [], []
    for start in range(0, len(images), IMAGES):
        batch = torch.stack(list(images[start : start + IMAGES])).to(backbone.device)
        part = embed(backbone, backbone.normalize(batch), gather_texts([]), True)
        pixels.append(part.pixels.flatten(2).to(STORED))
        wholes.append(pooled_of(part))
    pooled = torch.cat(wholes)
    words = encode_texts(backbone, texts.words)
    # On the CPU: Apple's GPU has no float64.
    cut = fit(scores(words, pixels, pooled).cpu(), belongs(texts, stopwords))
    cut = replace(cut, spread=cut.spread.to(pooled.device))
    content = texts.index[allowed_words(texts, stopwords)].tolist()
    named = [texts.words[i] for i in content]
    return Calibration(pixels, pooled, cut, images[0].shape[-1], named)


def pooled_of(embedded: Embedded) -> Tensor:
    """The whole images [B, D]. TTDError where they were not embedded."""
    if embedded.pooled is None:
        raise TTDError("selection 'calibrated' needs pooled image embeddings: pooled=True")
    return embedded.pooled


def scores(words: Tensor, pixels: Sequence[Tensor], pooled: Tensor) -> Tensor:
    """Cosines of U words [U, D] with M images' nearest pixels and with the wholes: [U, M, 2].

    pixels, parts [m, D, P] of a few images each, pooled [M, D]: all of unit length.
    """
    nearest = [(words @ part.to(words)).amax(2).T for part in pixels]  # [U, m]; copies no pixels
    return torch.stack([torch.cat(nearest, 1), words @ pooled.T], -1)


def belongs(texts: TextBatch, stopwords: bool) -> Tensor:
    """Whether word u is in caption m, bool [U, M]; nowhere for stop words, where they are out."""
    rows, columns = allowed_words(texts, stopwords).nonzero(as_tuple=True)
    own = torch.zeros(len(texts.words), len(texts.captions), dtype=torch.bool)
    own[texts.index[rows, columns], rows] = True
    return own


def allowed_words(texts: TextBatch, stopwords: bool) -> Tensor:
    """The words [B, K] that can be selected: not padding; stopwords: nor a function word."""
    return texts.valid & ~texts.stop if stopwords else texts.valid


def fit(cosines: Tensor, own: Tensor) -> Cut:
    """Otsu's cut for cosines [U, M, 2] of words with images; own [U, M]: in the image's caption.

    A word counts with the number of captions that hold it, among the matched and the others alike.
    TTDError: no word is in a caption, or no word is absent from one; the words score alike.
    """
    count = own.sum(1, keepdim=True)  # [U, 1]
    others = own.shape[1] - 1
    weight = torch.where(own, 0, count / (own.shape[1] - count).clamp(min=1)).double()
    if not own.any() or not weight.any():
        raise TTDError("calibration: the captions of the sample are all alike, or have no words")
    # Less the mean over the other images: its own does not take part.
    total = cosines.sum(1, keepdim=True)
    above = (cosines - (total - cosines) / others).double()  # [U, M, 2]
    weight = weight / weight.sum()
    mean = (weight[..., None] * above).sum((0, 1))
    spread = (weight[..., None] * (above - mean).square()).sum((0, 1)).sqrt().clamp(min=1e-9)
    evidence = (above / spread).mean(-1)
    matched, other = evidence[own], weight > 0
    threshold = otsu_threshold(matched)
    if not math.isfinite(threshold):
        raise TTDError(
            f"calibration: {len(matched)} words of the sample score alike in all its images, or "
            "their scores are not finite, so none can be selected: use more pairs, or another model"
        )
    return Cut(
        spread.to(cosines.dtype),
        threshold,
        _mistakes(matched, threshold, evidence[other], weight[other]),
        float((matched > threshold).double().mean()),
    )


def _mistakes(matched: Tensor, threshold: float, other: Tensor, weight: Tensor) -> float:
    """Estimated share of the matched [N] above the threshold that are not shown.

    other [O], weight [O] (sum 1): evidence of words in other images.
    """
    order = other.argsort()
    middle = other[order][(weight[order].cumsum(0) < 0.5).sum().clamp(max=len(other) - 1)]
    absent = min(1.0, 2 * float((matched < middle).double().mean()))  # pi0
    share = float((matched > threshold).double().mean())
    return min(1.0, absent * float(weight[other > threshold].sum()) / max(share, 1e-9))
