"""Every script with valid arguments, of which one is made hostile; what is then seen of it."""

import importlib
import io
import json
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mutations import Late, in_time
from PIL import Image
from small_adapter import tensors
from small_grounding import write_phrases
from small_records import picture, write
from small_releases import voc_release

from core.masks.results import save_scores
from tools.cli import run

SECONDS = 60  # a machine under load needs several for a model alone
CONTROLS = ("--help", "--gpus")


def place(folder):
    """What the scripts work on, small: {name: path or text}."""
    from small_clip import model_config, write_clip

    model = folder / "model"
    vision = {"pool_type": "tok", "layers": 4}
    text = {"vocab_size": 49408, "context_length": 16, "width": 16, "layers": 1}
    write_clip(model, model_config(vision=vision, text=text))
    found = {"model": f"local-dir:{model}", "list": write_phrases(folder / "list", 4)}
    found |= {"set": _set(folder / "set"), "captions": _captions(folder / "captions")}
    found |= {"results": _results(folder / "results"), "scores": _scores(folder / "scores")}
    found |= {"adapter": _adapter(folder / "adapter.safetensors", found["model"])}
    found |= {"grounder": _grounder(folder / "grounder.safetensors", found["model"])}
    found |= {"masks": folder / "set" / "masks", "image": folder / "list" / "images" / "0.png"}
    voc_release(folder / "release")
    return found | {"release": folder / "release", "refer": _refer(folder / "refer")}


def _set(folder):
    write(folder, {f"images/{name}.png": picture(50) for name in "ab"})
    (folder / "masks").mkdir()
    (folder / "masks" / "scores").mkdir()
    for name in "ab":
        Image.fromarray(np.array([[0, 1, 2]] * 2, np.uint8)).save(folder / "masks" / f"{name}.png")
        maps = np.ones((2, 2, 3), np.float16)
        save_scores(folder / f"masks/scores/{name}.npz", maps, np.arange(2, dtype=np.int16), (2, 3))
    text = "images: images\nmasks: masks\nclasses: [cat, dog]\nbackground: 0\n"
    return write(folder, {"set.yaml": text}) / "set.yaml"


def _captions(folder):
    for name in "ab":
        files = {
            f"image/{name}.png": picture(9),
            f"json_refined/{name}.json": {"text": "a cat", "tags": ["cat"]},
        }
        write(folder / "cc3m_for_evaluation", files)
        place = folder / "cc3m_for_evaluation" / "mask_using_HQ-SAM" / name
        place.mkdir(parents=True)
        Image.fromarray(np.array([[0, 255, 0]] * 2, np.uint8)).save(place / "cat.png")
        out = folder / "masks"
        out.mkdir(exist_ok=True)
        Image.fromarray(np.array([[0, 255, 0]] * 2, np.uint8)).save(out / f"{name}.png")
    return folder


def _results(folder):
    word = {"word": "cat", "norm": 1.0, "selected": True}
    lines = [json.dumps({"id": name, "text": "a cat", "words": [word]}) for name in "ab"]
    return write(folder, {"R.jsonl": "\n".join(lines) + "\n", "R.meta.json": {}})


def _scores(folder):
    text = "".join(json.dumps({"id": name, "score": 0.5}) + "\n" for name in "abcdef")
    meta = {"finished": True, "bytes": len(text), "identity": {}, "counts": {"skipped": 0}}
    return write(folder, {"s.jsonl": text, "s.meta.json": meta}) / "s.jsonl"


def _adapter(path, arch):
    from core.backbones import load_backbone
    from core.backbones.lora.files import AdapterInfo, write_adapter

    info = AdapterInfo.of(load_backbone(arch, device="cpu"))
    write_adapter(tensors(3, 64), path, AdapterInfo(3.0, 3, info.arch, info.head))
    return path


def _grounder(path, arch):
    from core.backbones import load_backbone
    from core.grounding.model import GroundingModel, model_config
    from core.grounding.weights.checkpoint import save_model

    backbone = load_backbone(arch, device="cpu")
    torch.manual_seed(0)
    config = model_config(backbone, heads=4, layers=1, feedforward=32, hidden=32)
    model = GroundingModel(backbone, config, train_visual_pos=False)
    save_model(model, path, backbone.checksum, {})
    return path


def _refer(folder):
    import pickle

    refs = [
        {"split": split, "ann_id": 5, "image_id": 7, "sentences": [{"sent_id": 0, "sent": "x"}]}
        for split in ("train", "val", "testA", "testB")
    ]
    instances = {
        "annotations": [{"id": 5, "bbox": [0, 0, 3, 2]}],
        "images": [{"id": 7, "file_name": "7.jpg"}],
    }
    files = {"refcoco/instances.json": instances, "refcoco/refs(unc).p": pickle.dumps(refs, 2)}
    return write(folder, files)


