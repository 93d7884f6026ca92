"""The pictures of a curriculum: the searches, and the reliability of every source."""

from __future__ import annotations

from pathlib import Path

from ...plots.charts.curriculum import Search, draw_histogram, draw_searches
from ...utils.files import write_errors
from .lab import CurriculumLab
from .pool import whole
from .schedule import Outcome, Step


def draw(folder: Path, lab: CurriculumLab, outcome: Outcome) -> list[Path]:
    """FOLDER/searches.png, and FOLDER/reliability_SOURCE.png by every measurer there is."""
    searches = [
        Search(_title(step), step.climb.tried, step.climb.threshold) for step in outcome.steps
    ]
    levels = {f"all of {name}": value for name, value in outcome.alone.items()}
    pictures = {"searches.png": draw_searches(searches, levels)}
    for source in lab.sources:
        measured = {by: lab.reliability(whole(by), source) for by in outcome.alone}
        pictures[f"reliability_{source}.png"] = draw_histogram(measured, source)
    with write_errors(folder, "make room, or choose another --out"):
        for name, picture in pictures.items():
            picture.save(folder / name)
    return [folder / name for name in pictures]


def _title(step: Step) -> str:
    return f"{step.source}, measured by {step.chosen}{'' if step.taken else ', left out'}"
