"""Everything that only a GPU can show, in nine minutes: does it work, how fast, is it true.

    python benchmarks/gpu.py                                # `make gpu`: one CUDA card, 16 cores
    python benchmarks/gpu.py --update docs/performance.md   # and put the figures into the page
    python benchmarks/gpu.py --only pamr masks
    python benchmarks/gpu.py --quick                        # every stage in small, on the CPU
    python benchmarks/gpu.py --from out/gpu/gpu.json --update docs/performance.md

Needs a torch that sees the card and the default packages; no network, no data. Every stage is a
process of its own with a budget of seconds, after which it is stopped; what it found is in
OUT/gpu.json and OUT/gpu.txt as soon as it ends, and all that it printed in OUT/STAGE.txt. A stage
that fails is reported, and the next one runs. Exit code 1 when any did not end well. A goal that is
missed is a figure, not a failure.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gpu_page
from common import ROOT, run
from gpu_stages import STAGES, TOTAL, Stage

from core.errors import TTDError
from core.utils.provenance import now
from tools.doc_table import update

LINES = 30  # of its output are kept of a stage that did not end well
ASK = """
import json, platform, torch
there = torch.cuda.is_available()
card = torch.cuda.get_device_properties(0) if there else None
print(json.dumps({"cuda": there, "card": card.name if there else "no GPU",
                  "memory_gb": round(card.total_memory / 2**30, 1) if there else 0,
                  "torch": torch.__version__, "cuda_version": torch.version.cuda,
                  "python": platform.python_version()}))
"""


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="all stages in small on the CPU, to see that they run"
    )
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="STAGE", help=f"some of {', '.join(names)}"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/gpu"), metavar="FOLDER", help="default: %(default)s"
    )
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="JSON", help="run nothing, read this gpu.json"
    )
    parser.add_argument(
        "--update", type=Path, metavar="FILE", help="replace the GPU's figures of this page"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run, write, update; 1 when a stage did not end well."""
    args = get_args_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stage at work ends too
    if args.update and args.quick:
        raise TTDError(
            "--update with --quick: a rehearsal is no measurement; leave one of them out"
        )
    report = read_report(args.source) if args.source else run_stages(args)
    if args.update:
        if report["device"] != "cuda" or report["quick"]:
            raise TTDError(
                f"{args.source}: not of a run on a GPU, so it does not belong into {args.update}"
            )
        update(args.update, gpu_page.MARKS, gpu_page.page(report))
    print("\n" + gpu_page.summary(report))
    return 0 if all(stage["outcome"] == "ok" for stage in report["stages"]) else 1


def read_report(path: Path) -> dict[str, Any]:
    """A gpu.json that a run wrote. TTDError when it cannot be read or is something else."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["kind"] == gpu_page.KIND:
            return report
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise TTDError(f"{path}: not a gpu.json of benchmarks/gpu.py; run that first")


def run_stages(args: argparse.Namespace) -> dict[str, Any]:
    """Run all stages that fit into the time, writing the report after each."""
    begin = time.monotonic()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    device = "cpu" if args.quick else "cuda"
    report = {
        "kind": gpu_page.KIND,
        "date": now(),
        "quick": args.quick,
        "device": device,
        "command": shlex.join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "machine": machine(),
        "stages": [],
    }
    if device == "cuda" and not report["machine"]["cuda"]:
        raise TTDError(
            f"torch {report['machine']['torch']} sees no GPU here; --quick rehearses on the CPU"
        )
    print(gpu_page.headline(report), flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        for stage in STAGES:
            if args.only and stage.name not in args.only:
                continue
            left = math.inf if args.quick else TOTAL - (time.monotonic() - begin)
            report["stages"].append(run_stage(stage, args.quick, device, out, Path(scratch), left))
            report["seconds"] = round(time.monotonic() - begin, 1)
            write(out, report)
            print(gpu_page.line(report["stages"][-1]), flush=True)
    return report


def machine() -> dict[str, Any]:
    """Card, driver and versions, asked in another process: this one shall not hold the card."""
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise TTDError(f"torch cannot be imported: {reason}")
    return {**json.loads(done.stdout.splitlines()[-1]), "driver": driver(), "cores": os.cpu_count()}


def driver() -> str:
    """The NVIDIA driver's version; "unknown" where nvidia-smi does not tell."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        return done.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


