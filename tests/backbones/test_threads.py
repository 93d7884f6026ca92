"""What a training process sets before it computes."""

import subprocess
import sys

from paths import ROOT

SCRIPT = """
import torch
from core.backbones.device import use_threads
use_threads(3)
subnormal = torch.full((2**20,), 1e-39)  # many enough for a parallel loop
print(torch.get_num_threads(), float((subnormal * 0.5).abs().max()))
use_threads()
print(torch.get_num_threads())
"""


def test_all_threads_take_subnormal_numbers_as_zero():
    """In a process of its own: the flag stays."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines() == ["3 0.0", "3"]
