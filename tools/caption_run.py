"""What the scripts share that write a line per caption: options, and the loop that resumes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.utils.memory import in_smaller_batches
from core.utils.shown import first_few
from tools.cli import positive_int, say, trust_option, worker_count

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.inputs.table import Inputs
    from core.data.records import RecordSet, Skipped
    from core.maps.views import Views
    from core.tags.pipeline import Batch
    from core.tags.results import ResultPaths
    from core.tags.writer import Lines, Remade, TagWriter

SMALLER = "use a smaller --image or fewer --scales"

# The lines of a batch for the results of these names, by name; so many records go through the
# model together.
LinesOf = Callable[["Batch", Sequence[str], int], Mapping[str, Sequence[str]]]


def caption_options(group: argparse._ArgumentGroup, out: str, batch: int, part: str = "") -> None:
    """Options of the loop. out, batch: defaults; part: of what --limit takes a part."""
    group.add_argument(
        "--limit", type=positive_int, metavar="N", help=f"only the first N records{part}"
    )
    group.add_argument(
        "--out",
        type=Path,
        default=Path(out),
        metavar="FOLDER",
        help="where the results go (default: ./%(default)s)",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="replace results made with other settings"
    )
    trust_option(group)
    group.add_argument(
        "--batch",
        type=positive_int,
        default=batch,
        metavar="N",
        help="records at a time (default: %(default)s)",
    )
    group.add_argument(
        "--workers",
        type=worker_count,
        default=min(4, os.cpu_count() or 1),
        metavar="N",
        help="threads that read images ahead (default: %(default)s)",
    )


@dataclass(frozen=True)
class CaptionRun:
    """What a script hands over.

    results: the files of every result, by name. identity: all that decides their lines. meta: what
    else goes into their meta files. views: what is looked at. unit: what a record is called.
    """

    results: Mapping[str, ResultPaths]
    records: RecordSet
    identity: Mapping[str, Any]
    meta: Mapping[str, Any]
    views: Views
    unit: str
    lines_of: LinesOf
    inputs: Inputs


@dataclass(frozen=True)
class Done:
    """What was written: counts of every result, in how many seconds, and from which record on.

    unreadable: what the next run will try again.
    """

    paths: Mapping[str, ResultPaths]
    counts: Mapping[str, Mapping[str, int]]
    seconds: float
    resumed_at: int
    images: int
    unreadable: tuple[Skipped, ...] = ()

    def end(self, unit: str) -> int:
        """Say what is not there; the exit code: 2 when anything is to be read again, or nothing
        could be used."""
        listed = next(iter(self.paths.values())).skipped
        counts = next(iter(self.counts.values()))
        if counts["skipped"] > len(self.unreadable):
            count = counts["skipped"] - len(self.unreadable)
            say(f"{count} {unit} could not be used: see {listed}")
        if self.unreadable:
            say(unreadable_line(self.unreadable, unit, listed))
        return 2 if self.unreadable or not counts["captions"] else 0


def unreadable_line(items: Sequence[Skipped], unit: str, listed: Path) -> str:
    """One line about what could not be read: how many, which, and what to do."""
    return (
        f"{len(items)} {unit} could not be read ({first_few([item.id for item in items])}: "
        f"{items[0].reason}); mend that and run the same command again, it makes what is missing; "
        f"see {listed}"
    )


def run_captions(args: argparse.Namespace, run: CaptionRun) -> Done | None:
    """Write the results that are missing, from where they stop; None when all are complete.

    Raises TTDError: results made with other settings, disk full, memory short.
    """
    from core.tags.results import is_finished
    from core.tags.writer import TagWriter
    from core.utils.provenance import now

    todo = {
        name: paths
        for name, paths in run.results.items()
        if not is_finished(paths, run.identity, args.overwrite, run.inputs)
    }
    if not todo:
        return None
    meta = {**run.meta, "identity": run.identity}
    with closing(TagWriter(todo, meta, args.batch, args.overwrite, run.inputs)) as writer:
        start, first, images = time.perf_counter(), writer.done, 0
        with closing(_remade(args, run, writer)) as again:
            writer.mend(again)
        with closing(_batches(args, run, writer)) as batches:
            for batch, lines in batches:
                writer.write(lines, batch.skipped)
                images += len({id(image) for image in batch.prepared})
        seconds = time.perf_counter() - start
        resumed = {"resumed_at": first} if first else {}
        writer.finish(finished_at=now(), seconds=round(seconds, 2), **resumed)
        lost = tuple(writer.unreadable.values())
        return Done(todo, writer.counts, seconds, first, images, lost)


def _batches(
    args: argparse.Namespace, run: CaptionRun, writer: TagWriter
) -> Generator[tuple[Batch, Mapping[str, Sequence[str]]], None, None]:
    """Every batch that is still missing, with its lines, under a progress bar."""
    from tqdm import tqdm

    from core.tags.pipeline import load_batches

    count = min(run.records.count, args.limit or run.records.count)
    if writer.done:
        about = "" if run.records.exact else "about "
        print(f"resuming after {writer.done} of {about}{count} records")
    items = run.records.iterate(writer.done, args.limit)
    size = args.batch
    bar = tqdm(
        total=count,
        initial=writer.done,
        unit=run.unit,
        file=sys.stderr,
        disable=None,
        smoothing=0.1,
    )
    first = next(iter(writer.counts.values()))
    words, start = first["words"], time.perf_counter()
    with bar, closing(load_batches(items, run.views, args.batch, args.workers)) as batches:
        for batch in batches:
            work = partial(run.lines_of, batch, tuple(writer.paths))
            lines, size = in_smaller_batches(work, size, SMALLER)
            yield batch, lines
            if first["words"] > words:  # pairs count none
                rate = (first["words"] - words) / (time.perf_counter() - start)
                bar.set_postfix_str(f"{rate:.0f} words/s", refresh=False)
            bar.update(len(batch.records) + len(batch.skipped))


def _remade(
    args: argparse.Namespace, run: CaptionRun, writer: TagWriter
) -> Generator[Remade, None, None]:
    """The batches of an earlier run in which something could not be read, read again."""
    from core.tags.pipeline import load_batches
    from core.tags.writer import of_batches

    numbers = writer.to_mend
    if not numbers:
        return
    print(f"trying {len(writer.unreadable)} records again that could not be read")
    items = of_batches(run.records.iterate(0, args.limit), numbers, args.batch)
    names = tuple(writer.paths)
    with closing(load_batches(items, run.views, args.batch, args.workers)) as batches:
        for number, batch in zip(numbers, batches, strict=False):
            work = partial(run.lines_of, batch, names)
            yield number, partial(_lines, work, args.batch), batch.skipped


def _lines(work: Callable[[int], Lines], size: int) -> Lines:
    return in_smaller_batches(work, size, SMALLER)[0]


def finished_before(
    args: argparse.Namespace, known: Mapping[str, Any], inputs: Inputs
) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    """The complete results in --out that this command would make again: (lines, identity) by name.

    Found without loading a model. known: the part of the identity that the arguments alone decide;
    the size of the image and the device count where they were given, and the weights by their
    files. {} with --overwrite. TTDError: made from other inputs.
    """
    from core.data.inputs.table import check_inputs
    from core.tags.results import ResultPaths, is_complete
    from core.utils.files import read_json, section
    from core.utils.provenance import weight_stamps

    stamps = weight_stamps(args.arch, args.weights, args.lora)
    found: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for path in sorted(args.out.glob("*.meta.json")) if not args.overwrite else ():
        meta = read_json(path) or {}
        paths = ResultPaths.of(args.out, path.name.removesuffix(".meta.json"))
        if meta.get("weight_files") != stamps or not is_complete(paths, meta):
            continue
        identity, arguments = section(meta, "identity"), section(meta, "arguments")
        if _agrees(args, known, identity, arguments):
            check_inputs(paths.inputs, inputs, paths.lines)
            found[str(meta.get("scorer"))] = (paths.lines, identity)
    return found


def _agrees(
    args: argparse.Namespace,
    known: Mapping[str, Any],
    identity: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> bool:
    """Whether nothing that is known of this command differs from a stored result's identity."""
    if args.device is not None and args.device.split(":")[0] != identity.get("device"):
        return False
    if args.image not in (arguments.get("image"), identity.get("image")):
        return False
    return all(identity.get(key) == value for key, value in known.items())


def describe(args: argparse.Namespace, backbone: Backbone, records: RecordSet) -> dict[str, Any]:
    """What goes into every meta file beside the identity: all that made the result."""
    from core.utils.provenance import now, versions, weight_stamps

    model = {
        "arch": backbone.arch,
        "head": backbone.head,
        "checksum": backbone.checksum,
        "patch": backbone.patch,
        "stride": backbone.stride,
        "logit_scale": backbone.logit_scale,
        "device": str(backbone.device),
    }
    return {
        "arguments": {key: _plain(value) for key, value in vars(args).items()},
        "model": model,
        "input": records.description,
        "versions": versions(),
        "weight_files": weight_stamps(args.arch, args.weights, args.lora),
        "started_at": now(),
    }


def _plain(value: object) -> object:
    """As JSON can hold it."""
    return str(value) if isinstance(value, Path) else value


def unusual(args: argparse.Namespace, **more: object) -> dict[str, object]:
    """Settings that are not at their default, in the order in which names of results have them.

    --weights first, then `more`, None = at default.
    """
    values = {"weights": Path(args.weights).stem if args.weights else None, **more}
    return {key: value for key, value in values.items() if value is not None}
