"""Processes that a launcher started: each takes its own part of the shards, and none waits.

torchrun says which one this is by RANK and WORLD_SIZE, srun by SLURM_PROCID and SLURM_NTASKS, a job
array by SLURM_ARRAY_TASK_ID; an array of jobs of several tasks is both.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ...errors import TTDError
from ...training.distributed import environment_number, local_rank, rank_and_world


@dataclass(frozen=True)
class Part:
    """Part `number` of `of`, from 0; local: the number of the process on its machine."""

    number: int = 0
    of: int = 1
    local: int = 0


def launched() -> Part:
    """The part that the environment says. TTDError where no launcher has said anything."""
    own, array = _process(), _array()
    if own is None and array is None:
        raise TTDError(
            "--engine torchrun: no launcher started this process; start it with torchrun, srun or "
            "as a job array, or take --engine local"
        )
    inner, outer = own or Part(), array or Part()
    return Part(outer.number * inner.of + inner.number, outer.of * inner.of, inner.local)


def _process() -> Part | None:
    """This process among those of torchrun or srun."""
    found = rank_and_world()
    if found is not None:
        return Part(*found, local_rank())
    if not os.environ.get("SLURM_PROCID", "").strip():
        return None
    number = environment_number("SLURM_PROCID", 0)
    of = environment_number("SLURM_NTASKS", 1, least=1)
    return _checked(Part(number, of, environment_number("SLURM_LOCALID", 0)), "SLURM_PROCID")


def _array() -> Part | None:
    """This job among those of an array."""
    if not os.environ.get("SLURM_ARRAY_TASK_ID", "").strip():
        return None
    first = environment_number("SLURM_ARRAY_TASK_MIN", 0)
    last = environment_number("SLURM_ARRAY_TASK_MAX", 0)
    step = environment_number("SLURM_ARRAY_TASK_STEP", 1, least=1)
    number = environment_number("SLURM_ARRAY_TASK_ID", 0)
    of = environment_number("SLURM_ARRAY_TASK_COUNT", (last - first) // step + 1, least=1)
    return _checked(Part((number - first) // step, of), "SLURM_ARRAY_TASK_ID")


def _checked(part: Part, name: str) -> Part:
    if not 0 <= part.number < part.of:
        raise TTDError(
            f"{name}: part {part.number} of {part.of}; parts count from 0 and end before"
        )
    return part


def parse_part(text: str) -> Part:
    """`I/N`, part I of N from 0. TTDError for anything else.

    >>> parse_part("3/8")
    Part(number=3, of=8, local=0)
    """
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise TTDError(f"--part {text[:40]}: wanted I/N with I from 0 to N - 1, such as 0/8")
    return Part(int(number), int(of))
