"""What tools/reproduce.py can reproduce: what each needs, which scripts it runs, published rows.

The rows of TTD are those of its authors' README (ECCV 2024, arXiv 2404.00384); those of TCL and
CLIP-VG are in tools/evaluate_tcl.py and core/evaluation/grounding.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate_tcl import PUBLISHED as TCL_ROWS
from reproduce_table import Row, rows_of

from core.utils.shipped import demo_image

Run = Callable[[Sequence[str]], str]  # a script and its options -> the last line that it prints
Measure = Callable[["Places", Run], list[Row]]
MODEL = ("--arch", "TCL")  # it looks for weights/tcl.pth
WEIGHTS = ("ViT-B-16.pt", "tcl.pth")
ADAPTED = (*WEIGHTS, "TCL+TTD.pt")
SCALES = ("--scales", "1.0", "0.5", "1.5", "2.0", "--pamr")
FLAGS = (*SCALES, "--hflip")
# Key in the evaluator's JSON, and measure of a row.
TAG_KEYS = {
    "precision": "precision %",
    "recall": "recall %",
    "f1": "F1 %",
    "accuracy": "accuracy %",
    "average_precision": "mAP %",
}
SHARES = ("mIoU %", "mFPR", "mFNR")
OURS = (
    "the published flags; what they leave open (soft mask, windows half a window apart, PAMR at "
    "the image's size) is ours, the authors' evaluation code is not public"
)
NO_RULE = "; --bg does not act on a set without background, whether it did is not known"
TAG_DIFFERENCE = (
    "the published flags; min-max over a caption's words, the cut at 0.5 and the list of stop "
    "words are ours"
)
TCL_DIFFERENCE = "TCL's protocol; published as other papers report it (CaR, SCLIP)"


@dataclass(frozen=True)
class Places:
    """Where things are. options: of every script that computes (--device ...)."""

    root: Path
    downloads: Path
    weights: Path
    out: Path
    limit: int | None = None
    options: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()

    @property
    def adapter(self) -> list[str]:
        """The authors' adapter."""
        return ["--lora", str(self.weights / "TCL+TTD.pt")]

    @property
    def common(self) -> list[str]:
        """Where and how much is computed."""
        limit = [] if self.limit is None else ["--limit", str(self.limit)]
        return [*self.options, *limit]

    @property
    def masks(self) -> list[str]:
        """The same for scripts that share their work among processes."""
        return [*self.common, *(["--gpus", *self.gpus] if self.gpus else [])]


@dataclass(frozen=True)
class Target:
    """Something to reproduce.

    needs: releases of the list; data: the set that `source` (folder below the downloads) is
    prepared to, which needs `releases` where it is not there yet. measure: runs the scripts and
    gives the rows; without results (a dry run) ours are None.
    """

    name: str
    about: str
    needs: tuple[str, ...]
    measure: Measure
    data: str | None = None
    releases: tuple[str, ...] = ()
    source: str = ""


def demo(places: Places, run: Run) -> list[Row]:
    """The published demo's flags on the image that ships."""
    image = ["--input", str(demo_image()), "--tags", "house", "tree", "bird", "--image", "448"]
    line = ["demo.py", *MODEL, *places.adapter, *image, *SCALES, *places.options]
    run([*line, "--out", str(places.out / "demo")])
    return []


def tags(places: Places, run: Run) -> list[Row]:
    """Multi-tag selection on CC3M-TagMask."""
    root, out = str(places.root / "cc3m_for_evaluation"), str(places.out / "tags")
    flags = ["--root", root, "--scales", "1.0", "--hflip", "--fixed", "--stopwords", "--out", out]
    for adapter in ([], places.adapter):
        run(["produce_tags_from_text.py", *MODEL, *adapter, *flags, *places.common])
    part = "" if places.limit is None else f"@limit={places.limit}"
    scorers = ("image", "text", "pixel", "pixel+TTD")
    names = [f"TCL_224_[1.0]@{scorer}{part}" for scorer in scorers]
    path = places.out / "tags.json"
    line = ["evaluate_classification.py", "--root", root, "--out", out, "--json", str(path)]
    run([*line, "--arch", *names])
    found = {row["name"]: row for row in read(path).get("rows", [])[::-1]}
    rows = []
    for name, published in zip(names, TAG_ROWS, strict=True):
        own = found.get(name, {})
        values = {label: percent(own.get(key)) for key, label in TAG_KEYS.items()}
        known = {label: (value, 1) for label, value in zip(values, published, strict=False)}
        rows += rows_of("tags", name, values, known, TAG_DIFFERENCE)
    return rows


