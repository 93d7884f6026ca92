"""The images that `demo.py` shows when it is given none, and the contact sheet of the docs."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import TTDError
from ..utils.files import write_errors
from .captions import true_tags
from .looks import look_of
from .picture import Contents, Thing, render
from .sample import make_sample
from .writer import encode_jpeg

DEMO = (7, "val", 159)  # seed, split and number of the image
# Two red stars with a house between them, and a smaller fish than the other.
GROUND = (
    Thing("star", "red", 0.2, 0.28, 0.15, angle=8),
    Thing("house", "yellow", 0.5, 0.5, 0.18, angle=0),
    Thing("star", "red", 0.82, 0.4, 0.13, angle=-12),
    Thing("fish", "blue", 0.22, 0.78, 0.17, angle=-5),
    Thing("fish", "orange", 0.78, 0.82, 0.12, angle=6, flip=True),
)
TEXT = "A red house and a tree under the purple bird, but without a fish"


def demo_picture(size: int = 384) -> tuple[npt.NDArray[np.uint8], str, list[str]]:
    """The image uint8 RGB [size, size, 3], its caption, and the caption's true tags.

    The caption names a fish, which the image does not show.
    """
    sample = make_sample(*DEMO, size)
    return sample.image, TEXT, true_tags(TEXT, sample.contents)


def write_demo(folder: Path, size: int = 384) -> str:
    """Write demo.jpg and demo.json ({"text", "tags"}) into `folder`; returns the caption.

    TTDError when they cannot be written.
    """
    image, text, tags = demo_picture(size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "demo.jpg").write_bytes(encode_jpeg(image))
        (folder / "demo.json").write_text(
            json.dumps({"text": text, "tags": tags}) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise TTDError(f"cannot write the demo image into {folder} ({error.strerror})") from error
    return text


def ground_picture(size: int = 384) -> npt.NDArray[np.uint8]:
    """The image of `demo.py --ground`, uint8 RGB [size, size, 3].

    Two red stars, one on each side of a house: only the relation tells them apart.
    """
    contents = Contents(GROUND, ("night", "grass"), "over", 0.58, 0.1)
    return render(contents, np.random.default_rng(16), size)


def write_ground_demo(folder: Path, size: int = 384) -> Path:
    """Write the image of `demo.py --ground` as FOLDER/demo.jpg; returns its path.

    TTDError when it cannot be written.
    """
    path = folder / "demo.jpg"
    with write_errors(path, "choose another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(ground_picture(size)))
    return path


def contact_sheet(
    look: str = "first", seed: int = 1, columns: int = 8, rows: int = 2, size: int = 96
) -> npt.NDArray[np.uint8]:
    """The first validation images of a world of a look, row by row.

    Returns uint8 RGB [rows * size, columns * size, 3]. TTDError: there is no such look.
    """
    make = look_of(look).make
    images = np.stack([make(seed, "val", i, size, 0.0).image for i in range(columns * rows)])
    grid = images.reshape(rows, columns, size, size, 3)
    sheet: npt.NDArray[np.uint8] = grid.transpose(0, 2, 1, 3, 4)
    return sheet.reshape(rows * size, columns * size, 3)


def write_sheet(path: Path, look: str = "first") -> None:
    """Write the contact sheet as PNG. Raises TTDError if it cannot, or knows no such look."""
    from PIL import Image

    try:
        Image.fromarray(contact_sheet(look)).quantize(160).save(path, optimize=True)
    except (OSError, ValueError) as error:
        raise TTDError(f"cannot write the contact sheet {path} ({error})") from error
