"""Every reader of strangers' files, with a valid file for it: what the fuzz tests change.

READERS: {name: Reader}. `make(folder)` writes what is needed and returns the file that is changed;
`read(path)` reads it to the end as the scripts do.
"""

import csv
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from small_adapter import tensors
from small_records import picture, write

from core.backbones.lora.files import read_adapter
from core.backbones.lora.peft_config import read_peft_config
from core.backbones.weights import read_weights
from core.data.grounding import read_phrases
from core.data.image_lists import list_images
from core.data.images import read_image
from core.data.labels.datasets import open_dataset
from core.data.labels.mask_files import read_foreground, read_stored, read_values
from core.data.labels.rle import decode, encode
from core.data.pairs import read_pruned
from core.data.prepare.coco import draw_instances, read_instances
from core.data.prepare.grounding_releases import flickr_rows, read_reviews, refer_rows, referit_rows
from core.data.prepare.places import read_split
from core.data.records import Record, open_records
from core.data.records.record import read_record
from core.errors import TTDError
from core.evaluation.tags import load_method
from core.masks.results import load_scores, save_scores
from core.tags.pruning import read_scores
from core.tags.results import ResultPaths, read_results
from core.utils.config import read_yaml


@dataclass(frozen=True)
class Reader:
    """A valid file and who reads it; `content`: its JSON or YAML value, where it is one."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    content: Any = None
    lines: bool = False  # JSONL: a list of rows


READERS: dict[str, Reader] = {}


def image(ending, **options):
    """A file of 6 x 5 pixels."""

    def make(folder):
        pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 3), np.uint8)
        path = folder / f"image.{ending}"
        Image.fromarray(pixels).save(path, **options)
        return path

    return make


def stored(name, data):
    """A file of these bytes."""

    def make(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return make


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


for ending in ("png", "jpg", "webp", "gif", "tiff", "bmp", "ppm", "tga", "ico"):
    READERS[f"image {ending}"] = Reader(image(ending), read_image)


def label_png(folder):
    path = folder / "labels.png"
    mask = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6))
    mask.putpalette(bytes(range(90)))
    mask.save(path)
    return path


def all_mask_readers(path):
    for read in (read_stored, read_foreground, read_values):
        try:
            value = read(path)
        except TTDError:
            continue
        assert value is not None


READERS["label png"] = Reader(label_png, all_mask_readers)


def beside_images(name, data):
    """A file in a folder with images/ a.png and b.png."""

    def make(folder):
        write(folder, {"images/a.png": picture(10), "images/b.png": picture(20)})
        return stored(name, data)(folder)

    return make


SET = {
    "name": "pets",
    "images": "images",
    "classes": ["cat|kitten", "dog", "old dog"],
    "background": 0,
    "ignore": 255,
    "bg": 0.4,
    "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    "masks_drawn": "stored",
}


def read_set(path):
    data = open_dataset(str(path))
    return data.describe(), data.items(), data.digest


READERS["dataset yaml"] = Reader(beside_images("set.yaml", json.dumps(SET).encode()), read_set, SET)


def run_config(name):
    """The reader of the settings of train_NAME.py."""

    def read(path):
        import importlib

        module = {"ttd": "core.ttd.config", "tcl": "core.tcl.config"}.get(
            name, "core.grounding.run_config"
        )
        load = importlib.import_module(module).load_config
        config = load(read_yaml(path), str(path), lambda line: None)
        return config.name, config.folder

    return read


RUNS = {
    "ttd": {
        "arch": "tiny", "data": "cc3m", "pruned": ["none"], "limit": 5, "scales": [1.0], "steps": 10,
        "batch": 4, "lr": "1e-4", "distill": {"teacher": "ema"}, "lora": {"rank": 4, "alpha": 8.0},
        "out": "runs/x", "tag": "name", "workers": 2, "grad_clip": None,
    },
    "tcl": {
        "arch": "CLIP", "stages": 2, "loss": {"area": 0.3}, "augment": {}, "evaluation": {},
        "image": 224, "warmup": 2, "lr_floor": 0.1,
    },
    "grounding": {
        "arch": "tiny", "dataset": ["unc"], "sup": "full", "prompt": "a {pseudo_query}", "epochs": 1.5,
        "optimizer": "adamw", "dropout": 0.1, "schedule": "step", "lr_drop_every": 3,
    },
}  # fmt: skip
for name, values in RUNS.items():
    READERS[f"run config {name}"] = Reader(
        stored("run.yaml", json.dumps(values).encode()), run_config(name), values
    )

ROWS = [
    {"image": "a.png", "text": "a cat", "id": "one", "tags": ["cat"]},
    {"image": "images/b.png", "captions": ["a dog", "a cow"], "id": 7},
]


def read_pairs(path):
    """All records with their images; what cannot be used must be `Skipped` with id and reason."""
    found = list(open_records(path).iterate())
    for item in found:
        assert item.id and "\n" not in item.id
        item.id.encode()
        if not isinstance(item, Record):
            assert item.reason
            continue
        item.text.encode()
        try:
            read_record(item)
        except TTDError as error:
            assert str(error)
    assert len({item.id for item in found if isinstance(item, Record)}) == sum(
        isinstance(item, Record) for item in found
    )
    return found


READERS["records jsonl"] = Reader(
    beside_images("list.jsonl", jsonl(ROWS)), read_pairs, ROWS, lines=True
)
READERS["image list jsonl"] = Reader(
    beside_images("list.jsonl", jsonl(ROWS)), lambda path: list_images([path]), ROWS, lines=True
)
CAPTION = {"text": "a cat and &amp; a dog", "tags": ["cat", "dog"], "caption": "a cow"}


def captions_folder(folder):
    write(folder, {"image/a.png": picture(), "image/b.png": picture(), "json/b.json": CAPTION})
    return stored("json/a.json", json.dumps(CAPTION).encode())(folder)


READERS["caption json"] = Reader(captions_folder, lambda path: read_pairs(path.parents[1]), CAPTION)


def shard(folder):
    path = folder / "00000.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (
            ("a.png", picture()),
            ("a.json", json.dumps(CAPTION).encode()),
            ("é" * 60 + ".png", picture(3)),
            ("é" * 60 + ".txt", b"a dog"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


READERS["webdataset tar"] = Reader(shard, read_pairs)

PHRASES = [
    {"image": "a.png", "box": [0, 0, 2, 2], "text": "a cat", "id": "x", "clean": True},
    {"image": "b.png", "box": [0.5, 0, 2, 1.5], "text": "a dog"},
]


def read_boxes(path):
    read = read_phrases(path)
    return [phrase.row() for phrase in read.phrases], read.digest


READERS["phrases jsonl"] = Reader(
    beside_images("list.jsonl", jsonl(PHRASES)), read_boxes, PHRASES, lines=True
)


def csv_bytes():
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["image", "text", "left", "top", "right", "bottom"])
    writer.writerow(["a.png", 'a "big" cat', 0, 0, 2, 2])
    writer.writerow(["b.png", "a dog, here", 0, 0, 1, 1])
    return text.getvalue().encode()


READERS["phrases csv"] = Reader(beside_images("list.csv", csv_bytes()), read_boxes)


def label_list(folder):
    write(folder, {"a.png": picture(), "b.png": picture()})
    rows = [
        ("a.png", "m", torch.tensor([0.0, 0.0, 2.0, 2.0]), "a cat", None),
        ("b.png", "m", [0, 0, 1, 1], "a dog", [1]),
    ]
    torch.save(rows, folder / "list.pth")
    return folder / "list.pth"


READERS["phrases pth"] = Reader(label_list, read_boxes)

COCO = {
    "images": [{"id": 7, "file_name": "7.jpg", "height": 8, "width": 9}],
    "categories": [{"id": 1, "name": "person"}, {"id": 32, "name": "tie"}],
    "annotations": [
        {"image_id": 7, "id": 1, "category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 7, 0, 7]]},
        {
            "image_id": 7,
            "id": 2,
            "category_id": 32,
            "segmentation": {"size": [8, 9], "counts": [10, 20, 42]},
        },
        {
            "image_id": 7,
            "id": 3,
            "category_id": 32,
            "segmentation": {"size": [8, 9], "counts": ":d0R1"},
        },
    ],
}


def read_coco(path):
    found = read_instances(path)
    for one in found.images:
        try:
            labels = draw_instances(found.objects.get(one.id, []), one.height, one.width)
        except TTDError:
            continue
        assert labels.shape == (one.height, one.width)
    return found


READERS["coco json"] = Reader(stored("i.json", json.dumps(COCO).encode()), read_coco, COCO)
RLE = encode(np.random.default_rng(0).random((5, 6)) > 0.5)


def read_rle(path):
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # JSON is its reader's matter
        return None
    if not isinstance(content, dict):
        return None
    mask = decode(content)
    assert mask.dtype == bool and list(mask.shape) == [int(side) for side in content["size"]]
    return mask


READERS["rle"] = Reader(stored("rle.json", json.dumps(RLE).encode()), read_rle, RLE)

WORD = {
    "word": "cat",
    "start": 2,
    "end": 5,
    "score": 0.5,
    "norm": 1.0,
    "selected": True,
    "xy": [1, 2],
}
RESULT = [
    {"id": "a", "image": "image/a.png", "text": "a cat", "words": [WORD]},
    {"id": "b", "image": "image/b.png", "text": "a dog", "words": []},
]  # fmt: skip


def result_files(folder):
    write(folder, {"r.meta.json": {"scorer": "pixel", "protocol": {"stopwords": "shipped"}}})
    return stored("r.jsonl", jsonl(RESULT))(folder)


def truth():
    return {"a": Record(0, "a", Path("a.png"), "a.png", "a cat", ("cat",))}


def read_tags(path):
    rows = read_results(path)
    method = load_method(ResultPaths.of(path.parent, "r"), truth())
    assert np.isfinite(method.norms).all() and method.selected.dtype == bool
    return rows


READERS["tags jsonl"] = Reader(result_files, read_tags, RESULT, lines=True)
META = {"scorer": "pixel", "protocol": {"stopwords": "shipped"}, "identity": {"arch": "tiny"}}


def meta_file(folder):
    result_files(folder)
    return stored("r.meta.json", json.dumps(META).encode())(folder)


def read_meta(path):
    from core.tags.results import is_finished

    paths = ResultPaths.of(path.parent, "r")
    load_method(paths, truth())
    return is_finished(paths, META["identity"])


READERS["tags meta"] = Reader(meta_file, read_meta, META)
SKIPPED = [{"index": 1, "id": "x", "reason": "bad"}, {"index": 3, "id": "y", "reason": "bad"}]


def skipped_file(folder):
    result_files(folder)
    return stored("r.skipped.jsonl", jsonl(SKIPPED))(folder)


def resume_tags(path):
    from core.tags.results import TagWriter

    paths = {"pixel": ResultPaths.of(path.parent, "r")}
    writer = TagWriter(paths, {"identity": {}}, 2)
    writer.close()
    return writer.done


READERS["tags resumed"] = Reader(skipped_file, resume_tags, SKIPPED, lines=True)
SCORES = [{"index": 0, "id": "a", "score": 0.25}, {"index": 1, "id": "b", "score": 0.5}]


def score_file(folder):
    return stored("s.jsonl", jsonl(SCORES))(folder)


def read_pair_scores(path):
    from core.tags.pruning import prune

    meta = {"finished": True, "bytes": path.stat().st_size, "counts": {"skipped": 0}}
    write(path.parent, {"s.meta.json": meta})
    for name, score in read_scores(path):
        assert isinstance(name, str) and isinstance(score, float)
    return prune(path, path.parent / "list.txt", 0.2)


READERS["pair scores"] = Reader(score_file, read_pair_scores, SCORES, lines=True)


def read_pair_meta(path):
    from core.tags.pruning import prune

    return prune(path.with_name("s.jsonl"), path.parent / "list.txt", 0.2)


PAIR_META = {
    "finished": True,
    "bytes": len(jsonl(SCORES)),
    "counts": {"skipped": 0},
    "identity": {},
}


def pair_meta_file(folder):
    score_file(folder)
    return stored("s.meta.json", json.dumps(PAIR_META).encode())(folder)


READERS["pair meta"] = Reader(pair_meta_file, read_pair_meta, PAIR_META)
READERS["pruned list"] = Reader(stored("l.txt", b"# ttd pruned list\none\ntwo\n"), read_pruned)
READERS["split list"] = Reader(stored("l.txt", b"2007_1\n2007_2 1\n"), read_split)


def saved_maps(folder):
    path = folder / "s.npz"
    save_scores(path, np.ones((1, 3, 4), np.float16), np.zeros(1, np.int16), (3, 4))
    return path


def read_maps(path):
    maps, classes = load_scores(path)
    assert maps.ndim == 3 and len(classes) == len(maps) and np.isfinite(maps).all()
    return maps


READERS["saved maps"] = Reader(saved_maps, read_maps)
PROTOCOL = {
    "identity": {"arch": "tiny", "classes": "x"},
    "run": "token",
    "arguments": {"data": "s"},
}


def protocol_file(folder):
    write(folder, {"a.png": picture(), "skipped.jsonl": {"id": "b", "reason": "bad"}})
    return stored("protocol.json", json.dumps(PROTOCOL).encode())(folder)


def read_mask_folder(path):
    from core.evaluation.predictions import check_classes, check_kind, data_of
    from core.masks.results import MaskFolder

    folder = path.parent
    check_kind(folder, captions=False)
    check_classes(folder, "x", "set")
    data_of(folder)
    MaskFolder(folder, {"identity": PROTOCOL["identity"]}, "other").close()


READERS["mask protocol"] = Reader(protocol_file, read_mask_folder, PROTOCOL)
MASK_SKIPPED = [{"id": "b", "reason": "bad"}]


def mask_skipped(folder):
    protocol_file(folder)
    return stored("skipped.jsonl", jsonl(MASK_SKIPPED))(folder)


def skip_more(path):
    from core.masks.results import MaskFolder

    folder = MaskFolder(path.parent, {"identity": PROTOCOL["identity"]}, "token")
    try:
        folder.skip("c", "bad")
    finally:
        folder.close()


READERS["mask skipped"] = Reader(mask_skipped, skip_more, MASK_SKIPPED, lines=True)
SETTINGS = {"name": "x", "identity": {"lr": 1}, "settings": {"lr": 1}, "versions": {}}


def run_settings(folder):
    write(folder, {"train_log.jsonl": '{"step": 1}\n{"step": 2}\n', "skipped.jsonl": "{}\n"})
    return stored("settings.json", json.dumps(SETTINGS).encode())(folder)


def open_run(path, overwrite=False):
    from core.training.storage.run_dir import RunFolder, RunIdentity

    identity = RunIdentity("x", ".safetensors", {"lr": 1}, {"lr": 1})
    folder = RunFolder(path.parent, identity, overwrite)
    try:
        folder.open_log(1).close()
        folder.checkpoint()
    finally:
        folder.close()


READERS["run settings"] = Reader(run_settings, open_run, SETTINGS)
READERS["run overwritten"] = Reader(
    run_settings, lambda path: open_run(path, overwrite=True), SETTINGS
)


def run_log(folder):
    run_settings(folder)
    return stored("train_log.jsonl", b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n')(
        folder
    )


LOG = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
READERS["run log"] = Reader(run_log, open_run, LOG, lines=True)


def run_checkpoint(folder):
    run_settings(folder)
    torch.save({"step": 1, "parameters": {"a": torch.ones(2)}}, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


READERS["run checkpoint"] = Reader(run_checkpoint, open_run)


def finite(state):
    for name, value in state.items():
        assert isinstance(name, str) and isinstance(value, torch.Tensor), name
        assert not value.is_floating_point() or torch.isfinite(value).all(), name
    return state


def read_state(path):
    return finite(read_weights(path))


STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2), "scale": torch.ones(())}


def safetensors_file(folder):
    from safetensors.torch import save_file

    save_file(STATE, folder / "m.safetensors")
    return folder / "m.safetensors"


READERS["safetensors"] = Reader(safetensors_file, read_state)


def torch_file(name, **options):
    def make(folder):
        torch.save({"state_dict": STATE, "epoch": 3, "note": "x"}, folder / name, **options)
        return folder / name

    return make


READERS["torch zip"] = Reader(torch_file("m.pt"), read_state)
READERS["torch legacy"] = Reader(
    torch_file("m.pt", _use_new_zipfile_serialization=False), read_state
)


def plain_pickle(protocol):
    return pickle.dumps({"state_dict": {"a": [1, 2.5, b"x", (None, True)]}}, protocol=protocol)


def read_as_data(path):
    from core.utils.torch_files import read_torch_file

    content = read_torch_file(path)
    if isinstance(content.data, dict):
        for value in content.data.values():
            try:
                content.tensors(value)
            except TTDError:
                continue
    return content


READERS["torch zip as data"] = Reader(torch_file("m.pt"), read_as_data)
READERS["torch legacy as data"] = Reader(
    torch_file("m.pt", _use_new_zipfile_serialization=False), read_as_data
)
for number in (0, 2, 4):
    READERS[f"pickle {number}"] = Reader(stored("m.pkl", plain_pickle(number)), read_as_data)


def adapter_state(path):
    state, info = read_adapter(path)
    assert info.alpha is None or info.alpha != 0
    return finite(state)


def adapter_file(folder):
    from safetensors.torch import save_file

    named = {f"base_model.model.{name}": value for name, value in tensors().items()}
    save_file(
        named, folder / "adapter_model.safetensors", {"ttd": json.dumps({"alpha": 6.0, "rank": 3})}
    )
    return folder / "adapter_model.safetensors"


READERS["adapter"] = Reader(adapter_file, adapter_state)
PEFT = {
    "peft_type": "LORA", "r": 3, "lora_alpha": 6, "bias": "none", "use_rslora": True,
    "target_modules": ["v_proj"], "init_lora_weights": True, "rank_pattern": {}, "use_dora": False,
}  # fmt: skip


def peft_folder(folder):
    from safetensors.torch import save_file

    named = {f"base_model.model.{name}": value for name, value in tensors().items()}
    save_file(named, folder / "adapter_model.safetensors")
    return stored("adapter_config.json", json.dumps(PEFT).encode())(folder)


READERS["adapter config"] = Reader(
    peft_folder, lambda path: (adapter_state(path.parent), read_peft_config(path)), PEFT
)


def model_folder(folder):
    from small_clip import write_clip

    write_clip(folder, MODEL["model_cfg"], ttd=MODEL["ttd"])
    return folder / "open_clip_config.json"


def read_model(path):
    from core.backbones import load_backbone

    return load_backbone(f"local-dir:{path.parent}", device="cpu")


MODEL = {
    "model_cfg": {
        "embed_dim": 8,
        "vision_cfg": {
            "image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 2,
        },
        "text_cfg": {
            "context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1,
        },
    },
    "preprocess_cfg": {
        "size": [16, 16], "mode": "RGB", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3],
        "interpolation": "bicubic", "resize_mode": "shortest",
    },
    "ttd": {"mask_scale": 8.0, "mask_bias": -0.35, "head": "maskclip"},
}  # fmt: skip
READERS["model config"] = Reader(model_folder, read_model, MODEL)


def model_weights(folder):
    model_folder(folder)
    return folder / "open_clip_model.safetensors"


READERS["model weights"] = Reader(model_weights, read_model)


def tokenizer_folder(folder):
    from core.backbones.weights import WEIGHTS

    model_folder(folder)
    return stored("bpe.txt.gz", (WEIGHTS / "tiny" / "bpe.txt.gz").read_bytes())(folder)


def read_tokenizer(path):
    from core.backbones.clip_loading import Tokenizer

    return Tokenizer(f"local-dir:{path.parent}")(["a cat"])


READERS["tokenizer merges"] = Reader(tokenizer_folder, read_tokenizer)

REFS = [
    {
        "split": "val", "ann_id": 5, "image_id": 7,
        "sentences": [{"sent_id": 0, "sent": "a cat"}, {"sent_id": 1, "sent": "it"}],
    }
]  # fmt: skip
INSTANCES = {
    "annotations": [{"id": 5, "bbox": [0, 0, 3, 2]}],
    "images": [{"id": 7, "file_name": "7.jpg"}],
}


def refer_release(folder):
    write(folder, {"refcoco/instances.json": INSTANCES})
    return stored("refcoco/refs(unc).p", pickle.dumps(REFS, protocol=2))(folder)


def rows_of(read, parents, dataset="unc"):
    def rows(path):
        for row in read(path.parents[parents], dataset, "val"):
            assert len(row["box"]) == 4 and all(np.isfinite(row["box"]))

    return rows


READERS["refer pickle"] = Reader(refer_release, rows_of(refer_rows, 1))


def refer_instances(folder):
    refer_release(folder)
    return folder / "refcoco/instances.json"


READERS["refer instances"] = Reader(refer_instances, rows_of(refer_rows, 1), INSTANCES)
QUERIES = {"7_1": ["a cat", "it"], "8_2": ["a dog"]}


def referit_release(folder):
    write(folder, {"referit_bbox.json": {"7_1": [0, 0, 3, 2], "8_2": [1, 1, 2, 2]}})
    return stored("referit_query_val.json", json.dumps(QUERIES).encode())(folder)


READERS["referit queries"] = Reader(referit_release, rows_of(referit_rows, 0, "referit"), QUERIES)


def referit_boxes(folder):
    referit_release(folder)
    return folder / "referit_bbox.json"


READERS["referit boxes"] = Reader(
    referit_boxes, rows_of(referit_rows, 0, "referit"), {"7_1": [0, 0, 3, 2], "8_2": [1, 1, 2, 2]}
)
XML = (
    b"<annotation><object><name>1</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax>"
    b"<ymax>4</ymax></bndbox></object></annotation>"
)


def flickr_release(folder):
    files = {"val.txt": "12\n", "Sentences/12.txt": "[/EN#1/people A man] in [/EN#2/x a hat]\n"}
    write(folder, files)
    return stored("Annotations/12.xml", XML)(folder)


READERS["flickr xml"] = Reader(flickr_release, rows_of(flickr_rows, 1, "flickr"))


def flickr_sentences(folder):
    flickr_release(folder)
    return folder / "Sentences/12.txt"


READERS["flickr sentences"] = Reader(flickr_sentences, rows_of(flickr_rows, 1, "flickr"))


def flickr_ids(folder):
    flickr_release(folder)
    return folder / "val.txt"


READERS["flickr ids"] = Reader(flickr_ids, rows_of(flickr_rows, 0, "flickr"))
REVIEWS = [{"file_name": "a.jpg", "caption": "a cat", "clean": "yes"}]
READERS["reviews"] = Reader(
    stored("r.json", json.dumps(REVIEWS).encode()),
    lambda path: read_reviews(path, "clean", "yes"),
    REVIEWS,
)
