"""Look at a result: every image with its masks or boxes over it, and a contact sheet of all.

    python tools/preview.py "results/CLIP@garden@OpenAI@[1.0]@448@s=2@bg=0.40"
    python tools/preview.py results_caption/NAME --images photos
    python tools/preview.py results_boxes/NAME.jsonl

No ground truth is needed. The result is a folder of label maps (produce_masks_from_tags.py) or of
captions' masks (produce_masks_from_text.py), any other folder of index PNGs, or a JSONL of boxes
(produce_boxes_from_text.py). Names and colours are those of its classes.json; what no class covers
is the photograph, untouched. Output: OUT/contact_sheet.jpg and OUT/overlays/ID.jpg.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli import positive_int, run, say

from core.errors import TTDError

if TYPE_CHECKING:
    from PIL import Image

    from core.evaluation.preview import Item, Result

QUALITY = 92  # of JPEG
SHEET = "contact_sheet.jpg"


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("result", type=Path, metavar="FOLDER", help="masks, or a JSONL of boxes")
    add(
        "--images",
        type=Path,
        metavar="PATH",
        help="where the images are (default: where the result says that they were)",
    )
    add(
        "--limit",
        type=positive_int,
        default=48,
        metavar="N",
        help="images to draw, spread evenly over the result (default: %(default)s)",
    )
    add("--out", type=Path, metavar="FOLDER", help="where pictures go (default: FOLDER/preview)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the images; 2 when some could not be drawn."""
    args = get_args_parser().parse_args(argv)
    from core.evaluation.preview import open_result

    result = open_result(args.result, args.images)
    out = args.out or default_out(args.result)
    chosen = spread(result.items, args.limit)
    failed = draw_all(result, chosen, out)
    print(f"{len(chosen) - failed} of {len(result.items)} images: {out / SHEET}, {out}/overlays")
    if not result.named:
        say(f"{args.result}: no classes.json, so labels are shown as they are stored")
    if result.lacking:
        say(f"{result.lacking} images are not found; see --images")
    return 2 if failed else 0


def default_out(result: Path) -> Path:
    """Inside a folder of masks, beside a file of boxes."""
    return result.with_suffix(".preview") if result.is_file() else result / "preview"


def spread(items: list[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spread, in their order."""
    if len(items) <= count:
        return items
    return [items[k * len(items) // count] for k in range(count)]


def draw_all(result: Result, chosen: Sequence[Item], out: Path) -> int:
    """Draw each image and the sheet of all; how many failed. TTDError when all did."""
    from core.evaluation.preview import draw, present, read
    from core.plots.label_overlay import Tile, contact_sheet, with_legend

    tiles, seen = [], {}
    for item in chosen:
        try:
            pixels, labels = read(item)
        except TTDError as error:
            say(str(error))
            continue
        here = present(result.entries, labels)
        seen |= {entry.label: entry for entry in here}
        whole = draw(item, pixels, labels, here)
        save(with_legend(whole, here), out / "overlays" / f"{item.id}.jpg")
        tiles.append(Tile(draw(item, pixels, labels, here, small=True), item.caption or item.id))
    if not tiles:
        raise TTDError(f"none of {len(chosen)} images could be drawn")
    save(contact_sheet(tiles, [seen[label] for label in sorted(seen)]), out / SHEET)
    return len(chosen) - len(tiles)


def save(picture: Image.Image | object, path: Path) -> None:
    """Write an image or uint8 [H, W, 3] as JPEG. TTDError when it cannot be written."""
    import numpy as np
    from PIL import Image

    from core.utils.files import safe_id, write_errors

    path = path.with_name(f"{safe_id(path.stem)}.jpg")
    with write_errors(path, "name another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(picture)).save(path, quality=QUALITY, subsampling=0)


if __name__ == "__main__":
    run(main)
