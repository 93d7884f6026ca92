"""Official releases to the layout that the readers know: one plan per set, one runner for all of them."""

from .plans import NAMES, make_plan
from .runner import Job, Plan, Report, run_plan

__all__ = ["NAMES", "Job", "Plan", "Report", "make_plan", "run_plan"]
