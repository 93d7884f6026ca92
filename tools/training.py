"""What every train_*.py shares: options, settings, device, preflight, progress, stopping, the end.

def main(argv=None):
    args = vars(get_args_parser().parse_args(argv))
    chosen = settings(args, load_config, path)      # YAML, --set, flags; the rate by the batch
    return launch(chosen, args, build, shown, report)
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from core.errors import TTDError
from core.utils.shown import first_few
from tools.cli import choose_device, run, say
from tools.interrupts import end_at_once, interrupt

if TYPE_CHECKING:
    from core.training.config import RunConfig
    from core.training.distributed import Ranks
    from core.training.preflight import Recipe
    from core.training.task import Task
    from core.training.trainer import Outcome, Trainer

# Options that are no settings of a run.
CONTROLS = ("config", "set", "overwrite", "reindex", "gpus", "dry_run", "no_scale_lr")

C = TypeVar("C", bound="RunConfig")


@dataclass(frozen=True)
class Chosen(Generic[C]):
    """The settings of a run, and the recipe they started from, if any."""

    config: C
    recipe: Recipe | None


def settings(
    args: Mapping[str, Any],
    load: Callable[[Mapping[str, Any], str, Callable[[str], None]], C],
    path: str | Path | None,
) -> Chosen[C]:
    """The settings of the YAML file at `path`, of --set and of the flags; the later win.

    Where --batch differs from the file's and no learning rate is given, the file's rates are
    scaled in proportion, unless --no-scale-lr. TTDError for what is wrong in any of them.
    """
    from core.utils.config import merge, read_recipe

    load = partial(_blaming, load, args, path)
    flags = {key: value for key, value in args.items() if key not in CONTROLS}
    given = merge(dict(setting(item) for item in args.get("set", ())), flags)
    if path is None:
        return Chosen(load(given, "settings", say), None)
    own = read_recipe(path)
    values = merge(own, given)
    config = load(values, str(path), say)
    recipe = _recipe(load, values, own, str(path))
    return scaled(config, recipe, str(path), set(given), bool(args.get("no_scale_lr")))


def _blaming(
    load: Callable[[Mapping[str, Any], str, Callable[[str], None]], C],
    args: Mapping[str, Any],
    path: str | Path | None,
    values: Mapping[str, Any],
    source: str,
    warn: Callable[[str], None],
) -> C:
    """`load`, whose errors name the --set that they are about, or else the file.

    args: the command line, with the KEY=VALUE of --set. path: of the recipe, which may extend the
    one that holds the setting.
    """
    from core.utils.config import UnknownSetting, blamed

    keys = {text.partition("=")[0]: text for text in args.get("set", ())}
    try:
        return load(values, source, warn)
    except UnknownSetting as error:
        for key, text in keys.items():
            if wrong := set(key.split(".")).intersection(error.names):
                name = ", ".join(wrong)
                raise TTDError(f"--set {text}: unknown setting {name}; {error.advice}") from None
        raise error if path is None else blamed(error, path) from None
    except TTDError as error:
        for key, text in keys.items():
            section, _, name = key.rpartition(".")
            if str(error).startswith(f"{_place(source, section)}{name} "):
                reason = str(error).removeprefix(_place(source, section))
                raise TTDError(f"--set {text}: {reason}") from None
        from_flag = any(str(error).startswith(f"{source}: {name} ") for name in args)
        raise error if path is None or from_flag else blamed(error, path) from None


def _place(source: str, section: str) -> str:
    """How an error about a setting of a section begins, none: of the file itself."""
    return f"{source}: {section}: " if section else f"{source}: "


def _recipe(
    load: Callable[[Mapping[str, Any], str, Callable[[str], None]], C],
    values: Mapping[str, Any],
    own: Mapping[str, Any],
    path: str,
) -> C:
    """The settings with the file's own batch and rates."""
    config = load(values, path, lambda line: None)
    back = {key: own[key] for key in ("batch", *config.RATES) if key in own}
    return load({**values, **back}, path, lambda line: None)


def scaled(config: C, recipe: C, path: str, given: set[str], keep: bool) -> Chosen[C]:
    """`config` with the recipe's rates times its batch over the recipe's: the linear rule.

    given: names of settings that the user gave, which stay. keep: scale nothing.
    """
    from core.training.preflight import Recipe

    names = [] if keep or config.batch == recipe.batch else [*config.RATES]
    share = config.batch / recipe.batch
    rates = {name: getattr(recipe, name) * share for name in names if name not in given}
    stated = Recipe(path, recipe.batch, recipe.lr, scaled="lr" in rates)
    return Chosen(replace(config, **rates), stated)


def setting(text: str) -> tuple[str, Any]:
    """`KEY=VALUE` of --set, the value as YAML reads it."""
    from core.utils.yaml_files import parse_yaml

    key, equals, value = text.partition("=")
    if not equals:
        raise TTDError(f"--set {text}: write KEY=VALUE")
    return key, parse_yaml(value, f"--set {text:.80}")


