"""Words light up in an image: one heat map per word, and how strongly each word is there.

    python demo.py                                      # the image that ships, tiny model, offline
    python demo.py --input photo.jpg --tags dog "red ball" --pamr
    python demo.py --input photo.jpg --text "a dog chases a ball"         # a caption and its words
    python demo.py --input photos/ 'more/*.png' captions.jsonl --tags person --out panels
    python demo.py --input photo.jpg --ground "the woman in red" --grounder clip-vg.pth  # boxes
    python demo.py --arch TCL --lora weights/TCL+TTD.pt --tags flame smoke --image 448 \\
        --scales 1.0 0.5 1.5 2.0 --pamr

For each image: a panel `OUT/NAME.png` and a table on the terminal. Score = the cosine of the word
with its nearest pixel; norm = the scores of one image's words from 0 to 1; kept words are marked
`*`. In the panel of a caption they are large, the rejected ones small and grey; --tags are all
large. The colours are the soft mask of the word: blue 0, white 0.5, red 1. --format svg or pdf:
texts stay texts, for a paper (pdf needs `pip install -r requirements-pdf.txt`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import TTDError
from core.utils.files import resolved
from core.utils.memory import memory_errors
from tools.cli import (
    ROOT,
    load_model,
    min_score,
    min_score_option,
    model_options,
    run,
    say,
    view_options,
)
from tools.demo_panel import draw, save, table

if TYPE_CHECKING:
    from core.data.image_lists import Listed
    from core.predictor import Predictor

SHIPPED = ROOT / "weights" / "tiny" / "demo.jpg"


@dataclass(frozen=True)
class Job:
    """One image, the words to look for in it, their caption (if any) and the panel's file."""

    path: Path
    words: tuple[str, ...]
    caption: str | None
    panel: Path