# P, R, F1, accuracy, and mAP where it is published.
TAG_ROWS = (
    (92.5, 28.6, 43.7, 79.5),
    (85.6, 29.7, 44.1, 79.0),
    (82.9, 74.5, 78.5, 88.6, 90.3),
    (88.3, 78.0, 82.8, 91.0, 93.7),
)


def captions(places: Places, run: Run) -> list[Row]:
    """Caption segmentation on CC3M-TagMask."""
    rows = []
    for name, adapter, means in (
        ("TCL", [], (60.4, 0.199, 0.198)),
        ("TCL+TTD", places.adapter, (65.5, 0.163, 0.182)),
    ):
        flags = ["--root", str(places.root), "--data", "CC3M", "--bg", "0.40", *FLAGS]
        out = ["--out", str(places.out / "results_caption")]
        line = ["produce_masks_from_text.py", *MODEL, *adapter, *flags, *places.masks, *out]
        folder, path = run(line), places.out / f"captions_{name}.json"
        line = ["evaluate_segmentation_for_text.py", "--data", "CC3M", "--root", str(places.root)]
        run([*line, "--pred", folder, "--json", str(path)])
        rows += shares("captions", name, read(path), means, OURS)
    return rows


def masks(
    name: str, data: str, bg: str, means: tuple[float, float, float], more: str = ""
) -> Measure:
    """`measure` of a segmentation set: bg and mean IoU, FPR, FNR as published."""

    def measure(places: Places, run: Run) -> list[Row]:
        flags = ["--root", str(places.root), "--data", data, "--bg", bg, *FLAGS]
        out = ["--out", str(places.out / "results")]
        line = ["produce_masks_from_tags.py", *MODEL, *places.adapter, *flags, *places.masks]
        folder, path = run([*line, *out]), places.out / f"{name}.json"
        line = ["evaluate_segmentation.py", "--data", data, "--root", str(places.root)]
        run([*line, "--pred", folder, "--json", str(path)])
        return shares(name, f"TCL+TTD@{data}", read(path), means, OURS + more)

    return measure


def tcl(name: str, sets: Sequence[str], more: str = "") -> Measure:
    """`measure` of TCL itself on some of its eight benchmarks, with PAMR and without."""

    def measure(places: Places, run: Run) -> list[Row]:
        path = places.out / f"{name}.json"
        line = ["tools/evaluate_tcl.py", "--root", str(places.root), "--data", *sets]
        run([*line, "--out", str(places.out / "tcl"), *places.masks, "--json", str(path)])
        found = {(row["data"], row["pamr"]): row for row in read(path) or []}
        rows = []
        for data in sets:
            for pamr, value in zip((True, False), TCL_ROWS[data], strict=True):
                own, words = found.get((data, pamr), {}), "PAMR" if pamr else "no PAMR"
                ours = {"mIoU %": percent(own.get("miou"))}
                called, known = f"TCL@{data}, {words}", {"mIoU %": (value, 1)}
                rows += rows_of(name, called, ours, known, TCL_DIFFERENCE + more, own.get("images"))
        return rows

    return measure


def grounding(name: str, data: str, more: str = "") -> Measure:
    """`measure` of CLIP-VG's supervised checkpoint on a grounding set."""

    def measure(places: Places, run: Run) -> list[Row]:
        from core.evaluation.grounding import PUBLISHED

        path = places.out / f"{name}.json"
        line = ["evaluate_grounding.py", "--dataset", data, "--json", str(path)]
        line += ["--grounder", str(places.weights / f"clip-vg-{data}.pth")]
        line += ["--data_root", str(places.downloads / "image_data")]
        run([*line, "--split_root", str(places.downloads / "full_sup_data"), *places.common])
        found, rows = read(path).get("scores", {}), []
        for (known, split), value in PUBLISHED["CLIP-VG supervised"].items():
            if known == data:
                own = found.get(f"{data} {split}", {})
                ours, theirs = {"Acc@0.5 %": percent(own.get("acc@0.5"))}, {"Acc@0.5 %": (value, 2)}
                rows += rows_of(name, f"CLIP-VG@{data} {split}", ours, theirs, VG_DIFFERENCE + more)
        return rows

    return measure


VG_DIFFERENCE = "the released checkpoint of the supervised model; published is the paper's row"


