"""Small shards, a worker whose model is loaded once, and what it wrote."""

import json

import pytest
from small_pairs import write_shards

from core.labelling import shard as shards
from core.labelling.labeller import Labeller
from core.labelling.manifest import shards_of, write_manifest
from core.labelling.settings import Settings
from core.masks.protocol import MaskProtocol

pytest.importorskip("pyarrow", reason="pyarrow: pip install -r requirements-labels.txt")

ALL = ("tags", "masks", "boxes")


def settings_for(folder, **more):
    """Everything, with the small CLIP in `folder`."""
    masks = MaskProtocol(image=40, background_threshold=0.002)
    return Settings(**{"want": ALL, "arch": f"local-dir:{folder}", "masks": masks, **more})


def small_set(folder, counts=(3, 3, 2)):
    """The pattern of shards with so many pairs each."""
    write_shards(folder, counts)
    return str(folder / f"{{00000..{len(counts) - 1:05d}}}.tar")


def one_model(monkeypatch, settings):
    """All workers of these settings in this process share one loaded model."""
    model = Labeller(settings)
    monkeypatch.setattr(shards, "Labeller", lambda asked: model if asked == settings else 1 / 0)
    return model


def label_all(pattern, settings, out, **more):
    """Label everything in this process, and write the manifest: the reports."""
    worker = shards.Worker(settings, str(out), **more)
    reports = [worker(one) for one in shards_of([pattern])]
    write_manifest(worker.out)
    return reports


def rows_of(path):
    """The rows of a Parquet file."""
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def about(path):
    """What the NAME.json of a shard says."""
    return json.loads(path.read_text())
