"""What every script shares: model options, how errors reach the terminal, the path of `core`."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# `python tools/x.py` puts tools/ on the path, not the repository; scripts at the top import this as
# `tools.cli`.
ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from core.errors import TTDError  # noqa: E402
from core.utils.shown import visible  # noqa: E402
from tools.interrupts import INTERRUPTED, handle_interrupts  # noqa: E402
from tools.terminal import guard_terminal  # noqa: E402

if TYPE_CHECKING:
    from core.backbones.base import Backbone

# How long a thread of libgomp waits in a busy loop for the others before it sleeps: its own 300,000
# rounds let two jobs on the same processors keep each other from working, four times slower each;
# 1,000 do not (benchmarks/bench_two_jobs.py). It is read when torch is imported.
SPIN_ROUNDS = "1000"
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_ROUNDS)

MOST, MOST_WORKERS = 10**9, 1024
MODELS_OWN = "model"
OURS = ("tools", "benchmarks")  # folders of scripts


def _is_script() -> bool:
    """Whether a script of this repository is running, not a test or a worker's process."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return file is not None and Path(file).resolve().parent in (ROOT, *map(ROOT.joinpath, OURS))


if _is_script():
    handle_interrupts()  # now: the script has more to import


def _one_line(message: Warning | str, *_: object) -> str:
    """A warning as one line, without its place in the source."""
    return f"{Path(sys.argv[0]).name}: {' '.join(str(message).split())}\n"


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and exit: 0 or its result; 2 and one line for bad input; 130 for Ctrl-C.

    What no reader has foreseen is one line too; --debug or TTD_DEBUG=1 shows where it came from.
    """
    debug = wants_debug()
    warnings.formatwarning = _one_line
    guard_terminal()
    handle_interrupts()
    try:
        code = main() or 0
        sys.stdout.flush()  # here, where a reader that went away is still handled below
        sys.exit(code)
    except TTDError as error:
        say(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `... | head`: the reader went away, nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a name too long, a disk that is full, a permission
        if debug:
            raise
        where = f"{str(error.filename)[:200]}: " if error.filename is not None else ""
        say(f"{where}{error.strerror or error}; check the path, its permissions and the disk")
        sys.exit(2)
    except Exception as error:
        if debug:
            raise
        reason = " ".join(str(error).split())[:200]
        say(f"unexpected {type(error).__name__}: {reason} (--debug shows where it came from)")
        sys.exit(2)


def wants_debug() -> bool:
    """Whether tracebacks are wanted: TTD_DEBUG=1, or --debug, which is taken off the arguments."""
    asked = "--debug" in sys.argv[1:]
    if asked:
        sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != "--debug"]
    return asked or os.environ.get("TTD_DEBUG", "") not in ("", "0")


def say(message: str) -> None:
    """One line on stderr, with the script's name in front and no character that moves a cursor."""
    line = visible(" ".join(message.split()))
    print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)


def model_options(arch: str = "tiny", many_gpus: bool = False) -> argparse.ArgumentParser:
    """Parent parser with the options that choose and place a model; `load_model` reads them.

    many_gpus: --gpus takes several numbers, for scripts that share their work among processes.
    """
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("model")
    group.add_argument(
        "--arch",
        default=arch,
        metavar="NAME",
        help="CLIP, TCL, tiny, MODEL:PRETRAINED or MODEL:FILE of open_clip, hf-hub:ORG/NAME, "
        "local-dir:FOLDER, tips:FOLDER, dinotxt:FOLDER (default: %(default)s)",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="weights to load instead of those the name stands for (TCL: also hf-hub:ORG/NAME)",
    )
    group.add_argument(
        "--lora", metavar="FILE", help="TTD adapter to put on top: a file or hf-hub:ORG/NAME"
    )
    group.add_argument(
        "--head",
        metavar="HEAD",
        help="dense head: vanilla, maskclip, maskclip-value, sclip, naclip, "
        "kk, clearclip (default: by the model's pooling)",
    )
    _device_options(group, many_gpus)
    return parser


