"""What engines of label_shards.py cost: against the plain loop, in memory, and per shard.

    python benchmarks/bench_shards.py                      # everything, Ray too where it is there
    python benchmarks/bench_shards.py --parts scheduling --shards 100000
    python benchmarks/bench_shards.py --parts memory --pairs 100000

overhead: the same shards (random images of 64 pixels) by the plain loop and by two workers of every
engine; the time from the workers' first finished shards to the last one, against the seconds inside
the shards. memory: resident bytes of one worker after each tenth of the pairs. scheduling: workers
that do nothing, seconds per 1,000 shards. draft: reading JPEG for tags at 224 pixels, whole and at
a reduced scale, and how far what the model sees differs. Bytes of all engines must agree.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import common
import numpy as np
from common import positive_int, run
from PIL import Image

from core.data.images import decode_reduced
from core.errors import TTDError
from core.labelling.engines.ray_data import Cluster, run_ray
from core.labelling.manifest import shards_of
from core.labelling.settings import Settings
from core.labelling.shard import MADE, Report, Shard, Worker
from core.maps.views import Views, prepare
from tools.label_pool import run_here, run_local

PARTS = ("overhead", "memory", "scheduling", "draft")
MOST_OVERHEAD, MOST_GROWTH = 0.10, 0.05
WORDS = ("house", "bird", "tree", "fish", "boat", "moon", "red", "purple", "green")
Run = Callable[..., Iterator[Report]]


class Idle(Worker):
    """A worker that does nothing."""

    def __call__(self, shard: Shard) -> Report:
        """A report of an empty shard."""
        return Report(shard.name, MADE)


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__)
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured")
    add("--arch", default="tiny", metavar="NAME", help="as everywhere (default: %(default)s)")
    add("--pairs", type=positive_int, default=10_000, help="of memory (default: %(default)s)")
    add("--shards", type=positive_int, default=100_000, help="of scheduling (%(default)s)")
    add("--images", type=Path, metavar="FOLDER", help="of draft: photographs (default: noise)")
    add("--engines", nargs="+", choices=("local", "ray"), default=["local", "ray"])
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each part."""
    args = common.start(get_args_parser(), argv)
    if args.quick:
        args.pairs, args.shards = 40, 50
    tables, goals = [], []
    measures = dict(zip(PARTS, (overhead, memory, scheduling, draft), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        for part in args.parts:
            table, more = measures[part](args, Path(folder))
            tables.append(table)
            goals += more
    common.save(args, tables, goals)
    return 0


def engines(args: argparse.Namespace, workers: int) -> dict[str, Run]:
    """The engines that are there, by name, with so many workers."""
    found: dict[str, Run] = {}
    if "local" in args.engines:
        found["local"] = partial(run_local, devices=["cpu"] * workers)
    if "ray" in args.engines:
        try:
            import ray.data  # noqa: F401
        except ImportError:
            print("Ray is not installed: pip install -r requirements-ray.txt")
        else:
            found["ray"] = partial(run_ray, cluster=Cluster(workers=workers))
    return found


# --- overhead ---


def overhead(args: argparse.Namespace, folder: Path) -> tuple[common.Table, list[dict]]:
    """Engines of two workers against their own shards' seconds; and the plain loop."""
    count, each = (4, 3) if args.quick else (64, 10)
    write_shards(folder / "set", count, each)
    shards, settings = shards_of([str(folder / "set")]), Settings(arch=args.arch, device="cpu")
    table = common.Table("engine", "start, s", "then, s", "in shards, s", "beside them")
    goals, digests = [], {}
    runs = {"one loop": (1, run_here)} | {
        name: (2, engine) for name, engine in engines(args, 2).items()
    }
    for name, (workers, engine) in runs.items():
        out = folder / name
        seconds, begin = {}, time.time()
        for report in engine(shards, settings, str(out)):
            if report.state != MADE:
                raise TTDError(f"{name}: {report.shard} {report.state}, {report.reason}")
            seconds[report.shard] = report.seconds
        digests[name] = digest(out)
        start, then, inside = spans(out, seconds, workers)
        cells = [f"{value:.1f}" for value in (start - begin, then, inside)]
        table.row(name, *cells, f"{100 * (then / inside - 1):.1f} %")
        if name != "one loop":
            what = f"time beside the shards, {name}"
            goals.append(
                common.goal_below(what, 100 * MOST_OVERHEAD, 100 * (then / inside - 1), "%")
            )
    if len(set(digests.values())) > 1:
        raise TTDError(f"engines give other bytes: {digests}")
    return table, goals


def spans(out: Path, seconds: dict[str, float], workers: int) -> tuple[float, float, float]:
    """When the workers' first shards were whole, how long the rest took, and its own seconds.

    The first shard of a worker holds the loading of its model, and so takes longest. What is whole
    when is told by the files, since an engine may hand on reports in bursts.
    """
    whole = {name: (out / f"{name}.json").stat().st_mtime for name in seconds}
    firsts = sorted(seconds, key=lambda name: -seconds[name])[:workers]
    start = sum(whole[name] for name in firsts) / workers
    inside = sum(value for name, value in seconds.items() if name not in firsts) / workers
    return start, max(whole.values()) - start, inside


def digest(out: Path) -> str:
    """A hash of all Parquet files."""
    found = hashlib.sha256()
    for path in sorted(out.rglob("*.parquet")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


# --- memory ---


def memory(args: argparse.Namespace, folder: Path) -> tuple[common.Table, list[dict]]:
    """Resident bytes of one worker while pairs go by, in shards of a tenth of them."""
    each = max(1, args.pairs // 10)
    write_shards(folder / "many", 1, each)
    source = (folder / "many/00000.tar").read_bytes()
    for number in range(1, 10):
        (folder / f"many/{number:05d}.tar").write_bytes(source)
    shards, settings = shards_of([str(folder / "many")]), Settings(arch=args.arch, device="cpu")
    table = common.Table("pairs", "resident", "pairs/s")
    sizes, done, begin = [], 0, time.perf_counter()
    for report in run_here(shards, settings, str(folder / "labels")):
        done += report.pairs
        sizes.append(common.resident())
        rate = report.pairs / report.seconds
        table.row(str(done), common.megabytes(sizes[-1]), f"{rate:.0f}")
    print(f"{done} pairs in {time.perf_counter() - begin:.0f} s")
    growth = sizes[-1] / sizes[0] - 1
    return table, [common.goal_below("growth of memory", 100 * MOST_GROWTH, 100 * growth, "%")]


# --- scheduling ---


def scheduling(args: argparse.Namespace, folder: Path) -> tuple[common.Table, list[dict]]:
    """Seconds per 1,000 shards of workers that do nothing."""
    shards = [Shard(f"/set/{k:06d}.tar", f"{k:06d}") for k in range(args.shards)]
    table = common.Table("engine", "shards", "start, s", "seconds per 1,000", "resident, driver")
    for name, engine in engines(args, 2).items():
        begin, first, count = time.perf_counter(), 0.0, 0
        for _ in engine(shards, Settings(device="cpu"), str(folder / "none"), kind=Idle):
            first = first or time.perf_counter()
            count += 1
        if count != len(shards):
            raise TTDError(f"{name}: {count} reports of {len(shards)} shards")
        each = 1000 * (time.perf_counter() - first) / count
        start = f"{first - begin:.1f}"
        table.row(name, str(count), start, f"{each:.3f}", common.megabytes(common.resident()))
    return table, []


# --- draft ---


def draft(args: argparse.Namespace, folder: Path) -> tuple[common.Table, list[dict]]:
    """Images a second of one thread, whole and reduced, and the difference of what is seen."""
    files = photographs(args, folder)
    views = Views(224)
    table = common.Table("reading", "images/s, one thread", "difference, of 255")
    times, seen = {}, {}
    for reduced in (False, True):
        read = partial(decode_reduced, target=views.largest, draft=reduced)
        begin = time.perf_counter()
        seen[reduced] = [prepare(*_with_size(read(data, "x"), views)) for data in files]
        times[reduced] = time.perf_counter() - begin
    pairs = list(zip(seen[False], seen[True], strict=True))
    gaps = [float((a.scaled[0] - b.scaled[0]).abs().mean()) for a, b in pairs]
    table.row("whole", f"{len(files) / times[False]:.0f}", "")
    gap = f"{255 * sum(gaps) / len(gaps):.2f} on average"
    table.row("--draft", f"{len(files) / times[True]:.0f}", gap)
    return table, []


def _with_size(read: tuple, views: Views) -> tuple:
    pixels, size = read
    return pixels, views, size


def photographs(args: argparse.Namespace, folder: Path) -> list[bytes]:
    """JPEG files: those of --images, else noise of 640 x 480 pixels with much detail."""
    if args.images:
        paths = sorted(args.images.rglob("*.jpg"))
        if not paths:
            raise TTDError(f"{args.images}: no .jpg in it")
        return [path.read_bytes() for path in paths]
    noise = np.random.default_rng(0)
    found = []
    for _ in range(4 if args.quick else 200):
        image = Image.fromarray(noise.integers(0, 255, (60, 80, 3)).astype(np.uint8))
        data = io.BytesIO()
        image.resize((640, 480), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
        found.append(data.getvalue())
    return found


# --- what is labelled ---


def write_shards(folder: Path, count: int, each: int) -> None:
    """Tars of so many pairs: noise of 64 x 64 pixels as JPEG, captions of the world's words."""
    folder.mkdir()
    for shard in range(count):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(shard * each, (shard + 1) * each):
                _add(tar, f"{number:07d}.jpg", picture(number))
                _add(tar, f"{number:07d}.txt", caption(number).encode())


def picture(number: int) -> bytes:
    """A JPEG of blurred noise."""
    noise = np.random.default_rng(number).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).resize((64, 64), Image.Resampling.BILINEAR).save(data, "JPEG")
    return data.getvalue()


def caption(number: int) -> str:
    """Six words, another choice for every number."""
    chosen = np.random.default_rng(number).choice(WORDS, 4)
    return f"a {chosen[0]} {chosen[1]} and a {chosen[2]} {chosen[3]}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    run(main)