def get_args_parser() -> argparse.ArgumentParser:
    """All options of the demo."""
    parser = argparse.ArgumentParser(
        parents=[model_options(), view_options()],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--input",
        nargs="+",
        metavar="PATH",
        help="images, folders, patterns, or JSONL files of images with captions "
        "(default: the image that ships)",
    )
    parser.add_argument("--tags", nargs="+", metavar="TAG", help="words or phrases to look for")
    parser.add_argument(
        "--text", metavar="CAPTION", help="a caption: its words are looked for, and it as a whole"
    )
    parser.add_argument(
        "--ground", nargs="+", metavar="PHRASE", help="draw a box for each phrase instead (CLIP-VG)"
    )
    parser.add_argument(
        "--grounder", metavar="FILE", help="the grounding model of --ground, ours or CLIP-VG's"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        metavar="FOLDER",
        help="where the panels go (default: %(default)s)",
    )
    parser.add_argument(
        "--crf", action="store_true", help="refine the maps with DenseCRF (needs pydensecrf2)"
    )
    min_score_option(parser)
    parser.add_argument(
        "--overlay",
        action="store_true",
        help="draw the maps over the image, as opaque as they are high",
    )
    parser.add_argument(
        "--format",
        choices=("png", "svg", "pdf"),
        default="png",
        help="of the panels; svg and pdf keep texts as texts (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Draw a panel and print a table per image; 2 when some images of a batch failed."""
    args = get_args_parser().parse_args(argv)
    if args.ground:
        return _ground(args, argv)
    jobs, least = plan_jobs(args), min_score(args)
    if args.format == "pdf":
        from core.plots.vector import require_pdf

        require_pdf()  # now, not after the first image
    _make_folder(args.out)
    predictor = make_predictor(args, len(jobs))
    print(_headline(predictor))
    failed = 0
    for job in _progress(jobs):
        try:
            show(predictor, job, args.overlay, least)
        except TTDError as error:
            if len(jobs) == 1:
                raise
            failed += 1
            say(str(error))
    if failed:
        say(f"{failed} of {len(jobs)} images failed")
    return 2 if failed else 0


def _ground(args: argparse.Namespace, argv: Sequence[str] | None) -> int:
    """Boxes for --ground; the model's own backbone unless --arch is given."""
    from tools.cli import choose_device
    from tools.ground_demo import ground, images_and_weights

    if args.format != "png":
        raise TTDError(f"--format {args.format}: --ground draws PNG only; leave --format out")
    paths, weights = images_and_weights(args.input, args.grounder)
    _make_folder(args.out)
    given = sys.argv[1:] if argv is None else argv
    named = any(option.split("=")[0] == "--arch" for option in given)
    pictures = list(zip(paths, panel_names(paths, args.out), strict=True))
    device = choose_device(args.device, args.gpus)
    return ground(pictures, args.ground, weights, args.arch if named else None, device)


def plan_jobs(args: argparse.Namespace) -> list[Job]:
    """Every image with its words and its panel's name. TTDError when no image has any words."""
    from core.data.image_lists import list_images

    if args.text is not None and not args.text.strip():
        raise TTDError('--text is empty: write a caption, such as --text "a dog with a ball"')
    listed = list_images(args.input) if args.input else [_shipped()]
    queries = [_query(item, args.tags, args.text) for item in listed]
    if not any(words for words, _ in queries):
        raise TTDError('no words to look for: add --tags dog ball, or --text "a dog with a ball"')
    if not (args.tags or args.text) and any(len(item.texts) > 1 for item in listed):
        say("several captions per image: the first one is used")
    panels = panel_names([item.path for item in listed], args.out, args.format)
    return [
        Job(item.path, words, caption, panel)
        for item, (words, caption), panel in zip(listed, queries, panels, strict=True)
    ]


def _shipped() -> Listed:
    """The image that ships, with its caption."""
    from core.data.image_lists import Listed

    record = SHIPPED.with_suffix(".json")
    if not record.exists():
        return Listed(SHIPPED)
    return Listed(SHIPPED, (json.loads(record.read_text(encoding="utf-8"))["text"],))


def _query(
    item: Listed, tags: Sequence[str] | None, text: str | None
) -> tuple[tuple[str, ...], str | None]:
    """Words and caption of an image: --tags and --text where given, else its own first caption."""
    from core.data.words import split_words, unescaped

    caption = text
    if not tags and not text:
        caption = next(iter(item.texts), None)
    caption = unescaped(caption or "")  # entities, as the tokenizer reads them
    words = [tag.strip() for tag in tags or [] if tag.strip()]
    words += [word.text for word in split_words(caption)]
    return tuple(words), caption if caption.strip() else None


def panel_names(images: Sequence[Path], out: Path, kind: str = "png") -> list[Path]:
    """`OUT/STEM.png` (or another `kind`) for every image; `STEM-2.png`, ... where that is taken.

    By another panel of the run, or because it is itself one of the images.
    """
    taken = {_same_file(path) for path in images}
    names = []
    for path in images:
        number, name = 1, out / f"{path.stem}.{kind}"
        while _same_file(name) in taken:
            number += 1
            name = out / f"{path.stem}-{number}.{kind}"
        taken.add(_same_file(name))
        names.append(name)
    return names


def _same_file(path: Path) -> str:
    """Equal for paths that may be one file: some file systems ignore case."""
    return str(resolved(path)).casefold()


def _make_folder(out: Path) -> None:
    """Make --out; TTDError where that fails."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TTDError(
            f"--out {out}: cannot make this folder ({error.strerror}); name another one"
        ) from None


def make_predictor(args: argparse.Namespace, images: int) -> Predictor:
    """The model and how it looks at so many images.

    Raises TTDError for --pamr with --crf, and for --crf without pydensecrf2.
    """
    if args.pamr and args.crf:
        raise TTDError("--pamr and --crf both refine the maps: give one of them")
    from core.predictor import Predictor

    refine = next((name for name in ("pamr", "crf") if getattr(args, name)), None)
    predictor = Predictor(load_model(args), args.image, args.scales, args.hflip, refine, images)
    predictor.views.check(predictor.backbone.patch)
    return predictor


def _headline(predictor: Predictor) -> str:
    """The model and its settings, in a line."""
    backbone, views = predictor.backbone, predictor.views
    parts = [
        f"{backbone.arch} ({backbone.head})",
        f"{views.size} px",
        f"scales {list(views.scales)}",
    ]
    parts += ["flip"] * views.hflip + [predictor.refine] * bool(predictor.refine)
    return ", ".join([*parts, str(backbone.device), str(backbone.dtype).removeprefix("torch.")])


def _progress(jobs: list[Job]) -> Iterable[Job]:
    """The jobs, with a bar on the terminal when there are many."""
    from tqdm import tqdm

    hidden = None if len(jobs) > 1 else True  # None: shown on a terminal
    return tqdm(jobs, unit="image", file=sys.stderr, disable=hidden)


def show(predictor: Predictor, job: Job, overlay: bool, least: float | None) -> None:
    """One image: encode, score, draw the panel, print the table. TTDError naming the image.

    least: see `score_words`.
    """
    from core.data.images import read_image
    from core.plots.panel import Look
    from core.predictor import score_words

    if not job.words:
        raise TTDError(f"{job.path}: no caption, so no words to look for; add --tags or --text")
    image = read_image(job.path)
    with memory_errors(f"{job.path}: not enough memory; use a smaller --image or fewer --scales"):
        predictor.set_image(image)
        rows = score_words(predictor, job.words, job.caption, least)
        look = Look(overlay, note=_headline(predictor))
        sheet = draw(predictor, image, rows, look, least)
    save(sheet, job.panel)
    _print(f"\n{job.path}  {image.shape[1]} x {image.shape[0]}  ->  {job.panel}\n{table(rows)}")


def _print(text: str) -> None:
    """To stdout, without breaking the progress bar on stderr."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stdout)


if __name__ == "__main__":
    run(main)
