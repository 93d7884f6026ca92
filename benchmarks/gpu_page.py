"""How a run of benchmarks/gpu.py is shown: on the terminal, as text, and in docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from common import MET
from run_all import goal_row, markdown

KIND = "benchmarks/gpu.py 1"  # what a gpu.json says it is
MARKS = ("<!-- measured: benchmarks/gpu.py -->", "<!-- end of measured on a GPU -->")
Report = Mapping[str, Any]


def headline(report: Report) -> str:
    """Card, driver, versions and date in one line."""
    machine = report["machine"]
    where = f"{machine['card']}, {machine['memory_gb']:g} GiB, driver {machine['driver']}, CUDA "
    where += str(machine["cuda_version"])
    if report["device"] != "cuda":
        where = "rehearsal on the CPU"
    return (
        f"{where}, {machine['cores']} cores, torch {machine['torch']}, Python {machine['python']}, "
        f"{report['date'][:10]}"
    )


def line(stage: Report) -> str:
    """How a stage ended."""
    took = f"{stage['seconds']:6.1f} s of {stage['budget']}"
    head = f"{stage['outcome']:9} {stage['name']:11} {took}  {stage['about']}"
    error = stage.get("error", "").strip().splitlines()
    if not error:
        return head
    return f"{head}\n          {error[-1][:200]}"


def goals_of(report: Report) -> list[Report]:
    """All goals of a run."""
    return list(chain.from_iterable(stage["goals"] for stage in report["stages"]))


def summary(report: Report) -> str:
    """Goals met and missed, then stages that did not end well."""
    rows = [
        f"{MET[goal['met']]:<6}  {goal['what']}: {goal['got']}, goal {goal['goal']}"
        for goal in goals_of(report)
    ]
    bad = [
        f"{stage['name']} ({stage['outcome']})"
        for stage in report["stages"]
        if stage["outcome"] != "ok"
    ]
    end = "all stages ended well"
    if bad:
        end = f"not all stages ended well: {', '.join(bad)}"
    return "\n".join([*rows, f"{end}; {report['seconds']:.0f} s"])


def text(report: Report) -> str:
    """Everything found so far, to be read as it stands."""
    parts = [headline(report)]
    for stage in report["stages"]:
        tables = [plain(table) for table in stage["tables"]]
        figures = "\n".join(f"{name}: {value:.6g}" for name, value in stage["figures"].items())
        parts.append(
            "\n".join(
                part for part in (line(stage), *tables, figures, stage.get("error", "")) if part
            )
        )
    return "\n\n".join([*parts, summary(report)]) + "\n"


def plain(table: Report) -> str:
    """A table without its lines: cells apart by two blanks."""
    return "\n".join("  ".join(row) for row in (table["columns"], *table["rows"]))


def page(report: Report) -> str:
    """The section of docs/performance.md."""
    stages = [
        [stage["name"], stage["about"], stage["outcome"], f"{stage['seconds']:.0f} s"]
        for stage in report["stages"]
    ]
    goals = [goal_row(goal) for goal in goals_of(report)]
    parts = [
        f"`{report['command']}`; {headline(report)}; {report['seconds']:.0f} s in all.",
        markdown(["stage", "what", "outcome", "time"], stages),
    ]
    if goals:
        parts.append(markdown(["what", "goal", "measured", ""], goals))
    for stage in report["stages"]:
        parts += stage_page(stage)
    return "\n\n".join(parts) + "\n"


def stage_page(stage: Report) -> Sequence[str]:
    """A stage's tables; nothing for one that has none."""
    tables = [markdown(table["columns"], table["rows"]) for table in stage["tables"]]
    if not tables:
        return []
    return [f"### GPU: {stage['name']}", f"`{stage['command']}`", *tables]
