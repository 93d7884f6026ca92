"""What the evaluators of masks share: options, what they write, how they say what was left out."""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from core.utils.finite import without_nan
from core.utils.outputs import write_out
from tools.cli import positive_int, say, worker_count

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    from core.metrics.bootstrap import Interval, Statistic
    from core.plots.gallery import Row

SHOWN = 6  # best and worst images in a report, unless --gallery says how many


def evaluator_parser(description: str, pred: str) -> argparse.ArgumentParser:
    """The options that both evaluators of masks take.

    description: of the script; pred: where predictions usually are.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pred",
        nargs="+",
        required=True,
        metavar="FOLDER",
        help=f"the predictions, {pred}/NAME; of several folders, one table",
    )
    parser.add_argument(
        "--tag", nargs="+", metavar="NAME", help="a name to print for each (default: the folder's)"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print every setting that the masks were made with"
    )
    parser.add_argument(
        "--root", default="../", metavar="FOLDER", help="where the sets are (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows as CSV")
    report_options(parser, "FOLDER", "a folder of earlier predictions")
    parser.add_argument(
        "--gallery",
        type=positive_int,
        metavar="N",
        help="draw the N best and the N worst images beside FOLDER: FOLDER.gallery.png",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave out what is missing, extra or wrong; otherwise that is an error",
    )
    parser.add_argument(
        "--workers",
        type=worker_count,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="threads that read masks (default: %(default)s)",
    )
    return parser


def report_options(parser: argparse._ActionsContainer, what: str, earlier: str) -> None:
    """--report and --against."""
    parser.add_argument(
        "--report",
        type=page_file,
        metavar="FILE.html",
        help="write one page to show: scores, charts, the best and the worst",
    )
    parser.add_argument(
        "--against", metavar=what, help=f"{earlier}: the report and a line say what has changed"
    )


def page_file(text: str) -> Path:
    """argparse type: a file that can be written, which is said before hours of work."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text[:200]!r} is a folder; name a file in it")
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise argparse.ArgumentTypeError(f"{text[:200]!r}: {above.name} is no folder")
    return path


def named_folders(args: argparse.Namespace, usual: str) -> dict[str, Path]:
    """The folders of --pred by the name to print: --tag, else the folder's own.

    Folders of one name are numbered in their order. TTDError: a folder
    that does not exist, another number of names than of folders, two equal names.
    """
    from core.evaluation.predictions import find_folder

    folders = [find_folder(path, usual) for path in args.pred]
    places = [folder.resolve() for folder in folders]
    tags = args.tag or [place.name for place in places]
    if len(tags) != len(folders):
        raise TTDError(f"--tag: {len(tags)} names for {len(folders)} folders; give one of each")
    if not args.tag:
        before = (tags[:place].count(tag) for place, tag in enumerate(tags))
        tags = [f"{tag} ({k + 1})" if k else tag for tag, k in zip(tags, before, strict=True)]
    if len(set(places)) < len(places):
        raise TTDError("--pred: a folder is named twice")
    if len(set(tags)) < len(tags):
        raise TTDError(f"--tag: two results of one name ({', '.join(tags)}); give each its own")
    return dict(zip(tags, folders, strict=True))


def against_folder(
    args: argparse.Namespace, usual: str, folders: Mapping[str, Path]
) -> dict[str, Path]:
    """The folder of --against by a name that no other result has; {} without it.

    TTDError: it does not exist, or is one of those that are scored.
    """
    from core.evaluation.predictions import find_folder

    if not args.against:
        return {}
    folder = find_folder(args.against, usual)
    if folder.resolve() in [other.resolve() for other in folders.values()]:
        raise TTDError(f"--against {args.against}: that is a result of --pred; name an earlier one")
    return {earlier_name(folder.resolve().name, folders): folder}


def against_file(args: argparse.Namespace) -> Path | None:
    """What --against names, None without it. TTDError, before hours of work: it is not there."""
    from core.utils.files import expanded, is_there

    if not args.against:
        return None
    path = expanded(args.against)
    if not is_there(path):
        raise TTDError(f"--against {args.against}: no such file; name an earlier result")
    return path


def earlier_name(name: str, others: Container[str]) -> str:
    """What the result of --against is called: its name, marked until no other one has it."""
    while name in others:
        name += " (before)"
    return name


def say_change(
    name: str, sums: np.ndarray, before: tuple[str, np.ndarray], statistic: Statistic
) -> None:
    """Print the difference of two results with its interval. sums: see `bootstrap.replicates`."""
    from core.report.parts.sections import scored

    say_difference(name, scored(sums, statistic), before[0], scored(before[1], statistic))


def say_difference(
    name: str, now: tuple[Interval, np.ndarray], earlier: str, before: tuple[Interval, np.ndarray]
) -> None:
    """The same of scores with those of every draw, as `scored` of core.report gives them."""
    from core.report.parts.sections import change

    _, found, spread = change(now, before, earlier)
    print(f"\n{name}: {found} points ({spread})")


def common_limit(folders: Sequence[Path]) -> int | None:
    """The smallest --limit that results were made with: all are scored on what each of them has."""
    from core.evaluation.predictions import limit_of

    limits = [limit for limit in map(limit_of, folders) if limit is not None]
    return min(limits, default=None)


def limit_words(limit: int | None) -> str:
    """What is said of a set that is scored in part."""
    return "" if limit is None else f"; only the first {limit} of the set (made with --limit)"


def save_gallery(
    folder: Path, rows: Sequence[Row], names: Mapping[int, str], palette: np.ndarray
) -> None:
    """Draw rows of core.plots.gallery and store them beside the folder.

    Not in it, because there every PNG is a prediction. palette: colours [N, 3] uint8 by label.
    """
    from core.plots.gallery import draw_gallery

    folder = folder.resolve()
    path = folder.with_name(f"{folder.name}.gallery.png")
    save_picture(path, draw_gallery(rows, names, palette))
    print(f"\ngallery: {path}")


def progress_bar(total: int, unit: str = "image") -> tqdm:
    """A bar on stderr, only where that is a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, disable=None, leave=False)


def report_left_out(line: str, tag: str = "") -> None:
    """Say on stderr what --allow-missing left out, of which of several results."""
    if line:
        say(f"{tag}: left out: {line}" if tag else f"left out: {line}")


def picture_format(path: Path) -> str:
    """Pillow's name for what a file's ending says. ValueError: no image's."""
    from PIL import Image

    known = Image.registered_extensions().get(path.suffix.lower())
    if known is None or known not in Image.SAVE:
        raise ValueError(f"unknown file extension: {path.suffix}")
    return known


def save_picture(path: Path, picture: Image.Image) -> None:
    """Store a drawing. TTDError when that fails, also for an ending that is no image's."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        picture.save(buffer, picture_format(path))
        write_out(path, buffer.getvalue())
    except (OSError, ValueError) as error:
        raise TTDError(
            f"{path}: cannot be written ({error}); name a file that ends in .png"
        ) from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, indented; NaN becomes null. TTDError when that fails."""
    write(
        path, json.dumps(without_nan(content), allow_nan=False, indent=1, ensure_ascii=False) + "\n"
    )


def write(path: Path, text: str) -> None:
    """Write a text file, and the folders it lies in. TTDError when that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_out(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise TTDError(f"{path}: cannot be written ({error.strerror}); name another file") from None
