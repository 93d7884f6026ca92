"""PASCAL VOC, PASCAL Context, ADE20K and Cityscapes: what each official release looks like."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ...errors import TTDError
from .labels import (
    identity_table,
    raw_table,
    read_label_mat,
    refuse_converted,
    to_png,
    translate,
    translated_png,
)
from .places import existing_folders, find_base, first_with, images_in, part_of, read_split
from .runner import Job, Plan, mask_job, mask_plan

CONTEXT_FOLDERS = ("trainval", "59_context_labels", "33_context_labels", ".")


def voc_plan(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    """PASCAL VOC 2012: JPEGImages, SegmentationClass, ImageSets/Segmentation/SPLIT.txt.

    TTDError when one of them is not there.
    """
    bases = ("VOC2012", "VOCdevkit/VOC2012", ".")
    base = find_base(source, bases, ("JPEGImages", "SegmentationClass"))
    table = identity_table(name)
    jobs = []
    for key in read_split(base / "ImageSets" / "Segmentation" / f"{split}.txt"):
        mask = base / "SegmentationClass" / f"{key}.png"
        image = base / "JPEGImages" / f"{key}.jpg"
        jobs.append(mask_job(key, image, partial(translated_png, mask, name, table)))
    kind = f"ImageSets/Segmentation/{split}.txt, SegmentationClass"
    return mask_plan(name, root, split, kind, jobs)


def context_plan(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    """PASCAL Context: JPEGImages of VOC 2010 and *.mat with 459 classes, or converted PNGs.

    TTDError when neither is there.
    """
    bases = ("VOC2010", "VOCdevkit/VOC2010", "VOCdevkit", ".")
    base = find_base(source, bases, ("JPEGImages",))
    converted = base / "SegmentationClassContext"
    raw = first_with("*.mat", existing_folders(CONTEXT_FOLDERS, source, base))
    if raw is not None:
        make, folder, ending = partial(_context_png, name), raw, ".mat"
        kind = "459 classes in .mat, those outside the 59 to background"
    elif converted.is_dir():
        make = partial(translated_png, name=name, table=identity_table(name))
        folder, ending, kind = converted, ".png", "SegmentationClassContext"
    else:
        raise TTDError(
            f"{source}: neither trainval/*.mat (459 classes) nor SegmentationClassContext/*.png "
            "in it"
        )
    jobs = []
    for key in _context_ids(base, split):
        mask, image = folder / f"{key}{ending}", base / "JPEGImages" / f"{key}.jpg"
        if mask.is_file():
            jobs.append(mask_job(key, image, partial(make, mask)))
    return mask_plan(name, root, split, kind, jobs)


def _context_ids(base: Path, split: str) -> list[str]:
    """Ids of a split: of the list of Context itself, or else of VOC's Main list."""
    own = base / "ImageSets" / "SegmentationContext" / f"{split}.txt"
    return read_split(own if own.is_file() else base / "ImageSets" / "Main" / f"{split}.txt")


def _context_png(name: str, path: Path) -> bytes:
    return to_png(translate(read_label_mat(path), raw_table(name, other=0), path), name)


def ade_plan(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    """ADE20K of the scene parsing challenge: images and annotations by part.

    TTDError when one of them is not there.
    """
    part = {"val": "validation", "train": "training"}.get(split, split)
    base = find_base(source, ("ADEChallengeData2016", "."), ("images", "annotations"))
    masks, table = part_of(base, "annotations", part), identity_table(name)
    refuse_converted(name, sorted(masks.glob("*.png")))
    jobs = []
    for key, path in images_in(part_of(base, "images", part)):
        mask = masks / f"{key}.png"
        jobs.append(mask_job(key, path, partial(translated_png, mask, name, table)))
    return mask_plan(name, root, split, f"annotations of {part}, values as they are", jobs)


def cityscapes_plan(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    """Cityscapes: leftImg8bit and gtFine, from labelIds or, where they are missing, trainIds.

    TTDError when one of the folders is not there.
    """
    base = find_base(source, (".", "cityscapes"), (f"leftImg8bit/{split}", f"gtFine/{split}"))
    masks = base / "gtFine" / split
    kind, table = "labelTrainIds", identity_table(name)
    if any(masks.glob("*/*_gtFine_labelIds.png")):
        kind, table = "labelIds", raw_table(name)
        refuse_converted(name, sorted(masks.glob("*/*_gtFine_labelIds.png")))
    jobs: list[Job] = []
    for path in sorted((base / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")):
        key = path.name.removesuffix("_leftImg8bit.png")
        mask = masks / path.parent.name / f"{key}_gtFine_{kind}.png"
        jobs.append(mask_job(key, path, partial(translated_png, mask, name, table)))
    return mask_plan(name, root, split, kind, jobs)
