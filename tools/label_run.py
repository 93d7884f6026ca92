"""A run of label_shards.py: which engine, what it shows, and what it says at the end."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from core.errors import TTDError
from tools.cli import say
from tools.mask_shards import cpus

if TYPE_CHECKING:
    from core.labelling.estimate import Inventory, Projection, Sample
    from core.labelling.places import Output
    from core.labelling.settings import Settings
    from core.labelling.shard import Report, Shard

SHOWN = 3  # failed shards in a message
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def produce(args: argparse.Namespace, settings: Settings) -> int:
    """Label what is missing; the exit code, 2 where shards could not be labelled.

    TTDError: nothing can be stored, or other settings made what is there.
    """
    from core.labelling.manifest import missing, shards_of, write_manifest
    from core.labelling.places import Output
    from core.labelling.table import parquet

    parquet()  # find out now whether it is there
    shards = shards_of(args.shards)
    plan = make_plan(args, settings, shards)
    print(f"{len(shards)} shards{plan.about}, {plan.engine}", flush=True)
    done = Done(settings.decoders)
    for report in _shown(plan.reports, len(plan.shards)):
        if report.state == "stopped":
            raise TTDError(report.reason)
        done.add(report)
    for line in done.lines():
        print(line)
    out = Output(args.out)
    if left := len(missing(out, shards)):
        print(f"{left} shards of other processes or parts are not labelled yet: no manifest")
    else:
        print(f"{args.out}: {write_manifest(out)} shards in _manifest.parquet")
    if done.failed:
        say(done.failures(args.out))
    if plan.together:
        return _code_of_all(out, shards)
    return 2 if done.failed else 0


def _code_of_all(out: Output, shards: Sequence[Shard]) -> int:
    """The exit code of one of torchrun's processes: 2 says the last that ends.

    torchrun ends all processes as soon as one of them says 2.
    """
    from core.labelling.manifest import failed, missing

    return 2 if failed(out, shards) and not missing(out, shards) else 0


@dataclass
class Plan:
    """Who labels which shards, and the reports as they come.

    together: this is one of torchrun's processes, which live and die together.
    """

    engine: str
    shards: Sequence[Shard]
    reports: Iterator[Report]
    about: str = ""
    together: bool = False


def make_plan(args: argparse.Namespace, settings: Settings, shards: Sequence[Shard]) -> Plan:
    """The engine that is asked for, or that the environment asks for. TTDError: not possible."""
    from core.labelling.engines.ranks import launched, parse_part
    from core.labelling.manifest import share
    from core.training.distributed import started_by_torchrun

    engine, about = engine_of(args), ""
    if args.part:
        part = parse_part(args.part)
        shards = share(shards, part.number, part.of)
        about = f", part {args.part}: {len(shards)}"
    if engine == "torchrun":
        own = launched()
        shards = share(shards, own.number, own.of)
        about += f", process {own.number} of {own.of}: {len(shards)}"
        there = devices(args)
        plan = _local(args, settings, shards, [there[own.local % len(there)]], about)
        return _one_of_many(plan, args.out) if started_by_torchrun() else plan
    if engine == "ray":
        return _ray(args, settings, shards, about)
    there = devices(args)
    count = args.workers or len(there)
    return _local(args, settings, shards, [there[i % len(there)] for i in range(count)], about)


def _one_of_many(plan: Plan, place: str) -> Plan:
    """The plan of one of torchrun's processes; what it tries again counts as missing till then."""
    from core.labelling.claim import FAILED
    from core.labelling.manifest import failed
    from core.labelling.places import Output

    out = Output(place)
    for shard in failed(out, plan.shards):
        out.remove(f"{FAILED}/{shard.name}.json")
    return replace(plan, together=True)


def engine_of(args: argparse.Namespace) -> str:
    """--engine, or what the environment says: torchrun's RANK, Ray's RAY_ADDRESS."""
    if args.engine != "auto":
        return str(args.engine)
    if os.environ.get("RANK", "").strip() and os.environ.get("WORLD_SIZE", "").strip():
        return "torchrun"
    return "ray" if args.ray_address or os.environ.get("RAY_ADDRESS") else "local"


def _local(
    args: argparse.Namespace,
    settings: Settings,
    shards: Sequence[Shard],
    places: list[str | None],
    about: str,
) -> Plan:
    from tools.label_pool import run_local

    count = max(1, min(len(places), len(shards)))
    name = f"{count} process{'es' * (count > 1)} on {', '.join(sorted(set(map(str, places))))}"
    reports = run_local(shards, settings, args.out, places, args.overwrite)
    return Plan(name, shards, reports, about)


def _ray(args: argparse.Namespace, settings: Settings, shards: Sequence[Shard], about: str) -> Plan:
    from core.labelling.engines.ray_data import Cluster, run_ray
    from core.labelling.places import absolute

    cluster = Cluster(args.ray_address, args.workers, args.cpus_per_worker, args.gpus_per_worker)
    settings = replace(settings, **_located(settings))
    reports = run_ray(shards, settings, absolute(args.out), cluster, args.overwrite)
    return Plan("Ray", shards, reports, about)


def _located(settings: Settings) -> dict[str, str]:
    """Files by their whole path: workers of a cluster have another working directory."""
    names = ("weights", "lora", "grounder")
    given = {name: getattr(settings, name) for name in names}
    found = {
        name: os.path.abspath(os.path.expanduser(path))
        for name, path in given.items()
        if path and os.path.exists(os.path.expanduser(path))
    }
    kind, colon, path = settings.arch.partition(":")
    if colon and kind != "hf-hub" and os.path.exists(os.path.expanduser(path)):
        found["arch"] = f"{kind}:{os.path.abspath(os.path.expanduser(path))}"
    return found