def commands(there, out):
    """{script: (arguments that end well within a second or two)}; `out`: a folder for results."""
    model = {"--arch": there["model"], "--device": "cpu"}
    views = {**model, "--out": out / "out", "--limit": 1}
    run_options = {
        "--arch": there["model"],
        "--device": "cpu",
        "--out": out / "run",
        "--steps": 1,
        "--batch": 2,
        "--threads": 1,
        "--workers": 1,
        "--config": None,
    }
    training = {**run_options, "--dry-run": True}
    evaluation = {"--json": out / "x.json", "--csv": out / "x.csv", "--workers": 1}
    captions = there["captions"] / "masks"
    set_yaml = there["set"]
    return {
        "demo": {**model, "--input": there["image"], "--tags": ["cat"], "--out": out / "x.png"},
        "produce_tags_from_text": {**views, "--root": there["list"]},
        "produce_masks_from_tags": {**views, "--data": set_yaml, "--root": out},
        "produce_masks_from_text": {**views, "--data": there["list"]},
        "produce_boxes_from_text": {
            **model,
            "--root": there["list"],
            "--grounder": there["grounder"],
            "--out": out / "out",
        },
        "evaluate_classification": {
            "--root": there["captions"],
            "--arch": "R",
            "--out": there["results"],
        },
        "evaluate_segmentation": {**evaluation, "--data": set_yaml, "--pred": there["masks"]},
        "evaluate_segmentation_for_text": {
            **evaluation,
            "--root": there["captions"],
            "--pred": captions,
        },
        "evaluate_grounding": {
            "--grounder": there["grounder"],
            "--arch": there["model"],
            "--data": there["list"],
            "--device": "cpu",
        },
        "train_ttd": {**training, "--data": there["list"], "--image": 32},
        "train_tcl": {**training, "--data": there["list"], "--image": 32, "--set": ["stages=1"]},
        "train_grounding": {
            **training,
            "--data": there["list"],
            "--set": ["hidden=32", "layers=1"],
        },
        "tools.prepare_dataset": {"": "VOC2012", "--source": there["release"], "--root": out},
        "tools.prepare_grounding": {
            "": "unc",
            "--source": there["refer"],
            "--out": out,
            "--any-count": True,
        },
        "tools.score_captions": {**views, "--data": there["list"]},
        "tools.prune_pairs": {"--scores": there["scores"], "--out": out / "list.txt"},
        "tools.merge_lora": {
            "--arch": there["model"],
            "--lora": there["adapter"],
            "--out": out / "merged.safetensors",
        },
        "tools.sweep_bg": {"--data": set_yaml, "--pred": there["masks"], "--workers": 1},
        "tools.evaluate_ttd": {**model, "--root": there["captions"], "--limit": 1},
        "tools.make_world": {"--out": out / "w", "--train": 1, "--val": 1, "--workers": 1},
    }


# Names of what `place` makes, and of the scripts.
_NAMES = [
    "model",
    "list",
    "set",
    "captions",
    "results",
    "scores",
    "adapter",
    "grounder",
    "masks",
    "image",
    "release",
    "refer",
]
SCRIPTS = tuple(commands(dict.fromkeys(_NAMES, Path()), Path()))


def arguments(options):
    """Options as a command line; None leaves one out."""
    argv = []
    for name, value in options.items():
        if value is None:
            continue
        argv += [name] if name else []
        if value is not True:
            argv += list(map(str, value)) if isinstance(value, list) else [str(value)]
    return argv


@dataclass(frozen=True)
class Seen:
    """What a run left: its exit code, stderr, and what escaped (a traceback or a hang)."""

    code: int | None
    said: str
    escaped: str = ""

    @property
    def fault(self):
        """What is wrong with how the run ended; "" where nothing is."""
        if self.escaped:
            return self.escaped
        if "Traceback (most recent" in self.said:
            return "a traceback: " + self.said[-500:]
        if self.code not in (0, 1, 2):
            return f"exit code {self.code}"
        if "unexpected " in self.said and "--debug" in self.said:
            return "not foreseen: " + self.said.strip()[-300:]
        if self.code == 2 and not self.said.strip():
            return "exit code 2 without a word"
        if any(ord(char) < 32 and char not in "\n\r\t" for char in self.said):
            return f"control characters on the terminal: {self.said!r:.300}"
        return ""


def call(script, argv, seconds=SECONDS):
    """The script's main in this process, within `run` as from the terminal."""
    module = importlib.import_module(script)
    before = sys.argv
    sys.argv = [f"{script}.py", *argv]
    escaped, code, out, said = "", None, io.StringIO(), io.StringIO()
    try:
        with in_time(seconds), redirect_stdout(out), redirect_stderr(said):
            run(module.main)
    except SystemExit as end:
        code = end.code
    except Late as error:
        escaped = f"a hang: {error}"
    except BaseException:
        escaped = traceback.format_exc()[-1500:]
    finally:
        sys.argv = before
    return Seen(code, said.getvalue(), escaped)


def options_of(script):
    """(names of options that take text, of whole numbers, of other numbers)."""
    parser = importlib.import_module(script).get_args_parser()
    texts, whole, fractions = [], [], []
    for action in parser._actions:
        name = action.option_strings[0] if action.option_strings else ""
        if action.choices or action.nargs == 0 or name in CONTROLS or action.help == "==SUPPRESS==":
            continue
        kind = getattr(action.type, "__name__", "str")
        if kind in ("str", "Path"):
            texts.append(name)
        else:
            (whole if kind in ("int", "positive_int") else fractions).append(name)
    return texts, whole, fractions


def outputs(folder):
    """Every file below a folder."""
    return [path for path in Path(folder).rglob("*") if path.is_file()]
