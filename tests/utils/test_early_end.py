"""Whoever stops in the middle of a stream closes it: an interrupt meanwhile is not swallowed.

A stream that nobody closes ends by its destructor, in which Python drops whatever is raised.
"""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

import core.evaluation.predictions as predictions_module
import core.grounding.curriculum.reliability as reliability_module
import core.grounding.locate as locate_module
import core.grounding.produce as produce_module
import core.labelling.manifest as manifest_module
import core.masks.pipeline as masks_module
import core.tags.class_scores as class_scores_module
from core.errors import TTDError
from core.evaluation.multilabel import scoring
from core.tags.piaa import fitted


class Interrupt(BaseException):
    """As KeyboardInterrupt, which would end the tests where it is not expected."""


def interrupted(work, items, ahead, workers):
    """`prefetch`, which is interrupted while it waits at an early end."""
    try:
        for item in items:
            yield work(item)
    except GeneratorExit:
        raise Interrupt from None


def refuse(*_, **__):
    raise TTDError("cannot go on")


class Sized(SimpleNamespace):
    """A list of three things."""

    def __len__(self):
        return 3


def grounder():
    return SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(image_size=8)))


PHRASES = [SimpleNamespace(image=f"{i}.jpg", text="a dog", name=f"{i}") for i in range(3)]


def stop_boxes(monkeypatch, tmp_path):
    """What could not be read is read again; the disk is full."""
    monkeypatch.setattr(produce_module, "prefetch", interrupted)
    monkeypatch.setattr(produce_module, "load", lambda batch, size: SimpleNamespace(skipped=[]))
    items = [SimpleNamespace(index=i) for i in range(4)]

    def full(batches):
        next(iter(batches))
        raise TTDError("cannot go on")

    writer = SimpleNamespace(to_mend=[0, 1], batch=2, done=4, mend=full)
    produce_module.produce(grounder(), lambda: items, writer)


def stop_locating(monkeypatch, tmp_path):
    """The boxes of the first images cannot be found."""
    monkeypatch.setattr(locate_module, "prefetch", interrupted)
    monkeypatch.setattr(locate_module, "read_image", lambda path: None)
    monkeypatch.setattr(locate_module, "view", lambda image, size: None)
    monkeypatch.setattr(locate_module, "_locate", refuse)
    list(locate_module.locate_phrases(grounder(), PHRASES, batch=1))


def stop_reliability(monkeypatch, tmp_path):
    """A box cannot be written down."""
    monkeypatch.setattr(locate_module, "prefetch", interrupted)
    monkeypatch.setattr(locate_module, "read_image", lambda path: None)
    monkeypatch.setattr(locate_module, "view", lambda image, size: None)
    found = SimpleNamespace(number=0, iou=0.5, box=(0, 0, 1, 1))
    monkeypatch.setattr(locate_module, "_locate", lambda *_: iter([found]))
    monkeypatch.setattr(reliability_module, "_line", refuse)
    source = Sized(phrases=PHRASES)
    ranks = SimpleNamespace(rank=0, world=1)
    reliability_module._measure_parts(grounder, source, tmp_path, ranks, 1, lambda done: None)


def look_at_images(monkeypatch):
    monkeypatch.setattr(class_scores_module, "prefetch", interrupted)
    monkeypatch.setattr(class_scores_module, "_read", lambda path, views, crop: path)
    seen = class_scores_module.Seen(torch.ones(1, 2), torch.ones(2))
    monkeypatch.setattr(class_scores_module, "_encode", lambda _, found: [seen] * len(found))
    return SimpleNamespace(patch=16, logit_scale=100.0), [Path(f"{i}.jpg") for i in range(3)]


def stop_looking(monkeypatch, tmp_path):
    """The first images cannot be encoded."""
    backbone, paths = look_at_images(monkeypatch)
    monkeypatch.setattr(class_scores_module, "_encode", refuse)
    list(class_scores_module.look_at(backbone, paths, class_scores_module.Look(32), 1))


def stop_scoring(monkeypatch, tmp_path):
    """The first image's scores are not finite."""
    backbone, paths = look_at_images(monkeypatch)
    monkeypatch.setattr(scoring, "score_of", lambda *_: np.array([np.nan]))
    labels = Sized(ids=["a", "b", "c"], images=paths)
    look = class_scores_module.Look(32)
    scoring.score_images(backbone, labels, None, ["pixel"], look, batch=1)


def stop_fitting(monkeypatch, tmp_path):
    """The first training image has NaN in it."""
    backbone, paths = look_at_images(monkeypatch)
    monkeypatch.setattr(fitted, "check_finite", refuse)
    monkeypatch.setattr(fitted, "LowEntropy", lambda *_: None)
    look = class_scores_module.Look(32)
    question = SimpleNamespace(text=torch.ones(1, 2), settings=None, images=paths, look=look)
    fitted._fit(backbone, question, 1, 1, lambda done: None)


def stop_manifest(monkeypatch, tmp_path):
    """A row cannot be written."""
    monkeypatch.setattr(manifest_module, "prefetch", interrupted)
    monkeypatch.setattr(manifest_module, "json_files", lambda out: ["a.json", "b.json"])
    monkeypatch.setattr(manifest_module, "read_about", lambda out, file: {})
    monkeypatch.setattr(manifest_module, "_row", lambda content: {"protocol": None})
    monkeypatch.setattr(manifest_module, "parquet", lambda: (MagicMock(), None))
    table = nullcontext(SimpleNamespace(add=refuse))
    monkeypatch.setattr(manifest_module, "table_writer", lambda part, schema: table)
    manifest_module.write_manifest(manifest_module.Output(str(tmp_path)))


def stop_evaluation(monkeypatch, tmp_path):
    """What is shown of the progress fails."""
    monkeypatch.setattr(predictions_module, "prefetch", interrupted)
    problems = predictions_module.Problems()
    names = [f"{i}" for i in range(3 * predictions_module.CHUNK)]
    work = lambda chunk: (len(chunk), predictions_module.Problems())  # noqa: E731
    list(predictions_module.score_chunks(work, names, problems, 1, refuse))


def stop_masks(monkeypatch, tmp_path):
    """The masks of the first image cannot be made."""
    monkeypatch.setattr(masks_module, "prefetch", interrupted)
    monkeypatch.setattr(masks_module, "_read", lambda job, views: job)
    stream = masks_module.read_ahead(PHRASES, None)
    next(stream)
    stream.close()


STOPS = [
    stop_boxes,
    stop_locating,
    stop_reliability,
    stop_looking,
    stop_scoring,
    stop_fitting,
    stop_manifest,
    stop_evaluation,
    stop_masks,
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.__name__)
def test_an_interrupt_at_an_early_end_is_raised(monkeypatch, tmp_path, stop):
    with pytest.raises(Interrupt):
        stop(monkeypatch, tmp_path)
