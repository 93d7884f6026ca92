"""Official releases to the layout that the readers know: a plan per set, one runner for all."""

from .plans import PLANS, make_plan
from .runner import Job, Plan, Report, run_plan

__all__ = ["PLANS", "Job", "Plan", "Report", "make_plan", "run_plan"]