def _device_options(group: argparse._ArgumentGroup, many_gpus: bool) -> None:
    """Where a model computes, and in which numbers."""
    group.add_argument(
        "--device",
        metavar="DEVICE",
        help="cpu, cuda, cuda:N or mps (default: CUDA where there is one, else the CPU)",
    )
    meaning = "a process on each of these GPUs" if many_gpus else "the same as --device cuda:N"
    group.add_argument(
        "--gpus",
        nargs="+" if many_gpus else None,
        metavar="N",
        help=f"{meaning}; without a GPU, the CPU is used",
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="number type of the towers; maps are float32 always (default: %(default)s)",
    )


def min_score_option(group: argparse._ActionsContainer) -> None:
    """--min-score [S], None where it is not given; `min_score` turns it into a number."""
    group.add_argument(
        "--min-score",
        nargs="?",
        const=MODELS_OWN,
        type=_cosine,
        metavar="S",
        help="reject every word whose cosine with its nearest pixel is below S, all of them if "
        "need be; without S the value in the model's config (default: no such cut)",
    )


def min_score(args: argparse.Namespace) -> float | None:
    """The cosine that --min-score stands for; reads the model's config, not the model.

    Raises TTDError where the model's config has none.
    """
    if args.min_score != MODELS_OWN:
        return args.min_score
    from core.backbones.clip_loading import SHORT_NAMES
    from core.backbones.own_settings import own_settings

    own = own_settings(SHORT_NAMES.get(args.arch, args.arch)).min_score
    if own is None:
        raise TTDError(
            f"--min-score: {args.arch} has no value of its own; find one with "
            "tools/calibrate_min_score.py and give it, as --min-score 0.2"
        )
    return own


def _cosine(text: str) -> float | str:
    """argparse type: a cosine, or the model's own."""
    if text == MODELS_OWN:
        return text
    value = float(text)
    if not -1 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no cosine, which lies in [-1, 1]")
    return value


def view_options(
    size: str = "twice the model's own size", pamr: bool = True
) -> argparse.ArgumentParser:
    """Parent parser with the options that say how an image is looked at.

    size: the default of --image in words. pamr: whether --pamr is one of them.
    """
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("inference")
    group.add_argument(
        "--image",
        type=positive_int,
        metavar="PIXELS",
        help=f"short side of the image at scale 1 (default: {size})",
    )
    group.add_argument(
        "--scales",
        type=positive_float,
        nargs="+",
        default=[1.0],
        metavar="S",
        help="scales whose maps are averaged (default: 1.0)",
    )
    group.add_argument("--hflip", action="store_true", help="also average with the mirrored image")
    if pamr:
        group.add_argument(
            "--pamr", action="store_true", help="refine the maps along the image's edges (PAMR)"
        )
    return parser


def trust_option(group: argparse._ActionsContainer) -> None:
    """--trust-inputs."""
    group.add_argument(
        "--trust-inputs",
        action="store_true",
        help="take the image files of a result that is there for unchanged, without a look",
    )


def load_model(args: argparse.Namespace) -> Backbone:
    """The backbone that `model_options` describe; says so when --gpus names a GPU and has none.

    TTDError: see `core.backbones.load_backbone`.
    """
    from core.backbones import load_backbone

    return load_backbone(
        args.arch,
        weights=args.weights,
        lora=args.lora,
        head=args.head,
        dtype=args.dtype,
        device=choose_device(args.device, args.gpus),
    )


def choose_device(device: str | None, gpus: str | None) -> str | None:
    """--device wins; `--gpus N[,M...]` is the first GPU named, or the CPU where there is none.

    Raises TTDError for a --gpus that is no list of numbers.
    """
    if device is not None or gpus is None:
        return device
    first = gpus.split(",")[0].strip()
    if not first.isdecimal():
        raise TTDError(f"--gpus {gpus}: not a GPU number; use --gpus 0, or --device cpu")
    import torch

    if torch.cuda.is_available():
        return f"cuda:{first}"
    say(f"--gpus {gpus}: no GPU here, running on the CPU")
    return "cpu"


def positive_int(text: str) -> int:
    """argparse type: an integer from 1 to a billion."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= MOST:
        what = "too large a number" if value > MOST else "not a positive whole number"
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is {what}")
    return value


def worker_count(text: str) -> int:
    """argparse type: a number of threads or processes, 1 to 1024."""
    value = positive_int(text)
    if value > MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text}: at most {MOST_WORKERS} are started")
    return value


def positive_float(text: str) -> float:
    """argparse type: a finite number > 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def seed_number(text: str) -> int:
    """argparse type: a whole number >= 0, as numpy's generators take it."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return value
