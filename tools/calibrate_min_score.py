"""Find a model's lowest score of a word that is in the image, for --min-score; no labels needed.

    python tools/calibrate_min_score.py --arch tiny --data ../world/cc3m/train --limit 2000
    python tools/calibrate_min_score.py --arch local-dir:my_model --data pairs.jsonl --write

The words of captions are scored in their own images and in those of other captions; the cut is
where the two differ most. --write puts it into the folder's open_clip_config.json, where
`--min-score` without a number finds it. An adapter moves scores: merge it first
(tools/merge_lora.py), or give the number that is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cli import load_model, model_options, positive_int, run

from core.errors import TTDError


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        parents=[model_options()],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", required=True, metavar="PATH", help="images with captions: folder, list or shards"
    )
    parser.add_argument(
        "--limit",
        type=positive_int,
        default=2000,
        metavar="N",
        help="only the first N pairs (default: %(default)s)",
    )
    parser.add_argument(
        "--write", action="store_true", help="put the value into the model's own config"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print, and write if asked to."""
    args = get_args_parser().parse_args(argv)
    folder = config_folder(args) if args.write else None
    from core.data.records import Record, open_records
    from core.evaluation.min_score import calibrate_min_score

    source = open_records(args.data)
    print(source.description)
    records = [one for one in source.iterate(0, args.limit) if isinstance(one, Record)]
    found = calibrate_min_score(load_model(args), records)
    print(
        f"--min-score {found.cut:.3f} keeps {found.own:.1%} of {found.words} words in their own "
        f"images, {found.other:.1%} in others ({found.pairs} pairs)"
    )
    if folder is not None:
        write(folder, found.cut, f"{found.pairs} pairs of {Path(args.data).name}, unlabelled")
    return 0


def config_folder(args: argparse.Namespace) -> Path:
    """The folder whose config --write changes. TTDError where there is none."""
    from core.backbones.clip_loading import SHORT_NAMES

    name = SHORT_NAMES.get(args.arch, args.arch)
    if args.lora or args.weights or not name.startswith("local-dir:"):
        raise TTDError(
            "--write changes a model's own config: name a folder, --arch local-dir:FOLDER, "
            "without --lora and --weights (tools/merge_lora.py makes one of a model and an adapter)"
        )
    return Path(name.removeprefix("local-dir:")).expanduser()


def write(folder: Path, cut: float, note: str) -> None:
    """Put the cut and where it is from into the folder's config; all else stays."""
    import json

    from core.backbones.openclip_config import FOLDER_CONFIG, folder_config
    from core.utils.files import write_errors, write_text

    config = folder_config(folder)
    own = {**config.get("ttd", {}), "min_score": round(cut, 3), "min_score_on": note}
    with write_errors(folder / FOLDER_CONFIG, "the value is printed above"):
        write_text(folder / FOLDER_CONFIG, json.dumps({**config, "ttd": own}, indent=2) + "\n")
    print(f"{folder / FOLDER_CONFIG}: min_score {cut:.3f}")


if __name__ == "__main__":
    run(main)
