"""What the two scripts that make masks share: one shard's work, from the images to the files."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from core.utils.files import is_away
from core.utils.memory import memory_errors
from tools.cli import load_model
from tools.exports import export_result
from tools.mask_options import make_protocol, model_defaults
from tools.mask_progress import Progress
from tools.mask_shards import Report, Shard, cpus, plan, run_processes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.backbones.base import Backbone
    from core.data.inputs.table import Inputs
    from core.data.records import Skipped
    from core.masks.class_list import LabelClass
    from core.masks.pipeline import Job, Loaded
    from core.masks.protocol import MaskProtocol
    from core.masks.results import MaskFolder
    from core.masks.writer import MaskWriter

READERS = 8  # threads that read and resize images for a GPU, where there are so many cores


@dataclass(frozen=True)
class Task:
    """What a script hands over: the images, the set's own rule, and how an image becomes a mask.

    inputs: makes what the masks are made from, to be found changed by a later run.
    make(backbone, protocol, batch) gives an object with `make(job, image, scores)`; identity:
    what else decides the masks, where the images are among it; extras: settings for the folder's
    name; categories: COCO's category id by pixel value, for rle.json; classes: for classes.json;
    model_defaults: names of the protocol's fields for which the model's own default is asked.
    """

    name: str
    description: str
    rule: str
    background_threshold: float
    jobs: list[Job]
    make: Callable[[Backbone, MaskProtocol, int], Any]
    categories: dict[int, int]
    inputs: Callable[[], Inputs]
    palette: npt.NDArray[np.uint8] | None = None
    skipped: list[Skipped] = field(default_factory=list)
    identity: dict[str, object] = field(default_factory=dict)
    extras: dict[str, object] = field(default_factory=dict)
    model_defaults: tuple[str, ...] = ("image", "templates", "background_threshold")
    classes: list[LabelClass] = field(default_factory=list)


def produce(args: argparse.Namespace, setup: Callable[[argparse.Namespace], Task]) -> int:
    """Make all masks that are missing, in this process or several.

    Returns the exit code: 0, or 2 when images had to be left out.
    """
    args.head = make_protocol(args).head  # and every check that needs no model
    shards = plan(args)
    progress = Progress(shards)
    work = partial(run_shard, args, setup)
    if len(shards) == 1:
        work(shards[0], progress)
    else:
        run_processes(work, shards, progress)
    return progress.finish()


def run_shard(
    args: argparse.Namespace,
    setup: Callable[[argparse.Namespace], Task],
    shard: Shard,
    report: Report,
) -> None:
    """Load everything and make the masks of one shard.

    Raises TTDError, also when memory or disk is full.
    """
    from core.masks.class_list import write_classes
    from core.masks.pipeline import read_ahead
    from core.masks.writer import MaskWriter

    task = setup(args)
    backbone = _load(args, shard, len(task.jobs))
    rule, cut = task.rule, task.background_threshold
    usual = model_defaults(args, backbone.own.defaults, task.model_defaults, rule)
    chosen = make_protocol(args, usual)
    used = chosen.resolve(backbone.arch, backbone.image_size, rule, cut)
    used.views.check(backbone.patch)
    folder = open_folder(args, task, backbone, used, shard.token, usual)
    try:
        if task.classes:
            write_classes(folder.path, task.classes)
        mine = task.jobs[shard.rank :: shard.world]
        todo = [job for job in mine if not folder.has(job.id, args.save_scores)]
        report(
            "begin",
            {
                "description": task.description,
                "path": str(folder.path),
                "all": len(mine),
                "kept": len(mine) - len(todo),
                "settings": used.as_dict(),
                "defaults": usual,
                "device": str(backbone.device),
            },
        )
        _skip(task.skipped[shard.rank :: shard.world], folder, report)
        maker = task.make(backbone, used, args.batch)
        make = partial(maker.make, scores=args.save_scores)
        readers = _readers(backbone.device.type, shard.world)
        with (
            MaskWriter(folder, task.palette) as writer,
            closing(read_ahead(todo, used.views, readers)) as images,
        ):
            _make_masks(make, images, writer, folder, report)
        if args.rle:
            _write_rle(task, folder)
        if args.export and _is_settled(task, folder):
            export_result(folder.path, args.export)
    finally:
        folder.close()
    report("end", None)


def _readers(device: str, processes: int) -> int:
    """Threads that read and resize images: one is enough for a CPU, a GPU needs several."""
    return max(1, min(READERS, cpus() // processes)) if device == "cuda" else 1


def _skip(items: Sequence[Skipped], folder: MaskFolder, report: Report) -> None:
    """List what cannot be used."""
    for item in items:
        folder.skip(item.id, item.reason, item.retry)
        report("step", {"unreadable" if item.retry else "skipped": 1})


def _load(args: argparse.Namespace, shard: Shard, images: int) -> Backbone:
    """The model on the shard's device, its PAMR set up for a job of so many images."""
    import torch

    from core.refine.pamr import PAMR

    if shard.threads:
        torch.set_num_threads(shard.threads)
    options = argparse.Namespace(**{**vars(args), "device": shard.device, "gpus": None})
    backbone = load_model(options)
    backbone.pamr = PAMR(pictures=images)
    return backbone


