"""COCO's objects and COCO-Stuff: from the instances json or from the pixel maps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from ...errors import TTDError
from ..labels.turned import stored_size, upright_size
from .coco import draw_instances, read_instances
from .coco_json import Annotation, Image
from .labels import raw_table, to_png, translated_png
from .places import existing_folders, first_with, images_in
from .runner import Plan, mask_job, mask_plan

YEARS = ("2014", "2017")


def stuff_plan(name: str, source: Path, root: Path, split: str, _: str | None) -> Plan:
    """COCO-Stuff's pixel maps (stuffthingmaps), for COCO-Stuff or for the objects of COCO2014.

    TTDError when the maps or the images are not there.
    """
    maps, images = _stuff_folders(source, split)
    table = raw_table(name)
    jobs = []
    for key, path in images_in(maps):
        if key.endswith("TrainIds"):  # of another project's converter
            continue
        content = partial(translated_png, path, name, table)
        jobs.append(mask_job(key, images / f"{key}.jpg", content))
    objects = ", unlabelled pixels to background" if name != "COCO-Stuff" else ""
    return mask_plan(name, root, split, f"stuffthingmaps{objects}", jobs)


def objects_plan(name: str, source: Path, root: Path, split: str, objects: str | None) -> Plan:
    """COCO's 80 objects, from `objects`: "instances" (json) or "stuff" (pixel maps).

    None takes what is there, json first. TTDError when neither is there.
    """
    annotations = [f"instances_{split}{year}.json" for year in YEARS]
    wanted = [*(f"annotations/{file}" for file in annotations), "instances.json", *annotations]
    found = next((source / item for item in wanted if (source / item).is_file()), None)
    has_maps = any(source.glob("stuffthingmaps*"))
    if objects == "stuff" or (objects is None and found is None and has_maps):
        return stuff_plan(name, source, root, split, None)
    if found is None:
        maps = ", nor stuffthingmaps/" if objects is None else ""
        raise TTDError(f"{source}: none of {', '.join(wanted)} in it{maps}")
    folder = _image_folder(source, split, "2014" if "2014" in found.name else "2017")
    content = read_instances(found)
    jobs = []
    for image in content.images:
        path = _image_path(source, folder, image.file_name)
        make = partial(_instances_png, name, image, path, content.objects.get(image.id, []))
        jobs.append(mask_job(path.stem, path, make))
    plan = mask_plan(name, root, split, f"{found.name}, smaller objects on top", jobs)
    if content.orphans:
        about = f"{plan.about}; {content.orphans} annotations of images that it does not list"
        return replace(plan, about=about)
    return plan


def _instances_png(name: str, image: Image, path: Path, annotations: list[Annotation]) -> bytes:
    """The label map of an image. TTDError when the image has another size than the json says."""
    size, stored = (image.width, image.height), stored_size(path)
    if stored is not None and size not in (stored[0], upright_size(path)):
        raise TTDError(
            f"{path} is {stored[0][0]}x{stored[0][1]}, but {size[0]}x{size[1]} in the json"
        )
    return to_png(draw_instances(annotations, image.height, image.width), name)


def _image_path(source: Path, folder: Path, name: str) -> Path:
    """Where an image is: in the images' folder, or where its name counts from the release."""
    beside = folder / name
    whole = source / name
    if not beside.is_file() and whole.is_file() and folder in whole.parents:
        return whole
    return beside


def _image_folder(source: Path, split: str, year: str) -> Path:
    part = f"{split}{year}"
    folder = next(existing_folders((part, f"images/{part}", "images"), source), None)
    if folder is None:
        raise TTDError(f"{source}: no images in {part}/, images/{part}/ or images/")
    return folder


def _stuff_folders(source: Path, split: str) -> tuple[Path, Path]:
    """(pixel maps, images), as the release unpacks or as mmsegmentation arranges it."""
    part = f"{split}2017"
    places = (
        f"stuffthingmaps/{part}",
        f"stuffthingmaps_trainval2017/{part}",
        f"annotations/{part}",
        part,
        "stuffthingmaps",
    )
    maps = first_with("*.png", existing_folders(places, source))
    images = first_with("*.jpg", existing_folders((f"images/{part}", part, "images"), source))
    if maps is None or images is None:
        lost = "pixel maps" if maps is None else "images"
        raise TTDError(
            f"{source}: no {lost}; wanted stuffthingmaps/{part}/*.png "
            f"and {part}/*.jpg or images/{part}/*.jpg"
        )
    return maps, images