def devices(args: argparse.Namespace) -> list[str | None]:
    """Where workers compute: --device, the GPUs of --gpus, else all GPUs, else every processor."""
    if args.device is not None:
        return [args.device] * (cpus() if args.device == "cpu" else 1)
    numbers = [number for number in ",".join(args.gpus or []).split(",") if number]
    if not all(number.isdecimal() for number in numbers):
        raise TTDError(
            f"--gpus {' '.join(args.gpus)}: not GPU numbers; use --gpus 0 1, or --device cpu"
        )
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{number}" for number in numbers or range(torch.cuda.device_count())]
    if numbers:
        say(f"--gpus {' '.join(numbers)}: no GPU here, running on the CPU")
    return ["cpu"] * cpus()


def _shown(reports: Iterator[Report], total: int) -> Iterator[Report]:
    """The reports, under a progress bar."""
    from tqdm import tqdm

    with tqdm(total=total, unit="shard", file=sys.stderr, disable=None, smoothing=0.1) as bar:
        for report in reports:
            bar.update(1)
            yield report


@dataclass
class Done:
    """Sums over reports. decoders: threads that read images in a worker."""

    decoders: int
    states: Counter[str] = field(default_factory=Counter)
    failed: list[Report] = field(default_factory=list)
    pairs: int = 0
    skipped: int = 0
    made: int = 0
    images: int = 0
    decode: float = 0.0
    model: float = 0.0
    start: float = field(default_factory=time.perf_counter)

    def add(self, report: Report) -> None:
        """Count a shard."""
        self.states[report.state] += 1
        self.pairs += report.pairs
        self.skipped += report.skipped
        if report.state == "made":
            self.made += report.pairs
            self.images += report.images
            self.decode += report.decode
            self.model += report.model
        if report.state == "failed":
            self.failed.append(report)

    def lines(self) -> list[str]:
        """What was done, and how fast."""
        seconds = time.perf_counter() - self.start
        counts = ", ".join(f"{self.states[state]} {state}" for state in ("made", "kept", "failed"))
        lines = [
            f"{counts}; {self.pairs} pairs, {self.skipped} skipped; {self.made} labelled in "
            f"{seconds:.1f} s, {self.made / seconds:.1f} a second"
        ]
        if self.images and self.decode and self.model:
            decode = self.images / self.decode
            lines.append(rates(decode, self.images / self.model, self.decoders))
        return lines

    def failures(self, out: str) -> str:
        """One line about the shards that could not be labelled."""
        shown = "; ".join(f"{one.shard}: {one.reason}" for one in self.failed[:SHOWN])
        more = f" and {len(self.failed) - SHOWN} more" if len(self.failed) > SHOWN else ""
        return (
            f"{len(self.failed)} shards could not be labelled ({shown}{more}): see {out}/_failed; "
            "the same command tries them again"
        )


def rates(decode: float, model: float, decoders: int) -> str:
    """Images a second of one reading thread and of the model, and which of them binds."""
    binds = "the model binds"
    if decode * decoders < model:
        binds = "decoding binds: more --decoders, or --draft"
    return (
        f"a worker decodes {decode:.0f} images/s in each of {decoders} threads, its model takes "
        f"{model:.0f} images/s: {binds}"
    )


# --- the dry run ---


def dry_run(args: argparse.Namespace, settings: Settings) -> int:
    """Say what the whole would take; the exit code, 2 where shards are missing."""
    from core.labelling.estimate import inventory, project, sample
    from core.labelling.manifest import shards_of
    from core.labelling.table import parquet

    parquet()
    found = inventory(shards_of(args.shards))
    if not found.sizes:
        raise TTDError(f"{args.shards[0]}: none of {len(found.missing)} shards is there")
    print(f"{len(found.sizes)} shards, {size(found.total)}; {len(found.missing)} are missing")
    place = devices(args)[0]
    taken = sample(replace(settings, device=place), found, args.sample)
    whole = project(found, taken, args.price or 0.0)
    for line in projection_lines(found, taken, whole, args, settings, str(place)):
        print(line)
    if found.missing:
        say(f"{len(found.missing)} shards are not there, the first {found.missing[0].url}")
    return 2 if found.missing else 0


def projection_lines(
    found: Inventory,
    taken: Sample,
    whole: Projection,
    args: argparse.Namespace,
    settings: Settings,
    place: str,
) -> list[str]:
    """The sample and the projection in words."""
    lines = [
        f"sample: {taken.pairs} pairs in {taken.seconds:.1f} s by one worker on {place}, "
        f"{whole.rate:.1f} pairs/s",
        rates(taken.images / taken.decode, taken.images / taken.model, settings.decoders),
        f"whole: about {whole.pairs} pairs, {whole.hours:.2f} worker-hours"
        f"{_wall(whole.hours, args.workers)}, {size(whole.stored)} of labels",
    ]
    if args.price:
        lines.append(f"cost: {whole.cost:.2f} at {args.price:g} for an hour of a worker")
    return lines


def _wall(hours: float, workers: int | None) -> str:
    return f" ({hours / workers:.2f} hours by {workers} workers)" if workers else ""


def size(count: float) -> str:
    """Bytes in words: 1.5 GB."""
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