def _make_masks(
    make: Callable[..., Any],
    loaded: Iterable[tuple[Job, Loaded | TTDError]],
    writer: MaskWriter,
    folder: MaskFolder,
    report: Report,
) -> None:
    """Segment and store every image; those that cannot be read are listed."""
    for job, image in loaded:
        if isinstance(image, TTDError):
            lost = is_away(image)
            folder.skip(job.id, str(image), lost)
            report("step", {"unreadable" if lost else "skipped": 1})
            continue
        with memory_errors(f"not enough memory for {job.id}; use a smaller --batch or --image"):
            mask, scores = make(job, image)
        writer.write(job.id, mask, scores)
        report("step", {"made": 1})


def open_folder(
    args: argparse.Namespace,
    task: Task,
    backbone: Backbone,
    used: MaskProtocol,
    token: str,
    usual: Mapping[str, Any],
) -> MaskFolder:
    """The result's folder, ours and locked, with its protocol.json. TTDError: see `MaskFolder`.

    usual: what of `used` was the model's own default.
    """
    from core.masks.protocol import folder_name
    from core.masks.results import MaskFolder
    from core.utils.provenance import now, versions, weight_stamps

    extras = {
        "weights": Path(args.weights).stem if args.weights else None,
        "dtype": None if args.dtype == "float32" else args.dtype,
        **task.extras,
        "limit": args.limit,
    }
    name = folder_name(args.arch, task.name, used, args.lora is not None, task.rule, extras)
    meta = {
        "name": name,
        "identity": _identity(args, task, backbone, used),
        "protocol": used.as_dict(),
        "model": _model(backbone),
        "model_defaults": dict(usual),
        "arguments": _arguments(args),
        "input": task.description,
        "pictures": len(task.jobs),
        "versions": versions(),
        "weight_files": weight_stamps(args.arch, args.weights, args.lora),
        "command": shlex.join(sys.argv),
        "started_at": now(),
    }
    return MaskFolder(args.out / name, meta, token, args.overwrite, task.inputs)


def _identity(
    args: argparse.Namespace, task: Task, backbone: Backbone, used: MaskProtocol
) -> dict[str, Any]:
    """All that decides the masks."""
    kernel = backbone.pamr.kernel(backbone.device) if used.pamr else None
    return {
        **used.as_dict(),
        "arch": args.arch,
        "head": backbone.head,
        "checksum": backbone.checksum,
        "dtype": args.dtype,
        "device": backbone.device.type,
        "batch": args.batch,
        "data": task.name,
        "pamr_kernel": kernel,
        **task.identity,
    }


def _model(backbone: Backbone) -> dict[str, Any]:
    """The model's constants, for the record."""
    names = ("arch", "head", "checksum", "patch", "stride", "mask_scale", "mask_bias")
    return {name: getattr(backbone, name) for name in names}


def _arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The command line, as JSON can hold it."""
    values = {key: value for key, value in vars(args).items() if key != "protocol"}
    for key, value in values.items():
        if not isinstance(value, (int, float, list, type(None))):
            values[key] = str(value)
    return values


def _is_settled(task: Task, folder: MaskFolder) -> bool:
    """Whether every image of the whole run has its mask or is listed as one that cannot be used."""
    skipped = folder.skipped()
    return all(job.id in skipped or folder.has(job.id) for job in task.jobs)


def _write_rle(task: Task, folder: MaskFolder) -> None:
    """rle.json of the whole folder, by whichever shard finds it complete."""
    if all(folder.has(job.id) for job in task.jobs):
        from core.masks.coco_rle import write_rle

        write_rle(folder, [job.id for job in task.jobs], task.categories)
