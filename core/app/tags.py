"""Tags of a visitor's own: a label map of a picture, to look at and to take away."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..data.labels.dataset_yaml import voc_palette
from ..data.labels.rle import bounds
from ..export.coco import annotation, category_entry
from ..export.source import Category, Region
from ..plots.heat import resized
from ..plots.label_overlay import overlay, with_legend
from ..predictor import Predictor
from ..predictor.labelled import entries_of
from .limits import tags_of
from .pictures import Picture, png_bytes
from .studio import Studio

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Labelled:
    """A label map and its forms.

    view: uint8 [h, w, 3] with a legend. png: index image of the picture's size, 0 the background,
    k the k-th tag, in PASCAL VOC's colours. coco: a whole COCO file. found: share of the picture
    by tag, in the order of the tags.
    """

    view: npt.NDArray[np.uint8]
    png: bytes
    coco: str
    found: dict[str, float]


def ask_tags(
    studio: Studio,
    path: str | None,
    text: str | None,
    model: str,
    adapter: str,
    pamr: bool = False,
    threshold: float | None = None,
) -> Labelled:
    """The label map of tags in the picture of a file.

    Args: as `ask_caption`; text: tags between commas or on lines, "person|human" for synonyms;
        threshold: of the background, from 0 to 1, the model's own where it is None.
    Errors: TTDError, one line.
    """
    with studio.picture(path) as picture:
        tags = tags_of(text)
        predictor = studio.predictor(picture, model, adapter, pamr)
        return labelled(predictor, picture, tags, threshold)


def labelled(
    predictor: Predictor, picture: Picture, tags: list[str], threshold: float | None = None
) -> Labelled:
    """The label map of tags, as the page shows and hands it out."""
    labels = predictor.label_map(tags, threshold)
    entries = entries_of(labels, tags)
    size = picture.shown_size
    small = np.asarray(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST))
    view = with_legend(overlay(resized(picture.pixels, size), small, entries), entries)
    counts = np.bincount(labels.ravel(), minlength=256)
    found = {tag: float(counts[k]) / labels.size for k, tag in enumerate(tags, start=1)}
    return Labelled(view, index_png(labels), coco_file(labels, tags, picture.name), found)


def index_png(labels: Labels) -> bytes:
    """Labels uint8 [H, W] as an index image in PASCAL VOC's colours."""
    image = Image.fromarray(labels)
    image.putpalette(voc_palette().tobytes())
    return png_bytes(image)


def coco_file(labels: Labels, tags: list[str], name: str) -> str:
    """A COCO file of one picture: image, categories, and an annotation for each tag in it."""
    height, width = labels.shape
    colours = voc_palette().tolist()
    numbered = enumerate(tags, start=1)
    categories = [Category(k, tag, tuple(colours[k]), k) for k, tag in numbered]
    there = [category for category in categories if (labels == category.id).any()]
    regions = [Region(one, bounds(labels == one.id), labels) for one in there]
    content = {
        "images": [{"id": 1, "file_name": name, "width": width, "height": height}],
        "categories": [category_entry(category) for category in categories],
        "annotations": [annotation(k, 1, region) for k, region in enumerate(regions, start=1)],
    }
    return json.dumps(content)
