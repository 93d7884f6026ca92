"""TCL as a training task: a masker on a frozen CLIP, from image-caption pairs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..backbones.tcl.model import TCLBackbone
from ..data.inputs.sources import pair_sources, truth_sources
from ..data.inputs.table import Inputs
from ..data.pairs import Pairs
from ..errors import TTDError
from ..training.config import identity
from ..training.distributed import Ranks
from ..training.sources import PairSource
from ..training.task import NOISE, Group, Step, Task
from ..utils.config import plain
from .augment import shared_augmenter
from .captions import CaptionCache
from .checkpoint import save_tcl
from .collapse import WINDOW, MaskMonitor
from .config import TCLConfig, tcl_rate
from .evaluation import Segmentation
from .model import in_copied_block, is_decayed, trained_parameters, unused_parameters
from .objective import tcl_loss

BETAS, EPS = (0.9, 0.999), 1e-6  # of AdamW


@dataclass(frozen=True)
class NumberedPair:
    """A pair as it is read: its number, image uint8 [H, W, 3], caption."""

    number: int
    image: npt.NDArray[np.uint8]
    text: str


class NumberedPairs(PairSource):
    """Pairs that know their numbers, by which caption embeddings are kept."""

    def read(self, number: int) -> NumberedPair:  # type: ignore[override]
        """Pair `number` in [0, len). TTDError or OSError for an image that cannot be read."""
        pair = super().read(number)
        return NumberedPair(number, pair.image, pair.text)


@dataclass(frozen=True)
class Seen:
    """A pair as it is seen: image float32 [3, S, S], normalized; its number and caption."""

    image: Tensor
    number: int
    text: str


@dataclass(frozen=True)
class Batch:
    """B pairs: images float32 [B, 3, S, S], normalized; their numbers and captions."""

    images: Tensor
    numbers: list[int]
    captions: list[str]


class TCLTask(Task[NumberedPair, Seen, Batch]):
    """Trains a fresh masker, or that of a checkpoint."""

    config: TCLConfig
    unit = "pairs"
    product = "TCL"
    suffix = ".pth"
    advice = "a lower --lr, a longer --warmup, or another --arch"
    memory_advice = "more processes, a smaller --batch, or --set loss.chunk=16"
    exact_micro_batches = False
    why_inexact = "TCL's loss compares all pairs of a batch"
    window = WINDOW

    def __init__(
        self, config: TCLConfig, backbone: TCLBackbone, pairs: Pairs, *, towers: bool = True
    ):
        """backbone: of `tcl_from_clip` or a checkpoint; its masker is trained in place.

        towers: whether exports hold the frozen CLIP. TTDError: settings that do not fit the model.
        """
        super().__init__(config, backbone.device)
        config = self.config
        self.backbone, self.towers_in_file = backbone, towers
        self._source = NumberedPairs(pairs)
        self.side = config.image or backbone.image_size
        if self.side % backbone.patch:
            raise TTDError(
                f"--image {self.side}: choose a multiple of the patch, {backbone.patch} pixels"
            )
        # Before the learned numbers are parameters: the base is known by its checksum.
        self._identity = {**identity(config), "pairs": pairs.digest, "base": backbone.checksum}
        self._parameters = trained_parameters(backbone)
        self._captions = self._cache(pairs)
        self._augmenter = shared_augmenter(config.workers)
        self._segmentation = Segmentation(config.evaluation)
        self.evaluates = bool(config.evaluation.sets)
        self.monitor = MaskMonitor()

    def _cache(self, pairs: Pairs) -> CaptionCache | None:
        """Where every caption is needed, and all fit into memory."""
        drawn = self.config.steps * self.config.batch
        fits = len(pairs) <= min(self.config.cached_captions, drawn)
        return CaptionCache(self.backbone, pairs) if fits else None

    @property
    def source(self) -> NumberedPairs:
        """The training pairs."""
        return self._source

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The masker and the learned numbers, by the names of a checkpoint."""
        return self._parameters

    def groups(self, step: int) -> list[Group]:
        """Decoder and copied block, with and without weight decay; the block is thawed late."""
        found = []
        for copied in (False, True):
            for decayed in (True, False):
                names = tuple(self._members(copied, decayed))
                decay = self.config.weight_decay if decayed else 0.0
                name = ("block" if copied else "decoder") + ("" if decayed else "_no_decay")
                frozen = copied and step < self.config.thaw_at
                rate = tcl_rate(step, self.config)
                found.append(Group(name, names, rate, decay, frozen))
        return [group for group in found if group.parameters]

    def _members(self, copied: bool, decayed: bool) -> list[str]:
        scalars = self.config.decay_scalars
        return [
            name
            for name, parameter in self._parameters.items()
            if in_copied_block(name) == copied and is_decayed(name, parameter, scalars) == decayed
        ]

    def optimizers(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        """AdamW with TCL's epsilon."""
        return [torch.optim.AdamW(groups, betas=BETAS, eps=EPS)]

    def transform(self, raw: NumberedPair, step: int, rng: np.random.Generator) -> Seen:
        """The image through timm's training transform; the caption as it is."""
        seed = int(rng.integers(2**62))
        image = self._augmenter(raw.image, seed, self.side, self.config.augment)
        return Seen(torch.from_numpy(image), raw.number, raw.text)

    def collate(self, samples: Sequence[Seen], step: int) -> Batch:
        """Stack the images."""
        images = torch.stack([sample.image for sample in samples])
        return Batch(images, [s.number for s in samples], [s.text for s in samples])

    def loss(self, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of TCL's terms over images [B, 3, S, S]; the log has each as it is weighted.

        mask_area: mean of the positive masks; mask_std: their standard deviation over the cells of
        a mask, on average.
        """
        texts: Tensor | list[str] = batch.captions
        if self._captions is not None:
            texts = self._captions[batch.numbers]
        with step.autocast():
            terms, masks = tcl_loss(
                self.backbone,
                batch.images,
                texts,
                self.config.loss,
                ranks=step.ranks,
                generator=self._noise(step.number),
            )
        total = torch.stack(list(terms.values())).sum() + self._nothing()
        spread = masks.flatten(1).std(1).mean()
        return total, {**terms, "mask_area": masks.mean(), "mask_std": spread}

    def _noise(self, step: int) -> torch.Generator:
        """The generator of a step's Gumbel noise, the same in every process."""
        key = np.random.SeedSequence((self.config.seed, NOISE, step))
        seed = int(key.generate_state(1, np.uint64)[0]) >> 1
        return torch.Generator().manual_seed(seed)

    def _nothing(self) -> Tensor:
        """0, with a gradient of 0 for what the value path passes by: weight decay acts on it."""
        unused = [p for p in unused_parameters(self.backbone) if p.requires_grad]
        zero = torch.zeros((), device=self.device)
        return sum((0 * parameter.sum() for parameter in unused), zero)

    def towers(self) -> Sequence[nn.Module]:
        """The blocks of the frozen image tower, and the masker."""
        return (*self.backbone.visual.blocks, self.backbone.masker)

    def health(self, step: int, values: Mapping[str, float]) -> str | None:
        """Whether the masks have collapsed."""
        return self.monitor.update(values)

    def state(self) -> dict[str, Any]:
        """The parameters, and what the monitor has seen."""
        return {**super().state(), "monitor": self.monitor.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to `state()`."""
        super().load(state)
        self.monitor.load(state["monitor"])

    def evaluate(self, ranks: Ranks) -> Mapping[str, float]:
        """mIoU on the sets of the settings; every process scores its share of the images."""
        return self._segmentation.scores(self.backbone, ranks) if self.evaluates else {}

    def export(self, path: Path, step: int) -> None:
        """A checkpoint in the released layout."""
        save_tcl(self.backbone, path, towers=self.towers_in_file)

    def identity(self) -> dict[str, Any]:
        """Settings, pairs and base weights."""
        return self._identity

    def settings(self) -> dict[str, Any]:
        """Every setting."""
        return plain(self.config)

    def inputs(self) -> Inputs:
        """Pairs and the sets of the evaluation."""
        sources = [pair_sources(self._source.pairs), *map(truth_sources, self._segmentation.sets)]
        return Inputs(chain.from_iterable(sources), trust=self.config.trust_inputs)

    def agreement(self) -> Any:
        """Pairs and base weights."""
        return self._identity["pairs"], self._identity["base"]

    def describe(self) -> list[str]:
        """The model, and where caption embeddings come from."""
        kept = "encoded once, before the first step" if self._captions else "encoded in every step"
        count = sum(parameter.numel() for parameter in self._parameters.values())
        return [
            f"{self.backbone.arch} on a CLIP of {len(self.backbone.visual.blocks)} blocks, "
            f"{count:,} parameters trained, images of {self.side} pixels; captions are {kept}"
        ]