def place(device: str | None, gpus: list[str] | None) -> str:
    """The device of this process.

    TTDError for several GPUs without torchrun, or a process without a GPU.
    """
    import torch

    from core.backbones.device import resolve_device
    from core.training.distributed import environment_number, local_rank, started_by_torchrun

    numbers = [number for group in gpus or () for number in group.split(",")]
    if not started_by_torchrun():
        if len(numbers) > 1:
            raise TTDError(
                f"{len(numbers)} GPUs need as many processes: torchrun --nproc_per_node "
                f"{len(numbers)} {Path(sys.argv[0]).name} ..."
            )
        return str(resolve_device(choose_device(device, numbers[0] if numbers else None)))
    if device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    count = environment_number("LOCAL_WORLD_SIZE", local_rank() + 1, least=1)
    there = numbers or [str(number) for number in range(torch.cuda.device_count())]
    if count > len(there):
        raise TTDError(
            f"{count} processes on this machine for {len(there)} GPUs: lower --nproc_per_node"
        )
    return str(resolve_device(choose_device(None, there[local_rank()])))


def launch(
    args: Mapping[str, Any],
    choose: Callable[[Mapping[str, Any]], Chosen[C]],
    build: Callable[[C, str, Ranks], Task[Any, Any, Any]],
    *,
    report: Callable[[Outcome, C], None],
    shown: Callable[[Mapping[str, float]], str] = lambda values: f"loss {values['loss']:.4f}",
) -> int:
    """A whole run from its options.

    choose: `settings` for this system. build(config, device, ranks): the task, in every process.
    report: says how it went, in the first process. shown: what stands beside the progress bar.
    Returns 0 when done, 2 in a process whose peer has said what is wrong, 130 after Ctrl-C.
    """
    from core.training.distributed import PeerError, joined, local_rank, started_by_torchrun

    try:
        chosen = choose(args)
        device = place(chosen.config.device, args.get("gpus"))
    except TTDError:
        if started_by_torchrun() and local_rank():
            return 2  # every process finds the same mistake: one of them says so
        raise
    from core.backbones.device import use_threads

    use_threads(chosen.config.threads)
    try:
        with joined(device) as ranks:
            return _train(chosen, args, build(chosen.config, device, ranks), ranks, report, shown)
    except PeerError:
        return 2


def _train(
    chosen: Chosen[C],
    args: Mapping[str, Any],
    task: Task[Any, Any, Any],
    ranks: Ranks,
    report: Callable[[Outcome, C], None],
    shown: Callable[[Mapping[str, float]], str],
) -> int:
    from core.training.trainer import Trainer

    dry = bool(args.get("dry_run"))
    overwrite = bool(args.get("overwrite"))
    with closing(Trainer(task, ranks=ranks, overwrite=overwrite, dry_run=dry)) as trainer:
        describe(trainer, chosen.recipe)
        if dry:
            return 0
        outcome = trained(trainer, shown)
    if ranks.first:
        end(outcome, chosen.config)
        if not outcome.stopped:
            report(outcome, chosen.config)
    return 130 if outcome.stopped else 0


def describe(trainer: Trainer, recipe: Recipe | None) -> None:
    """The preflight's lines; every process takes part, the first one prints."""
    from core.training.preflight import preflight

    for line in preflight(trainer, recipe):
        if trainer.ranks.first:
            print(line, flush=True)
    if not trainer.ranks.first:
        return
    start = trainer.task.schedule_start
    if start:
        more = trainer.config.steps - start
        print(f"extending the finished run of {start} steps: a new schedule over {more} more")
    if trainer.step > start:
        print(f"resuming after step {trainer.step}")
    if not trainer.dry_run and not trainer.logs_to_board:
        say("TensorBoard is not installed: the log is train_log.jsonl alone")


def trained(trainer: Trainer, shown: Callable[[Mapping[str, float]], str]) -> Outcome:
    """Run under a progress bar.

    The first Ctrl-C (or SIGTERM) ends the step and stores it, the second does not wait for that.
    """
    from tqdm import tqdm

    hidden = None if trainer.ranks.first else True  # None: where stderr is no terminal
    with (
        stop_requests() as asked,
        tqdm(
            total=trainer.config.steps,
            initial=trainer.step,
            unit="step",
            file=sys.stderr,
            disable=hidden,
        ) as bar,
    ):

        def progress(step: int, values: Mapping[str, float]) -> None:
            bar.set_postfix_str(shown(values), refresh=False)
            bar.update(step - bar.n)

        return trainer.run(progress, lambda: bool(asked))


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Signals that ask for an end, collected; a second one interrupts, a third ends at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(number, interrupt)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not end_at_once:  # armed by a second signal
                signal.signal(number, handler)


def end(outcome: Outcome, config: RunConfig) -> None:
    """What every run says when it ends."""
    if outcome.skipped:
        from core.training.storage.run_dir import unreadable

        listed = config.folder / "skipped.jsonl"
        lost = unreadable(config.folder)
        if outcome.skipped > len(lost):
            say(f"{outcome.skipped - len(lost)} samples could not be used: see {listed}")
        if lost:
            say(
                f"{len(lost)} samples could not be read ({first_few(lost)}), others stood in for "
                f"them: see {listed}"
            )
    if outcome.stopped:
        say(
            f"stopped after step {outcome.step} of {config.steps}; the same command resumes, the "
            f"export so far is {outcome.file}"
        )


def run_script(main: Callable[[], int | None]) -> None:
    """Call `main` and exit as tools/cli.py does.

    One process of several leaves at once: threads of a broken group abort an orderly exit.
    """
    try:
        run(main)
    except SystemExit as end:
        if os.environ.get("WORLD_SIZE", "").strip() in ("", "1"):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
