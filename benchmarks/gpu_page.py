"""How a run of benchmarks/gpu.py is shown: on the terminal, as text, and in docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from run_all import markdown

KIND = "benchmarks/gpu.py 1"  # what a gpu.json says it is
MARKS = ("<!-- measured: benchmarks/gpu.py -->", "<!-- end of measured on a GPU -->")
Report = Mapping[str, Any]
MET = {True: "met   ", False: "MISSED"}


def headline(report: Report) -> str:
    """Card, driver, versions and date in one line."""
    machine = report["machine"]
    where = f"{machine['card']}, {machine['memory_gb']:g} GiB, driver {machine['driver']}, CUDA "
    where = (
        f"{where}{machine['cuda_version']}"
        if report["device"] == "cuda"
        else "rehearsal on the CPU"
    )
    return (
        f"{where}, {machine['cores']} cores, torch {machine['torch']}, Python {machine['python']}, "
        f"{report['date'][:10]}"
    )


def line(stage: Report) -> str:
    """How a stage ended."""
    took = f"{stage['seconds']:6.1f} s of {stage['budget']}"
    head = f"{stage['outcome']:9} {stage['name']:11} {took}  {stage['about']}"
    error = stage.get("error", "").strip().splitlines()
    return f"{head}\n          {error[-1][:200]}" if error else head


def goals_of(report: Report) -> list[Report]:
    """All goals of a run."""
    return [goal for stage in report["stages"] for goal in stage["goals"]]


def summary(report: Report) -> str:
    """Goals met and missed, then stages that did not end well."""
    rows = [
        f"{MET[goal['met']]}  {goal['what']}: {goal['got']}, goal {goal['goal']}"
        for goal in goals_of(report)
    ]
    bad = [
        f"{stage['name']} ({stage['outcome']})"
        for stage in report["stages"]
        if stage["outcome"] != "ok"
    ]
    end = f"not all stages ended well: {', '.join(bad)}" if bad else "all stages ended well"
    return "\n".join([*rows, f"{end}; {report['seconds']:.0f} s"])


def text(report: Report) -> str:
    """Everything found so far, to be read as it stands."""
    parts = [headline(report)]
    for stage in report["stages"]:
        tables = [
            "\n".join("  ".join(row) for row in (table["columns"], *table["rows"]))
            for table in stage["tables"]
        ]
        figures = "\n".join(f"{name}: {value:.6g}" for name, value in stage["figures"].items())
        parts.append(
            "\n".join(
                part for part in (line(stage), *tables, figures, stage.get("error", "")) if part
            )
        )
    return "\n\n".join([*parts, summary(report)]) + "\n"


def page(report: Report) -> str:
    """The section of docs/performance.md."""
    stages = [
        [stage["name"], stage["about"], stage["outcome"], f"{stage['seconds']:.0f} s"]
        for stage in report["stages"]
    ]
    goals = [
        [goal["what"], goal["goal"], goal["got"], "met" if goal["met"] else "**missed**"]
        for goal in goals_of(report)
    ]
    parts = [
        f"`{report['command']}`; {headline(report)}; {report['seconds']:.0f} s in all.",
        markdown(["stage", "what", "outcome", "time"], stages),
    ]
    parts += [markdown(["what", "goal", "measured", ""], goals)] if goals else []
    for stage in report["stages"]:
        parts += stage_page(stage)
    return "\n\n".join(parts) + "\n"


def stage_page(stage: Report) -> Sequence[str]:
    """A stage's tables; nothing for one that has none."""
    tables = [markdown(table["columns"], table["rows"]) for table in stage["tables"]]
    return [f"### GPU: {stage['name']}", f"`{stage['command']}`", *tables] if tables else []
