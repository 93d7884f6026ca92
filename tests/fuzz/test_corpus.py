"""The hostile corpus through readers: the good records beside the bad ones, nothing executed."""

import json
import subprocess
import sys

import open_clip  # noqa: F401  # here: its import takes longer than a reader may
import pytest
import torch
from hostile_files import corpus, executed
from mutations import outcome
from paths import ROOT

from core.data.image_lists import list_images
from core.data.images import read_image
from core.data.labels.datasets import open_dataset
from core.data.records import Record, Skipped, open_records
from core.data.records.record import read_record
from core.errors import TTDError
from core.utils.config import read_recipe, read_yaml

# Archives and lists without anything good in them.
NOTHING_GOOD = {
    *("tar_empty", "tar_zeros", "tar_gzipped"),
    *("list_utf16", "list_empty", "list_blank", "list_binary"),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(autouse=True)
def nothing_runs(hostile):
    yield
    assert not executed(next(iter(hostile.values())).parents[1])


def of_kind(hostile, *starts):
    return {name: path for name, path in hostile.items() if name.startswith(starts)}


def walk(path):
    """(records whose image is read, what is skipped) of an input."""
    good, bad = [], []
    for item in open_records(path).iterate():
        assert item.id == item.id.strip("\n") and item.id.encode()
        if isinstance(item, Skipped):
            assert item.reason and item.reason.isprintable(), item
            bad.append(item)
            continue
        try:
            read_record(item)
            good.append(item)
        except TTDError as error:
            bad.append(error)
    return good, bad


def test_one_bad_record_does_not_cost_the_good_ones(hostile):
    inputs = of_kind(hostile, "tar_", "list_")
    assert len(inputs) > 40 and set(inputs) > NOTHING_GOOD
    for name, path in inputs.items():
        found = outcome(walk, path)
        if name in NOTHING_GOOD:
            assert isinstance(found, TTDError) or not found[0], name
            continue
        assert not isinstance(found, TTDError), f"{name}: {found}"
        ids = [record.id for record in found[0]]
        assert any(key.startswith("good") for key in ids), f"{name}: {ids}"
        assert all(key[0] != "/" and ".." not in key.split("/") for key in ids), name


def test_separators_in_names_do_not_cut_lists(hostile):
    records, _ = walk(hostile["folder_captions"])
    assert [record.id for record in records] == ["a", "sep_"] or "sep\u2028" not in str(records)
    reasons = {item.id: item.reason for item in walk(hostile["folder_captions"])[1]}
    assert {"deep", "nan", "latin", "empty", "huge"} <= set(reasons)


def test_images_that_are_none(hostile):
    for name, path in of_kind(hostile, "image_", "special_", "yaml_", "weights_").items():
        found = outcome(read_image, path)
        good = isinstance(found, TTDError) or found.shape[2] == 3
        assert good, name
        if isinstance(found, TTDError):
            assert "\n" not in str(found).replace("a\nb.png", ""), name
    for name in ("empty.png", "bomb.png", "text.png", "page.jpg", "eps.jpg", "cut.png"):
        assert isinstance(outcome(read_image, hostile[f"image_{name}"]), TTDError), name


def test_descriptions_and_settings(hostile):
    from core.ttd.config import load_config

    for path in of_kind(hostile, "yaml_", "special_", "list_", "image_text").values():
        for read in (
            lambda place: open_dataset(str(place)),
            read_yaml,
            lambda place: load_config(read_recipe(place), str(place), lambda line: None),
            lambda place: list_images([place]),
        ):
            outcome(read, path)
    for name in ("bomb", "deep", "python", "twice", "selfalias", "huge", "baddate"):
        assert isinstance(outcome(read_yaml, hostile[f"yaml_{name}"]), TTDError), name


def readers_of_weights():
    from core.backbones.lora.files import read_adapter
    from core.backbones.tcl.loading import load_tcl
    from core.backbones.weights import read_weights
    from core.data.grounding import read_phrases
    from core.grounding.weights.checkpoint import load_model
    from core.utils.tensors.torch_files import read_torch_file

    return [
        read_weights,
        read_adapter,
        lambda path: load_tcl(path, None),
        load_model,
        read_torch_file,
        read_phrases,
    ]


@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_none_run_nothing(hostile):
    for name, path in of_kind(hostile, "weights_", "folder_model", "special_").items():
        for read in readers_of_weights():
            found = outcome(read, path)
            if read.__name__ == "read_weights" and not isinstance(found, TTDError):
                finite = [torch.isfinite(v).all() for v in found.values() if v.is_floating_point()]
                assert all(finite), name


@pytest.mark.filterwarnings("ignore")
def test_models_and_adapters_in_folders_run_nothing(hostile):
    from core.backbones import load_backbone
    from core.backbones.lora.files import read_adapter

    for name, path in of_kind(hostile, "folder_", "special_").items():
        assert isinstance(outcome(load_backbone, f"local-dir:{path}"), TTDError), name
        assert isinstance(outcome(read_adapter, path), TTDError), name


def test_the_canary_would_sing(tmp_path):
    """The control: where pickles are executed, the file appears."""
    from hostile_files import Canary

    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    path = tmp_path / "x.pkl"
    import pickle

    path.write_bytes(pickle.dumps(Canary(tmp_path / "executed")))
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=ROOT)
    assert executed(tmp_path)


def test_records_of_the_corpus_are_as_written(hostile):
    lines = hostile["list_separator"].read_text(encoding="utf-8").split("\n")
    wanted = json.loads(lines[1])["text"]
    texts = [
        item.text
        for item in open_records(hostile["list_separator"]).iterate()
        if isinstance(item, Record)
    ]
    assert wanted in texts or len(texts) == 1
