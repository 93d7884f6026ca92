"""Run every benchmark and sum up: what was asked for, what was measured, what was met.

    python benchmarks/run_all.py                # `make bench`: the CPU, in 15 minutes
    python benchmarks/run_all.py --update docs/performance.md     # tables into the page
    python benchmarks/run_all.py --only bench_pamr bench_tags
    python benchmarks/run_all.py --quick        # small sizes, one process: seconds
    python benchmarks/run_all.py --from results --update docs/performance.md     # of stored JSON

Everything runs on the CPU; benchmarks/gpu.py measures a GPU. Exit code 2 when a benchmark fails,
that is when a fast path and its reference disagree; a missed goal is printed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from common import ROOT, positive_int, run

from core.errors import TTDError
from tools.doc_table import update

# In the order of the page; the options of a whole run where they are not the benchmark's own.
CPU = {
    "bench_pamr": [],
    "bench_masks": [],
    "bench_tags": ["--rounds", "1", "--per-image", "1"],
    "bench_ttd_step": ["--rounds", "1", "--slice", "2"],
    "bench_evaluation": [],
    "bench_grounding": [],
    "bench_prompts": [],
    "bench_growth": [],
    "bench_workers": [],
    "bench_two_jobs": [],
    "bench_startup": ["--rounds", "2"],
}
MARKS = ("<!-- measured: benchmarks/run_all.py -->", "<!-- end of measured -->")


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, all in one process: does everything run?"
    )
    parser.add_argument(
        "--only", nargs="+", choices=CPU, metavar="NAME", help=f"some of {', '.join(CPU)}"
    )
    parser.add_argument(
        "--threads", type=positive_int, help="of torch (default: torch's own choice)"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the JSON files there")
    parser.add_argument(
        "--from",
        type=Path,
        dest="source",
        metavar="FOLDER",
        help="run nothing, read JSON files there",
    )
    parser.add_argument(
        "--update", type=Path, metavar="FILE", help="replace the tables of this page"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run, sum up, update."""
    args = get_args_parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.source or args.out or Path(temporary)
        failed = [] if args.source else run_benchmarks(args, folder)
        results = read_results(folder)
    print(f"\n{summary(results) or 'no goals: small sizes'}")
    if args.update:
        if args.quick:
            raise TTDError(
                "--update with --quick: figures of small sizes are no measurement; "
                "leave one of them out"
            )
        update(args.update, MARKS, page(results))
    if failed:
        raise TTDError(f"failed: {', '.join(failed)}")
    return 0


def run_benchmarks(args: argparse.Namespace, folder: Path) -> list[str]:
    """Run those asked for, their JSON into `folder`; the names of those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    call = in_this_process if args.quick else in_a_process
    shared = ["--quick"] * args.quick
    if args.threads:
        shared += ["--threads", str(args.threads)]
    failed = []
    for name, options in jobs(args):
        file = folder / f"{name}.json"
        print(f"\n== {name} {' '.join(options)}".rstrip(), flush=True)
        if call(name, [*options, *shared, "--json", str(file)]):
            failed.append(file.stem)
    return failed


def jobs(args: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """Names and options of what is to run."""
    return [(name, [] if args.quick else CPU[name]) for name in args.only or CPU]


def in_a_process(name: str, options: Sequence[str]) -> int:
    """The exit code of a benchmark; what it prints goes to the terminal."""
    return subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", *options], cwd=ROOT, check=False
    ).returncode


def in_this_process(name: str, options: Sequence[str]) -> int:
    """The same without importing torch and open_clip once more."""
    import torch

    before, threads = sys.argv, torch.get_num_threads()
    sys.argv = [f"{name}.py"]
    try:
        return importlib.import_module(name).main(list(options))
    except TTDError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    finally:
        sys.argv = before
        torch.set_num_threads(threads)


def read_results(folder: Path) -> dict[str, dict]:
    """What the benchmarks wrote, by name, in the order of the page."""
    found = {name: folder / f"{name}.json" for name in CPU}
    results = {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in found.items()
        if path.is_file()
    }
    if not results:
        raise TTDError(
            f"{folder}: no results in it; run benchmarks/run_all.py --out {folder} first"
        )
    return results


def goal_rows(results: dict[str, dict]) -> list[list[str]]:
    """What, goal, got, met or missed: a row per goal."""
    goals = chain.from_iterable(one["goals"] for one in results.values())
    return [goal_row(goal) for goal in goals]


def goal_row(goal: Mapping) -> list[str]:
    """What, goal, got, met or missed."""
    met = "met"
    if not goal["met"]:
        met = "**missed**"
    return [goal["what"], goal["goal"], goal["got"], met]


def summary(results: dict[str, dict]) -> str:
    """The goals for the terminal."""
    rows = goal_rows(results)
    width = max((len(row[0]) for row in rows), default=0)
    return "\n".join(
        f"{met.strip('*'):7} {what:{width}}  {got:>9}  goal {goal}" for what, goal, got, met in rows
    )


def page(results: dict[str, dict]) -> str:
    """Everything measured, as Markdown."""
    parts = [markdown(["what", "goal", "measured", ""], goal_rows(results))]
    for name, one in results.items():
        parts += [
            f"### {name}",
            provenance(one),
            *(markdown(table["columns"], table["rows"]) for table in one["tables"]),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def provenance(one: dict) -> str:
    """Where, when and by what a result was measured."""
    versions = ", ".join(
        f"{name} {version}" for name, version in one["versions"].items() if name != "torch"
    )
    return f"`{one['command']}`; {one['hardware']}, {versions}; {one['date'][:10]}."


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns that some rows have beyond the headings get an empty heading."""
    count = max(map(len, [columns, *rows]))
    lines = [[*cells, *[""] * (count - len(cells))] for cells in (columns, *rows)]
    lines.insert(1, ["---"] * count)
    return "\n".join(map(markdown_row, lines))


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a table; what would end a cell is escaped."""
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


if __name__ == "__main__":
    run(main)
