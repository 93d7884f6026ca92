"""What the two scripts that make masks share: one shard's work, and sharing it among processes."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from core.utils.memory import memory_errors
from tools.cli import load_model, say
from tools.mask_options import make_protocol

if TYPE_CHECKING:
    import numpy as np

    from core.backbones.base import Backbone
    from core.data.records import Skipped
    from core.masks.pipeline import Job
    from core.masks.protocol import MaskProtocol
    from core.masks.results import MaskFolder

READERS = 8  # threads that read and resize images for a GPU, where there are so many cores
Report = Callable[[str, Any], None]  # event ("begin", "step", "end") and what goes with it


@dataclass(frozen=True)
class Task:
    """What a script hands over: the images, the set's own background rule, and how an image becomes a mask.

    make(backbone, protocol, batch) gives an object with `make(job, image, scores)`; identity:
    what else decides the masks, where the images are among it; extras: settings for the folder's
    name; categories: COCO's category id by pixel value, for rle.json.
    """

    name: str
    description: str
    rule: str
    background_threshold: float
    jobs: list[Job]
    make: Callable[[Backbone, MaskProtocol, int], Any]
    categories: dict[int, int]
    palette: np.ndarray | None = None
    skipped: list[Skipped] = field(default_factory=list)
    identity: dict[str, object] = field(default_factory=dict)
    extras: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """One process's share: every `world`-th image from `rank` on, and where it computes; `token` names the run."""

    rank: int
    world: int
    device: str | None
    token: str
    threads: int | None = None


def produce(args: argparse.Namespace, setup: Callable[[argparse.Namespace], Task]) -> int:
    """Make all masks that are missing, in this process or several; 0, or 2 when images had to be left out."""
    args.protocol = make_protocol(args)
    args.head = args.protocol.head
    shards = plan(args)
    progress = Progress(shards)
    if len(shards) == 1:
        run_shard(args, setup, shards[0], progress)
    else:
        _run_processes(args, setup, shards, progress)
    return progress.finish()


def plan(args: argparse.Namespace) -> list[Shard]:
    """The shards that this process runs: its own under torchrun, else one per GPU or worker."""
    gpus = _gpus(args)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank))
        names = [
            os.environ.get(key, "") for key in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
        ]
        if os.environ.get("LOCAL_WORLD_SIZE") == str(
            world
        ):  # one machine: its torchrun names the run uniquely
            names.append(str(os.getppid()))
        return [Shard(rank, world, gpus[local % len(gpus)], "torchrun " + " ".join(names))]
    count = max(len(gpus), args.workers or 1)
    threads = max(1, _cpus() // count) if count > 1 else None
    token = uuid.uuid4().hex
    return [Shard(rank, count, gpus[rank % len(gpus)], token, threads) for rank in range(count)]


def _gpus(args: argparse.Namespace) -> list[str | None]:
    """Devices to spread over: --device, or those of --gpus, or all there are under torchrun; None = the default."""
    if args.device is not None:
        return [args.device]
    numbers = [part for text in args.gpus or [] for part in text.split(",") if part]
    if not all(number.isdecimal() for number in numbers):
        raise TTDError(
            f"--gpus {' '.join(args.gpus)}: not GPU numbers; use --gpus 0 1, or --device cpu"
        )
    if not numbers and "RANK" not in os.environ:
        return [None]
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{number}" for number in numbers or range(torch.cuda.device_count())]
    if numbers and os.environ.get("RANK", "0") == "0":
        say(f"--gpus {' '.join(numbers)}: no GPU here, running on the CPU")
    return ["cpu"]


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_shard(
    args: argparse.Namespace,
    setup: Callable[[argparse.Namespace], Task],
    shard: Shard,
    report: Report,
) -> None:
    """Load everything and make the masks of one shard. Raises TTDError, also when memory or disk are full."""
    task = setup(args)
    options = argparse.Namespace(**{**vars(args), "device": shard.device, "gpus": None})
    from core.refine.pamr import PAMR

    if shard.threads:
        import torch

        torch.set_num_threads(shard.threads)
    backbone = load_model(options)
    backbone.pamr = PAMR(pictures=len(task.jobs))
    used = args.protocol.resolve(
        backbone.arch, backbone.image_size, task.rule, task.background_threshold
    )
    folder = open_folder(args, task, backbone, used, shard.token)
    try:
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
                "device": str(backbone.device),
            },
        )
        for item in task.skipped[shard.rank :: shard.world]:
            folder.skip(item.id, item.reason)
            report("step", {"skipped": 1})
        _make_masks(
            args,
            task.make(backbone, used, args.batch),
            task,
            todo,
            used,
            folder,
            report,
            _readers(backbone.device.type, shard.world),
        )
        if args.rle:
            _write_rle(task, folder)
    finally:
        folder.close()
    report("end", None)


