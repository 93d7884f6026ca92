"""What benchmarks share: options, the hardware line, timing, peak memory, FLOPs, a printed table.

    parser = common.parser(__doc__)
    args = common.start(parser, argv)               # threads set, hardware line printed
    fast = common.measure(lambda: ours(x), args)    # warm-up, synchronised, median of --rounds
    slow = common.measure(lambda: literal(x[:2]), args)
    slow = slow.times(len(x) / 2)                   # a slice was measured: marked "scaled"
    table = common.Table("path", "time", "ratio")
    table.row("literal", slow, "")
    table.row("ours", fast, common.ratio(slow, fast))
    common.save(args, [table], [common.goal("what", 2.3, slow, fast)])  # goals, and --json

Importing it makes `core` and `tools/cli.py` importable and costs no torch.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "tools")) if path not in sys.path]

from cli import positive_int, run  # noqa: E402, F401  (benchmarks take them from here)

from core.errors import TTDError  # noqa: E402

MET = {True: "met", False: "MISSED"}


def parser(description: str | None, rounds: int = 3) -> argparse.ArgumentParser:
    """A command line with what every benchmark lets one choose."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = made.add_argument_group("measuring")
    group.add_argument(
        "--quick", action="store_true", help="small sizes, one round: seconds, to see that it runs"
    )
    group.add_argument(
        "--rounds",
        type=positive_int,
        default=rounds,
        help="medians over so many (default: %(default)s)",
    )
    group.add_argument(
        "--threads", type=positive_int, help="of torch (default: torch's own choice)"
    )
    group.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the towers; auto: bfloat16 where it is faster (default: %(default)s)",
    )
    group.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write tables and goals as JSON, for run_all.py",
    )
    return made