def run_stage(
    stage: Stage, quick: bool, device: str, out: Path, scratch: Path, left: float
) -> dict[str, Any]:
    """One stage's part of the report; `left`: seconds until the whole run must have ended."""
    budget = stage.seconds(quick)
    found = {
        "name": stage.name,
        "about": stage.about,
        "budget": budget,
        "seconds": 0.0,
        "figures": {},
        "goals": [],
        "tables": [],
    }
    if left < budget:
        return {**found, "outcome": "skipped: no time", "error": f"{left:.0f} s left of {TOTAL}"}
    result, log = scratch / f"{stage.name}.json", out / f"{stage.name}.txt"
    words = stage.words(device, quick, result)
    begin = time.monotonic()
    code = call([sys.executable, *words], log, environment(scratch, quick), budget)
    found["seconds"] = round(time.monotonic() - begin, 1)
    printed = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return {
        **found,
        "command": shlex.join(["python", *words[: words.index("--json") if stage.json else None]]),
        **outcome(stage, code, result, printed),
    }


def outcome(stage: Stage, code: int | None, result: Path, printed: Sequence[str]) -> dict[str, Any]:
    """How a stage ended, and what it found; code: of its process, None when its time was up."""
    if code is None:
        return {"outcome": "timed out", "error": "\n".join(printed[-LINES:])}
    if code or (stage.json and not result.exists()):
        return {"outcome": "failed", "error": "\n".join(printed[-LINES:]) or f"exit code {code}"}
    found: dict[str, Any] = {"figures": counts(printed)}
    if stage.json:
        found = json.loads(result.read_text(encoding="utf-8"))
    kept = {key: found[key] for key in ("figures", "goals", "tables", "hardware") if key in found}
    strange = [name for name, value in kept["figures"].items() if not math.isfinite(value)]
    if strange or not kept["figures"]:
        return {
            **kept,
            "outcome": "failed",
            "error": f"figures that are no numbers: {', '.join(strange) or 'none'}",
        }
    return {**kept, "outcome": "ok"}


def counts(printed: Sequence[str]) -> dict[str, float]:
    """Tests by outcome, of pytest's last line: {"tests passed": 66}."""
    last = "".join(printed[-1:])
    found = re.findall(r"(\d+) (passed|failed|skipped|error)", last)
    return {f"tests {what}": float(number) for number, what in found}


def environment(scratch: Path, quick: bool) -> Mapping[str, str]:
    """Nothing is fetched, and no cache outlives the run: compiling is part of what is measured.

    A rehearsal, beside other work perhaps, has one thread that does not spin while it waits.
    """
    modest = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} if quick else {}
    caches = {
        name: str(scratch / name.lower())
        for name in ("TTD_CACHE", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
    }
    return {**modest, **os.environ, **caches, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def call(command: Sequence[str], log: Path, env: Mapping[str, str], budget: float) -> int | None:
    """Exit code of a command whose output goes to `log`.

    None when it took more than `budget` seconds: it and its children are then killed.
    """
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(budget)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.returncode is None:  # also after Ctrl-C
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def write(out: Path, report: Mapping[str, Any]) -> None:
    """OUT/gpu.json and OUT/gpu.txt, each whole or not at all."""
    texts = {"gpu.json": json.dumps(report, indent=1) + "\n", "gpu.txt": gpu_page.text(report)}
    for name, content in texts.items():
        part = out / f".{name}.part"
        part.write_text(content, encoding="utf-8")
        os.replace(part, out / name)


if __name__ == "__main__":
    run(main)