def _readers(device: str, processes: int) -> int:
    """Threads that read and resize images: one keeps up with a CPU's towers, a GPU needs several."""
    return max(1, min(READERS, _cpus() // processes)) if device == "cuda" else 1


def _make_masks(
    args: argparse.Namespace,
    maker: Any,
    task: Task,
    todo: Sequence[Job],
    used: MaskProtocol,
    folder: MaskFolder,
    report: Report,
    readers: int,
) -> None:
    from core.masks.pipeline import read_ahead
    from core.masks.writer import MaskWriter

    with MaskWriter(folder, task.palette) as writer:
        for job, picture in read_ahead(todo, used, readers):
            if isinstance(picture, TTDError):
                folder.skip(job.id, str(picture))
                report("step", {"skipped": 1})
                continue
            with memory_errors(f"not enough memory for {job.id}; use a smaller --batch or --image"):
                mask, scores = maker.make(job, picture, args.save_scores)
            writer.write(job.id, mask, scores)
            report("step", {"made": 1})


def open_folder(
    args: argparse.Namespace, task: Task, backbone: Backbone, used: MaskProtocol, token: str
) -> MaskFolder:
    """The result's folder, ours and locked, with its protocol.json."""
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
    identity = {
        **used.as_dict(),
        "arch": args.arch,
        "head": backbone.head,
        "checksum": backbone.checksum,
        "dtype": args.dtype,
        "device": backbone.device.type,
        "batch": args.batch,
        "data": task.name,
        "pamr_kernel": backbone.pamr.kernel(backbone.device) if used.pamr else None,
        **task.identity,
    }
    model = {
        "arch": backbone.arch,
        "head": backbone.head,
        "checksum": backbone.checksum,
        "patch": backbone.patch,
        "stride": backbone.stride,
        "mask_scale": backbone.mask_scale,
        "mask_bias": backbone.mask_bias,
    }
    arguments = {
        key: value if isinstance(value, (int, float, list, type(None))) else str(value)
        for key, value in vars(args).items()
        if key != "protocol"
    }
    meta = {
        "name": name,
        "identity": identity,
        "protocol": used.as_dict(),
        "model": model,
        "arguments": arguments,
        "input": task.description,
        "pictures": len(task.jobs),
        "versions": versions(),
        "weight_files": weight_stamps(args.arch, args.weights, args.lora),
        "command": shlex.join(sys.argv),
        "started_at": now(),
    }
    return MaskFolder(args.out / name, meta, token, args.overwrite)


def _write_rle(task: Task, folder: MaskFolder) -> None:
    """rle.json of the whole folder, by whichever shard finds it complete."""
    if all(folder.has(job.id) for job in task.jobs):
        from core.masks.coco_rle import write_rle

        write_rle(folder, [job.id for job in task.jobs], task.categories)


class Progress:
    """Collects what the shards of this process report, shows it (rank 0), and says what came of it; a `Report`."""

    def __init__(self, shards: Sequence[Shard]):
        self._quiet, self._bar, self._path = shards[0].rank > 0, None, ""
        self._of = (
            f" by the first of {shards[0].world} processes" if shards[0].world > len(shards) else ""
        )
        self._counts = {"made": 0, "kept": 0, "skipped": 0}
        self._start = time.perf_counter()

    def __call__(self, event: str, value: Any) -> None:
        if event == "begin":
            self._begin(value)
        elif event == "step":
            for key, count in value.items():
                self._counts[key] += count
            self._bar.set_postfix(skipped=self._counts["skipped"], refresh=False)
            self._bar.update(1)

    def _begin(self, value: dict) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._path, self._start = value["path"], time.perf_counter()
            if not self._quiet:
                print(value["description"])
                settings = {
                    key: item for key, item in value["settings"].items() if item is not None
                }
                print(
                    "protocol "
                    + ", ".join(f"{key} {item}" for key, item in settings.items()).removeprefix(
                        "name "
                    )
                    + f", {value['device']}",
                    flush=True,
                )
            self._bar = tqdm(
                total=0, unit="picture", disable=True if self._quiet else None, smoothing=0.1
            )
        self._bar.total += value["all"]
        self._bar.n += value["kept"]
        self._bar.initial = (
            getattr(self._bar, "initial", 0) + value["kept"]
        )  # a bar that is not shown has none
        self._counts["kept"] += value["kept"]
        self._bar.refresh()

    def finish(self) -> int:
        """The last lines and the exit code."""
        self._bar.close()
        seconds, counts = time.perf_counter() - self._start, self._counts
        if not self._quiet:
            kept = f", {counts['kept']} were there already" if counts["kept"] else ""
            rate = f"{counts['made'] / seconds:.2f} images/s"
            print(f"{counts['made']} masks{self._of} in {seconds:.1f} s ({rate}){kept}")
            print(self._path)
        if counts["skipped"]:
            say(f"{counts['skipped']} images could not be used: see {self._path}/skipped.jsonl")
        return 2 if counts["skipped"] else 0


def _run_processes(
    args: argparse.Namespace,
    setup: Callable[[argparse.Namespace], Task],
    shards: list[Shard],
    progress: Progress,
) -> None:
    """One process per shard; the first that fails ends all. Raises TTDError with what it said."""
    import multiprocessing
    import queue

    context = multiprocessing.get_context("spawn")
    events = context.Queue()
    workers = [
        context.Process(target=_child, args=(args, setup, shard, events), daemon=True)
        for shard in shards
    ]
    for worker in workers:
        worker.start()
    running = len(workers)
    try:
        while running:
            try:
                event, value = events.get(timeout=0.5)
            except queue.Empty:
                if dead := [
                    worker.exitcode for worker in workers if worker.exitcode not in (None, 0)
                ]:
                    raise TTDError(
                        f"a process ended with exit code {dead[0]}, out of memory perhaps; the same command "
                        "resumes where it stopped"
                    ) from None
                continue
            if event == "error":
                raise TTDError(value)
            progress(event, value)
            running -= event == "end"
    finally:
        for worker in workers:
            worker.join(5 if running == 0 else 0)
            worker.terminate()


def _child(
    args: argparse.Namespace, setup: Callable[[argparse.Namespace], Task], shard: Shard, events: Any
) -> None:
    """A shard in a process of its own, which ends when its parent does, so that the lock is not held for nothing."""
    import multiprocessing

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        run_shard(args, setup, shard, lambda event, value: events.put((event, value)))
    except TTDError as error:
        events.put(("error", str(error)))
    except KeyboardInterrupt:
        return