def start(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, set the threads, choose device and dtype, print what the numbers were measured on."""
    args = parser.parse_args(argv)
    args.argv = list(sys.argv[1:] if argv is None else argv)
    import torch

    from core.backbones.device import fast_dtype, resolve_device, use_full_float32

    args.device = str(resolve_device(args.device))
    # as every loaded model does: the references' convolutions must not be rounded to TF32
    use_full_float32()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.quick:
        args.rounds = 1
    if args.dtype == "auto":
        args.dtype = str(fast_dtype(torch.device(args.device))).removeprefix("torch.")
    name = Path(sys.argv[0]).name + " --quick" * args.quick
    place = f"{hardware(args.device)}, {args.dtype}"
    print(f"{name}: {place}, median of {args.rounds}", flush=True)
    return args


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_amx() -> bool:
    """Whether the CPU has matrix units, by which some goals differ."""
    import torch

    return getattr(torch.cpu, "_is_amx_tile_supported", bool)()


def hardware(device: str) -> str:
    """Processor, threads and versions in one line."""
    import torch

    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
        return f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}"
    amx = "AMX" if has_amx() else "no AMX"
    threads = torch.get_num_threads()
    return (
        f"{processor()} ({amx}), {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}"
    )


def processor() -> str:
    """The processor's name where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Time:
    """Seconds; `scaled` where a slice was measured and multiplied. Prints itself."""

    seconds: float
    scaled: bool = False

    def times(self, factor: float) -> Time:
        """The time of `factor` times the work; marked unless that is the work itself."""
        return replace(self, seconds=self.seconds * factor, scaled=self.scaled or factor != 1)

    def __str__(self) -> str:
        size, unit = self.seconds, "s"
        if size < 1:
            size, unit = 1000 * size, "ms"
        digits = f"{size:.3g}"
        if size >= 1000:
            digits = f"{size:.0f}"
        return f"{digits} {unit}" + " scaled" * self.scaled


def ratio(slow: Time, fast: Time) -> str:
    """How many times faster."""
    return f"{slow.seconds / fast.seconds:.1f}x"


def once(work: Callable[[], object]) -> float:
    """Seconds of one call, the GPU's part included."""
    _synchronise()
    begin = time.perf_counter()
    work()
    _synchronise()
    return time.perf_counter() - begin


def measure(
    work: Callable[[], object],
    args: argparse.Namespace,
    warm_up: int = 1,
    rounds: int | None = None,
) -> Time:
    """Median time of `work` after `warm_up` uncounted calls; rounds: instead of --rounds."""
    for _ in range(warm_up):
        work()
    return Time(median(once(work) for _ in range(rounds or args.rounds)))


def in_turns(
    works: dict[str, Callable[[], object]], args: argparse.Namespace, warm_up: int = 1
) -> dict[str, Time]:
    """`measure` of several, one call of each in turn: a slow spell of the machine hits all."""
    for work in list(works.values()) * warm_up:
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(args.rounds):
        for name, work in works.items():
            taken[name].append(once(work))
    return {name: Time(median(seconds)) for name, seconds in taken.items()}


def peak_memory(work: Callable[[], object], device: str = "cpu") -> int:
    """Bytes that `work` needs at its worst beyond what was held before.

    On a GPU by torch's own count. On a CPU what the system counts as this process's highest
    resident memory, set back before; memory that earlier calls freed is handed back first, so that
    it does not hide anything.
    """
    import torch

    gc.collect()
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # 5: the highest becomes the present
    work()
    return max(0, _bytes(Path("/proc/self/status"), "VmHWM") - before)


def resident() -> int:
    """Bytes of this process in memory now. TTDError where the system does not tell (not Linux)."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise TTDError("memory is read from /proc/self, which only Linux has")
    return _bytes(status, "VmRSS")


def _bytes(status: Path, name: str) -> int:
    lines = status.read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def megabytes(count: int) -> str:
    """Bytes for the table."""
    return f"{count / 1e6:.0f} MB"


def flops(work: Callable[[], object]) -> float:
    """Operations of products, convolutions and attention in `work`, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


class Table:
    """Prints a header, then rows as they come, so that a long run shows where it is."""

    def __init__(self, *columns: str, width: int = 12):
        """columns: headings; the first is left-aligned and twice as wide."""
        self.columns, self.rows = columns, []
        self._widths = [max(len(name), width) + 2 for name in columns]
        self._widths[0] = max(len(columns[0]), 2 * width)
        self.row(*columns)

    def row(self, *cells: object) -> None:
        """One line; further cells than columns are appended as they are."""
        texts = [str(cell) for cell in cells]
        self.rows.append(texts)
        padded = [f"{text:>{width}}" for text, width in zip(texts, self._widths, strict=False)]
        padded[:1] = [f"{texts[0]:<{self._widths[0]}}"]
        print("".join(padded) + "".join(f"  {t}" for t in texts[len(padded) :]), flush=True)


def goal(what: str, least: float, slow: Time, fast: Time) -> dict:
    """A row of `save`'s goals: at least `least` times faster."""
    got = slow.seconds / fast.seconds
    return {"what": what, "goal": f">= {least:g}x", "got": ratio(slow, fast), "met": got >= least}


def goal_share(what: str, least: float, got: float) -> dict:
    """A row of `save`'s goals: at least that share, both in [0, 1]."""
    return {
        "what": what,
        "goal": f">= {100 * least:.0f} %",
        "got": f"{100 * got:.0f} %",
        "met": got >= least,
    }


def goal_below(what: str, most: float, got: float, unit: str) -> dict:
    """A row of `save`'s goals: at most `most` of `unit` (seconds, times, ...)."""
    return {
        "what": what,
        "goal": f"<= {most:g}{unit}",
        "got": f"{got:.3g}{unit}",
        "met": got <= most,
    }


def save(
    args: argparse.Namespace,
    tables: Sequence[Table],
    goals: Sequence[dict] = (),
    figures: Mapping[str, float] | None = None,
) -> None:
    """Print the goals; with --json write them, the tables and where they were measured.

    The last call of a benchmark.

    goals: `goal`, `goal_below`, or dicts of the same keys; those of small sizes (--quick) say
    nothing and are left out.
    figures: numbers for programs, the unit in the name. `docs/performance.md` is made of these
    files.
    """
    if args.quick:
        goals = []
    for row in goals:
        word = MET[row["met"]]
        print(f"{word:<6}  {row['what']}: {row['got']}, goal {row['goal']}", flush=True)
    if args.json:
        import json
        import shlex

        from core.utils.provenance import now, versions

        argv = args.argv
        words = [w for i, w in enumerate(argv) if "--json" not in argv[max(0, i - 1) : i + 1]]
        content = {
            "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words]),
            "date": now(),
            "hardware": hardware(args.device),
            "versions": versions(),
            "quick": args.quick,
            "tables": [{"columns": table.columns, "rows": table.rows[1:]} for table in tables],
            "goals": list(goals),
            "figures": dict(figures or {}),
        }
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check(what: str, difference: float, allowed: float) -> None:
    """TTDError if two paths that should agree do not: a wrong answer is not worth timing."""
    if not difference <= allowed:
        raise TTDError(
            f"{what}: the fast path and the reference differ by {difference:.3g}, "
            f"allowed are {allowed:.3g}"
        )


def _synchronise() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
