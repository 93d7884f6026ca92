"""`demo.py --ground`: boxes for phrases in one or several images, and where the model looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import TTDError
from tools.cli import ROOT, say
from tools.evaluation import save_picture

if TYPE_CHECKING:
    from core.grounding.predict import Grounder

SHIPPED = ROOT / "weights" / "tiny-grounder"  # of the world of tools/make_world.py, for its image


def images_and_weights(
    given: Sequence[str] | None, weights: str | None
) -> tuple[list[Path], str | None]:
    """The images of --input and the model; without images those that ship, as far as they do."""
    from core.data.image_lists import list_images

    if given:
        return [item.path for item in list_images(given)], weights
    own = SHIPPED / "model.safetensors"
    if weights is None and own.is_file():
        weights = str(own)
    return [SHIPPED / "demo.jpg"], weights


def ground(
    pictures: Sequence[tuple[Path, Path]],
    phrases: Sequence[str],
    weights: str | None,
    arch: str | None,
    device: str | None,
) -> int:
    """Draw and print the boxes of every phrase in every image; 2 when some images failed.

    pictures: (image, panel) each. arch: the backbone, where it is not the file's own.
    TTDError: no model named, or the only image cannot be read.
    """
    from core.grounding.predict import load_grounder

    if weights is None:
        raise TTDError(
            "--ground needs a grounding model: --grounder FILE, CLIP-VG's checkpoint or one of "
            "train_grounding.py"
        )
    grounder = load_grounder(weights, arch=arch, device=device)
    failed = 0
    for path, panel in pictures:
        try:
            show(grounder, path, phrases, panel)
        except TTDError as error:
            if len(pictures) == 1:
                raise
            failed += 1
            say(str(error))
    return 2 if failed else 0


def show(grounder: Grounder, path: Path, phrases: Sequence[str], panel: Path) -> None:
    """One image: encode it once, ask every phrase, draw, print."""
    from PIL import Image

    from core.data.images import read_image
    from core.plots.boxes import draw_grounding

    image = read_image(path)
    grounder.set_image(image)
    boxes = grounder.boxes(phrases).tolist()
    attention = [grounder.attention(phrase).numpy() for phrase in phrases]
    save_picture(panel, Image.fromarray(draw_grounding(image, phrases, boxes, attention)))
    print(f"\n{path}  {image.shape[1]} x {image.shape[0]}  ->  {panel}")
    for phrase, box in zip(phrases, boxes, strict=True):
        left, top, right, bottom = (round(value) for value in box)
        print(f"  {phrase}: left {left}, top {top}, right {right}, bottom {bottom}")
