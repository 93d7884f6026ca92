"""What benchmarks/gpu.py runs, in order: the cheapest and most telling stages first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Seconds of a whole run on an H100-like card with 16 cores; the budgets below fit into it.
TOTAL = 540
# Seconds that a stage of a rehearsal may take, on a busy machine too: a guard against hanging.
QUICK = 600


@dataclass(frozen=True)
class Stage:
    """A process of its own, which is stopped after `budget` seconds.

    command: words after `python`. json: whether it takes --device, --quick and --json as the
    benchmarks do; else its output alone is kept.
    """

    name: str
    about: str
    budget: int
    command: tuple[str, ...]
    json: bool = True

    def words(self, device: str, quick: bool, result: Path) -> list[str]:
        """The command line after `python`."""
        if not self.json:
            return [word.format(device=device) for word in self.command]
        rehearsal = ["--quick"] if quick else []
        return [*self.command, "--device", device, *rehearsal, "--json", str(result)]

    def seconds(self, quick: bool) -> int:
        """How long it may take."""
        return QUICK if quick else self.budget


def _bench(name: str, *options: str) -> tuple[str, ...]:
    return (f"benchmarks/{name}.py", *options)


STAGES = (
    Stage("ceilings", "what the device can do at best", 20, _bench("bench_ceilings")),
    Stage(
        "works",
        "what only a GPU can show: pytest -m gpu",
        72,
        (
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "gpu",
            "--gpu-device",
            "{device}",
            "tests/gpu",
        ),
        False,
    ),
    Stage("pamr", "PAMR against its published form", 35, _bench("bench_pamr")),
    Stage("step", "a TTD step: pairs/s, parts, memory", 45, _bench("bench_ttd_rate")),
    Stage("masks", "masks by protocol ttd against one by one", 65, _bench("bench_masks_cuda")),
    Stage(
        "truth",
        "the tiny recipe gains what it gains on a CPU",
        100,
        _bench("bench_truth", "--seconds", "85"),
    ),
    Stage(
        "tags",
        "tags from text against one by one",
        30,
        _bench("bench_tags", "--captions=128", "--batch=128", "--per-image=1"),
    ),
    Stage("decode", "tags from files: decoding or the model", 25, _bench("bench_tag_pipeline")),
    Stage("literal", "a TTD step against the loss written down", 30, _bench("bench_ttd_step")),
    Stage(
        "curves",
        "training in float32 and bfloat16: loss curves",
        45,
        _bench("bench_training", "--steps", "150", "--workers", "12"),
    ),
    Stage(
        "compile", "torch.compile and CUDA graphs on the image tower", 40, _bench("bench_compile")
    ),
    Stage(
        "evaluation",
        "label maps scored, on the CPU",
        15,
        _bench("bench_evaluation", "--pairs", "32", "--workers", "8"),
    ),
)
