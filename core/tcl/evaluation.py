"""Segmentation scores of a TCL in training, on sets that choose the best step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from statistics import mean

import numpy as np
import numpy.typing as npt
import torch

from ..backbones.base import Backbone
from ..data.labels.dataset_checks import read_truth
from ..data.labels.datasets import Dataset, Item, open_dataset
from ..errors import TTDError
from ..masks.pipeline import MasksFromTags, jobs_of_dataset, read_ahead
from ..masks.protocol import protocol
from ..metrics.segmentation import confusion_matrix, joint_histogram, scores_of
from ..training.distributed import Ranks
from .config import EvalConfig


class Segmentation:
    """Opens the sets once; `scores` measures a model on them with TCL's own protocol."""

    def __init__(self, config: EvalConfig):
        """TTDError: a set that is not there, or has no masks."""
        self.config = config
        self.sets = [open_dataset(name, config.root) for name in config.sets]
        for data in self.sets:
            if data.masks is None:
                raise TTDError(f"{data.describe()}: without masks nothing can be scored")

    def scores(self, backbone: Backbone, ranks: Ranks) -> Mapping[str, float]:
        """`miou`, the mean over the sets, and `miou_SET`, in [0, 1]; the same in all processes.

        Each process looks at its share of the images.
        """
        found = {f"miou_{data.name}": self._miou(backbone, data, ranks) for data in self.sets}
        return {"miou": mean(found.values()), **found}

    def _miou(self, backbone: Backbone, data: Dataset, ranks: Ranks) -> float:
        items = [item for item in data.items() if item.mask is not None][: self.config.limit]
        mine = items[ranks.rank :: ranks.world]
        joint = sum(ranks.gather_objects(self._joint(backbone, data, mine)))
        return float(scores_of(confusion_matrix(np.asarray(joint), data.label_values)).means[0])

    @torch.no_grad()
    def _joint(
        self, backbone: Backbone, data: Dataset, items: Sequence[Item]
    ) -> npt.NDArray[np.int64]:
        """How often true and predicted labels meet, int64 [256, 256]."""
        image = self.config.image or 2 * backbone.image_size
        chosen = protocol("tcl", image=image, pamr=self.config.pamr)
        used = chosen.resolve(
            backbone.arch, backbone.image_size, data.rule, data.background_threshold
        )
        maker = MasksFromTags(backbone, data, used)
        wanted = {item.id: item for item in items}
        jobs = [job for job in jobs_of_dataset(data) if job.id in wanted]
        joint = np.zeros((256, 256), np.int64)
        with closing(read_ahead(jobs, used.views)) as images:
            for job, loaded in images:
                if isinstance(loaded, TTDError):
                    raise loaded
                labels, _ = maker.make(job, loaded)
                joint += joint_histogram(read_truth(data, wanted[job.id]), labels)
        return joint
