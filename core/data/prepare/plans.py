"""What each official release looks like, and what becomes of its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...errors import TTDError
from ..dataset_yaml import load_shipped
from .captions import caption_plan
from .coco import draw_instances, read_instances
from .labels import identity_table, raw_table, read_label_mat, to_png, translate, translated_png
from .runner import Job, Plan

OBJECTS = ("instances", "stuff")
PICTURES = (".jpg", ".jpeg", ".png")


def make_plan(
    name: str,
    source: Path,
    root: Path,
    *,
    split: str = "val",
    objects: str | None = None,
    to: str | None = None,
) -> Plan:
    """The plan for a set from its release, to ROOT/SET/validation (ROOT/SET/SPLIT for another split).

    to: another name for that folder. objects: COCO2014 only, from `instances` (json) or `stuff`
    (pixel maps); None takes what is there, json first.
    Raises TTDError for an unknown name and when the release does not look as it should; it says
    what was looked for.
    """
    if name in ALIASES:
        raise TTDError(f"{name} reads the files of {ALIASES[name]}: prepare that")
    if name not in PLANS:
        raise TTDError(
            f"{name}: no converter for it; there are {', '.join(PLANS)}. Your own data needs none: "
            "describe it in a YAML"
        )
    if objects is not None and name != "COCO2014":
        raise TTDError(f"--objects is for COCO2014, not for {name}")
    source = source.expanduser()
    if not source.exists() and "{" not in str(source):
        raise TTDError(f"{source}: no such folder; --source is the unpacked release")
    plan = PLANS[name](name, source, root.expanduser(), split, objects)
    return replace(plan, out=plan.out.with_name(to)) if to else plan


def _voc(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    base = _folder(
        source, ("VOC2012", "VOCdevkit/VOC2012", "."), ("JPEGImages", "SegmentationClass")
    )
    ids = _listed(base / "ImageSets" / "Segmentation" / f"{split}.txt")
    jobs = [
        _job(
            key,
            base / "JPEGImages" / f"{key}.jpg",
            partial(
                translated_png,
                base / "SegmentationClass" / f"{key}.png",
                name,
                identity_table(name),
            ),
        )
        for key in ids
    ]
    return _plan(name, root, split, f"ImageSets/Segmentation/{split}.txt, SegmentationClass", jobs)


def _context(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    base = _folder(source, ("VOC2010", "VOCdevkit/VOC2010", "VOCdevkit", "."), ("JPEGImages",))
    raw = next(
        (
            folder
            for folder in _existing(
                source, ("trainval", "59_context_labels", "33_context_labels", "."), base
            )
            if any(folder.glob("*.mat"))
        ),
        None,
    )
    converted = base / "SegmentationClassContext"
    if raw is None and not converted.is_dir():
        raise TTDError(
            f"{source}: neither trainval/*.mat (459 classes) nor SegmentationClassContext/*.png in it"
        )
    lists = [
        base / "ImageSets" / "SegmentationContext" / f"{split}.txt",
        base / "ImageSets" / "Main" / f"{split}.txt",
    ]
    ids = _listed(next((path for path in lists if path.is_file()), lists[-1]))
    folder, ending = (raw, ".mat") if raw else (converted, ".png")
    make = (
        partial(_context_png, name)
        if raw
        else partial(translated_png, name=name, table=identity_table(name))
    )
    jobs = [
        _job(key, base / "JPEGImages" / f"{key}.jpg", partial(make, folder / f"{key}{ending}"))
        for key in ids
        if (folder / f"{key}{ending}").is_file()
    ]
    kind = (
        "459 classes in .mat, those outside the 59 to background"
        if raw
        else "SegmentationClassContext"
    )
    return _plan(name, root, split, kind, jobs)


def _context_png(name: str, path: Path) -> bytes:
    return to_png(translate(read_label_mat(path), raw_table(name, other=0), path), name)


def _ade(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    part = {"val": "validation", "train": "training"}.get(split, split)
    base = _folder(source, ("ADEChallengeData2016", "."), ("images", "annotations"))
    images, masks = _parts(base, "images", part), _parts(base, "annotations", part)
    jobs = [
        _job(key, path, partial(translated_png, masks / f"{key}.png", name, identity_table(name)))
        for key, path in _pictures(images)
    ]
    return _plan(name, root, split, f"annotations of {part}, values as they are", jobs)


def _cityscapes(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    base = _folder(source, (".", "cityscapes"), (f"leftImg8bit/{split}", f"gtFine/{split}"))
    pictures = sorted((base / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
    raw = any((base / "gtFine" / split).glob("*/*_gtFine_labelIds.png"))
    kind, table = ("labelIds", raw_table(name)) if raw else ("labelTrainIds", identity_table(name))
    jobs = []
    for path in pictures:
        key = path.name.removesuffix("_leftImg8bit.png")
        mask = base / "gtFine" / split / path.parent.name / f"{key}_gtFine_{kind}.png"
        jobs.append(_job(key, path, partial(translated_png, mask, name, table)))
    return _plan(name, root, split, kind, jobs)


def _stuff(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    maps, images = _stuff_folders(source, split)
    jobs = [
        _job(key, images / f"{key}.jpg", partial(translated_png, path, name, raw_table(name)))
        for key, path in _pictures(maps)
        if not key.endswith("TrainIds")
    ]
    what = (
        "stuffthingmaps"
        if name == "COCO-Stuff"
        else "stuffthingmaps, unlabelled pixels to background"
    )
    return _plan(name, root, split, what, jobs)


def _coco(name: str, source: Path, root: Path, split: str, objects: str | None) -> Plan:
    wanted = [
        f"annotations/instances_{split}2014.json",
        f"annotations/instances_{split}2017.json",
        "instances.json",
        f"instances_{split}2014.json",
        f"instances_{split}2017.json",
    ]
    found = next((source / item for item in wanted if (source / item).is_file()), None)
    if objects == "stuff" or (
        objects is None and found is None and any(source.glob("stuffthingmaps*"))
    ):
        return _stuff(name, source, root, split, None)
    if found is None:
        raise TTDError(
            f"{source}: none of {', '.join(wanted)} in it"
            + ", nor stuffthingmaps/" * (objects is None)
        )
    year = "2014" if "2014" in found.name else "2017"
    folders = _existing(source, (f"{split}{year}", f"images/{split}{year}", "images"), source)
    if not folders:
        raise TTDError(f"{source}: no images in {split}{year}/, images/{split}{year}/ or images/")
    pictures, annotated = read_instances(found)
    jobs = [
        _job(
            Path(p["file_name"]).stem,
            folders[0] / p["file_name"],
            partial(_instances_png, name, annotated.get(p["id"], []), p["height"], p["width"]),
        )
        for p in pictures
    ]
    return _plan(name, root, split, f"{found.name}, smaller objects on top", jobs)


def _instances_png(name: str, annotations: list[dict], height: int, width: int) -> bytes:
    return to_png(draw_instances(annotations, height, width), name)


def _stuff_folders(source: Path, split: str) -> tuple[Path, Path]:
    """(pixel maps, images) of COCO-Stuff, as the release unpacks or as mmsegmentation arranges it."""
    part = f"{split}2017"
    maps = [
        folder
        for folder in _existing(
            source,
            (
                f"stuffthingmaps/{part}",
                f"stuffthingmaps_trainval2017/{part}",
                f"annotations/{part}",
                part,
                "stuffthingmaps",
            ),
            source,
        )
        if any(folder.glob("*.png"))
    ]
    images = [
        folder
        for folder in _existing(source, (f"images/{part}", part, "images"), source)
        if any(folder.glob("*.jpg"))
    ]
    if not maps or not images:
        raise TTDError(
            f"{source}: no {'pixel maps' if not maps else 'images'}; wanted stuffthingmaps/{part}/*.png "
            f"and {part}/*.jpg or images/{part}/*.jpg"
        )
    return maps[0], images[0]


PLANS: dict[str, Callable[..., Plan]] = {
    "VOC2012": _voc,
    "COCO2014": _coco,
    "ADE2016": _ade,
    "Cityscapes": _cityscapes,
    "COCO-Stuff": _stuff,
    "PascalContext": _context,
    "CC3M": caption_plan,
    "CC12M": caption_plan,
}
NAMES = tuple(PLANS)
ALIASES = {"VOC20": "VOC2012", "Context59": "PascalContext"}


def _plan(name: str, root: Path, split: str, kind: str, jobs: list[Job]) -> Plan:
    out = root / load_shipped(name)["folder"] / ("validation" if split == "val" else split)
    if not jobs:
        raise TTDError(f"{name}: no images found for split {split} ({kind}); check --source")
    return Plan(
        out,
        {"set": name, "split": split, "made_from": kind},
        f"{name}: {len(jobs)} images, masks from {kind}",
        jobs,
        len(jobs),
    )


def _job(key: str, image: Path, content: Callable[[], bytes]) -> Job:
    return Job(key, image, f"image/{key}{image.suffix.lower()}", f"mask/{key}.png", content)


def _folder(source: Path, bases: Sequence[str], needed: Sequence[str]) -> Path:
    """The first of SOURCE/base that has all the needed folders."""
    for base in bases:
        if all((source / base / part).is_dir() for part in needed):
            return source / base
    there = ", ".join(sorted(os.listdir(source))[:6]) if source.is_dir() else "it is a file"
    raise TTDError(
        f"{source}: no {' and '.join(f'{part}/' for part in needed)} in it or in "
        f"{', '.join(base for base in bases if base != '.')}; there is: {there or 'nothing'}"
    )


def _existing(source: Path, parts: Sequence[str], base: Path) -> list[Path]:
    """Those of SOURCE/part and BASE/part that are folders."""
    return [
        place / part
        for part in parts
        for place in dict.fromkeys((source, base))
        if (place / part).is_dir()
    ]


def _parts(base: Path, kind: str, part: str) -> Path:
    """BASE/kind/part, or BASE/kind where the release has only one part."""
    return base / kind / part if (base / kind / part).is_dir() else base / kind


def _pictures(folder: Path) -> list[tuple[str, Path]]:
    """(id, path) of the images directly in a folder, sorted."""
    return [
        (path.stem, path)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in PICTURES and not path.name.startswith(".")
    ]


def _listed(path: Path) -> list[str]:
    """Ids of a split list: the first word of each line. TTDError that names the release's other lists for none."""
    try:
        ids = [
            line.split()[0]
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.strip()
        ]
    except OSError as error:
        raise TTDError(
            f"{path}: the list of the split cannot be read ({error.strerror}){_lists(path)}"
        ) from None
    if not ids:
        raise TTDError(f"{path}: an empty list{_lists(path)}")
    return ids


def _lists(path: Path) -> str:
    """What to do instead of reading the list `path`, where there are other ones in its folder."""
    others = sorted(other.stem for other in path.parent.glob("*.txt") if other != path)
    return (
        f"; there are {', '.join(others[:8])}: choose one with --split, and its folder with --to"
        if others
        else ""
    )
