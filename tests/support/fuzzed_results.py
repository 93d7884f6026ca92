"""Readers to fuzz: what scripts have written: tags, scores, masks, runs."""

import json
from pathlib import Path

import numpy as np
import torch
from fuzzed import Reader, jsonl, stored
from small_records import picture, write

from core.data.pairs import read_pruned
from core.data.prepare.places import read_split
from core.data.records import Record
from core.evaluation.tags import load_method
from core.masks.results import load_scores, save_scores
from core.tags.pruning import read_scores
from core.tags.results import ResultPaths, read_results

READERS: dict[str, Reader] = {}

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
]


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
    from core.tags.writer import TagWriter

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
