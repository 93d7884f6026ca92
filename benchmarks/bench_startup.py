"""How long scripts take to start: --help of each; the demo against importing torch and open_clip.

    python benchmarks/bench_startup.py
    python benchmarks/bench_startup.py --quick          # --help alone

Every command is a fresh process, run in turns; wall-clock time, and the processor's time beside it,
which other jobs on the machine disturb less. Disk caches are warm: the first round does not count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import common
from common import ROOT, run

from core.errors import TTDError

IMPORTS = "import torch, open_clip"


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    return common.parser(__doc__)


@dataclass(frozen=True)
class Taken:
    """Medians of a command: wall-clock and processor time."""

    wall: common.Time
    cpu: common.Time


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    args = common.start(get_args_parser(), argv)
    table = common.Table("command", "time", "processor", "to the imports", width=16)
    commands = {f"{name} --help": [sys.executable, name, "--help"] for name in scripts()}
    helps = measure(commands, args.rounds)
    for name, taken in helps.items():
        table.row(name, taken.wall, taken.cpu)
    slowest = max(helps, key=lambda name: helps[name].wall.seconds)
    goals = [
        common.goal_below(
            f"slowest --help ({slowest.split()[0]})", 1, helps[slowest].wall.seconds, " s"
        )
    ]
    if not args.quick:
        goals.append(demo(table, args.rounds))
    common.save(args, [table], goals)
    return 0


def scripts() -> list[str]:
    """Every script of the project, relative to its root: what has a main of its own."""
    files = [*sorted(ROOT.glob("*.py")), *sorted((ROOT / "tools").glob("*.py"))]
    return [
        str(path.relative_to(ROOT))
        for path in files
        if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
    ]


def demo(table: common.Table, rounds: int) -> dict:
    """Two rows: the imports, and demo.py on the image that ships; the goal."""
    with tempfile.TemporaryDirectory() as out:
        taken = measure(
            {
                "imports": [sys.executable, "-c", IMPORTS],
                "demo": [sys.executable, "demo.py", "--out", out],
            },
            rounds,
        )
    imports, whole = taken["imports"], taken["demo"]
    share = whole.wall.seconds / imports.wall.seconds
    table.row(f'python -c "{IMPORTS}"', imports.wall, imports.cpu, "1.00x")
    table.row("demo.py", whole.wall, whole.cpu, f"{share:.2f}x")
    return common.goal_below("demo.py, tiny, to importing torch and open_clip", 1.3, share, "x")


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, Taken]:
    """Medians of `rounds` runs of each command, in turns, after one that does not count."""
    wall: dict[str, list[float]] = {name: [] for name in commands}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            seconds = run_once(command)
            if number:
                wall[name].append(seconds[0])
                cpu[name].append(seconds[1])
    return {
        name: Taken(common.Time(median(wall[name])), common.Time(median(cpu[name])))
        for name in commands
    }


def run_once(command: list[str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of a command that must succeed."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise TTDError(f"{' '.join(command[1:])} failed: {done.stderr[-300:]}")
    user = after.children_user - before.children_user
    return wall, user + after.children_system - before.children_system


if __name__ == "__main__":
    run(main)