def shares(
    target: str, name: str, found: Any, means: tuple[float, float, float], difference: str
) -> list[Row]:
    """Mean IoU in percent, FPR and FNR as fractions."""
    values = (percent(found.get("iou")), found.get("fpr"), found.get("fnr"))
    ours = dict(zip(SHARES, values, strict=True))
    published = dict(zip(SHARES, zip(means, (1, 3, 3), strict=True), strict=True))
    return rows_of(target, name, ours, published, difference, found.get("scored"))


def read(path: Path) -> Any:
    """What an evaluator wrote; {} where there is nothing (a dry run)."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def percent(share: float | None) -> float | None:
    """A fraction in percent."""
    return None if share is None else 100 * share


def segmentation(
    key: str, data: str, releases: tuple[str, ...], rows: tuple[str, float, float, float], more: str
) -> Target:
    """A segmentation set as a target: rows are --bg and the published means."""
    bg, *means = rows
    iou, fpr, fnr = means
    measure = masks(key, data, bg, (iou, fpr, fnr), more)
    about = f"masks from tags on {data}: TCL+TTD"
    return Target(key, about, ADAPTED, measure, data, releases, data)


VOC, CONTEXT = ("VOC2012",), ("VOC2010", "PascalContext")
CITY, STUFF = ("Cityscapes-images", "Cityscapes-labels"), ("COCO-val2017", "COCO-Stuff")
COCO = ("COCO-val2014", "COCO-annotations2014")
COCO_MORE = "; objects drawn from instances_val2014.json, from what the authors drew is not known"
CONTEXT_MORE = "; labels from the .mat files, not verified against the usual converted masks"
COCO_OBJECT = "; published on 5,000 images of val2017 drawn from COCO-Stuff's maps"

SEGMENTATION = (
    segmentation("voc", "VOC2012", VOC, ("0.40", 61.1, 0.185, 0.204), ""),
    segmentation("coco", "COCO2014", COCO, ("0.45", 37.4, 0.350, 0.276), COCO_MORE),
    segmentation("ade", "ADE2016", ("ADE2016",), ("0.45", 17.0, 0.361, 0.468), NO_RULE),
    segmentation("cityscapes", "Cityscapes", CITY, ("0.40", 27.0, 0.248, 0.483), NO_RULE),
    segmentation("stuff", "COCO-Stuff", STUFF, ("0.40", 23.7, 0.430, 0.333), NO_RULE),
    segmentation("context", "PascalContext", CONTEXT, ("0.45", 37.4, 0.389, 0.237), CONTEXT_MORE),
)
TCL_SETS = (
    ("tcl-voc", ("VOC2012", "VOC20"), VOC, ""),
    ("tcl-coco", ("COCO2014",), COCO, COCO_OBJECT),
    ("tcl-ade", ("ADE2016",), ("ADE2016",), ""),
    ("tcl-cityscapes", ("Cityscapes",), CITY, ""),
    ("tcl-stuff", ("COCO-Stuff",), STUFF, ""),
    ("tcl-context", ("PascalContext", "Context59"), CONTEXT, CONTEXT_MORE),
)
VG_SETS = (
    ("unc", "grounding-coco", ""),
    ("unc+", "grounding-coco", ", its authors say 71.08, 79.17, 59.40 of the checkpoint"),
    ("gref", "grounding-coco", ""),
    ("gref_umd", "grounding-coco", ""),
    ("referit", "grounding-referit-images", ""),
    ("flickr", "grounding-flickr-images", ""),
)


def all_targets() -> dict[str, Target]:
    """Every target by its name, in the order in which they are run."""
    tag_set = ("CC3M-TagMask",)
    found = [
        Target("demo", "the published demo's flags on the image that ships", ADAPTED, demo),
        Target("tags", "multi-tag selection on CC3M-TagMask", (*ADAPTED, *tag_set), tags),
        Target("captions", "masks from captions on CC3M-TagMask", (*ADAPTED, *tag_set), captions),
        *SEGMENTATION,
    ]
    for key, sets, releases, more in TCL_SETS:
        about = f"TCL itself on {' and '.join(sets)}"
        measure = tcl(key, sets, more)
        found.append(Target(key, about, WEIGHTS, measure, sets[0], releases, sets[0]))
    for data, images, more in VG_SETS:
        key, about = f"grounding-{data}", f"CLIP-VG, supervised, on {data}"
        needs = (f"clip-vg-{data}.pth", "grounding-labels", images)
        found.append(Target(key, about, needs, grounding(key, data, more)))
    return {target.name: target for target in found}
