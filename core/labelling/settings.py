"""What is asked of every shard: a plain object that any engine can send to its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..data.images import Size
from ..errors import TTDError
from ..masks.protocol import MaskProtocol
from ..tags.protocol import TagProtocol

WANTS = ("tags", "masks", "boxes")
BACKGROUND = 0.40  # of a caption's mask, as produce_masks_from_text.py has it


@dataclass(frozen=True)
class Settings:
    """How labels are made. TTDError for what does not go together.

    want: tags always, masks and boxes where they are named. arch to device: as `load_backbone`.
    tag_image to min_score: see `TagProtocol`, None for the model's own size. masks: the protocol,
    not resolved. grounder: a file of a trained one, which boxes then come from; else they are those
    of the masks. batch: records, windows: windows of an image at a time. threads: of torch on a
    CPU; one, so that results depend neither on the machine nor on its load. decoders: threads that
    read images. png: a tar of masks too. draft: JPEG decoded at a reduced scale.
    """

    want: tuple[str, ...] = ("tags",)
    arch: str = "tiny"
    weights: str | None = None
    lora: str | None = None
    head: str | None = None
    dtype: str = "float32"
    device: str | None = None
    tag_image: int | None = None
    tag_scales: tuple[float, ...] = (1.0,)
    tag_hflip: bool = False
    normalize: str = "minmax"
    threshold: float | None = None
    stopwords: str | None = None
    min_score: float | None = None
    masks: MaskProtocol = MaskProtocol()
    grounder: str | None = None
    batch: int = 32
    windows: int = 8
    threads: int = 1
    decoders: int = 2
    png: bool = False
    draft: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.want if name not in WANTS]
        if unknown or not self.want:
            named = ", ".join(unknown) or "(nothing)"
            raise TTDError(f"--want {named}: choose from {', '.join(WANTS)}")
        for problem in self._problems():
            raise TTDError(problem)

    def _problems(self) -> list[str]:
        """What does not go together, a sentence each."""
        found = []
        if self.wants("boxes") and not (self.grounder or self.wants("masks")):
            found.append(
                "--want boxes: boxes are those of masks, or a grounder's; add masks to "
                "--want, or --grounder FILE"
            )
        if self.grounder and not self.wants("boxes"):
            found.append("--grounder finds boxes: add boxes to --want")
        if self.png and not self.wants("masks"):
            found.append("--png stores masks: add masks to --want")
        if self.masks.crf:
            found.append(
                "--crf lets the words of a caption compete, but every tag has a mask of "
                "its own here: use --pamr"
            )
        whole = self.masks.by_image and self.wants("masks")
        if self.draft and (self.grounder or whole):
            found.append(
                "--draft reads images at a reduced scale, but PAMR and the grounder need "
                "the whole image: leave out one of them"
            )
        return found

    def wants(self, name: str) -> bool:
        """Whether `name` is made."""
        return name in self.want

    def tags(self, image_size: int) -> TagProtocol:
        """How words are scored and cut, by a model of that size."""
        return TagProtocol(
            self.tag_image or image_size,
            self.tag_scales,
            self.tag_hflip,
            scorers=("pixel",),
            normalize=self.normalize,
            threshold=self.threshold,
            stopwords=self.stopwords,
            min_score=self.min_score,
        )


@dataclass(frozen=True)
class Box:
    """A box of a text: corners in pixels of the image; source: `grounder` or `mask`."""

    text: str
    source: str
    corners: tuple[float, float, float, float]


@dataclass(frozen=True)
class TagMask:
    """The mask of a tag: COCO's compressed run lengths, and how many pixels it has."""

    tag: str
    area: int
    rle: dict[str, Any]


@dataclass(frozen=True)
class Labels:
    """What one record is labelled with.

    row: the columns of its row that every record has; size: (H, W) of the image.
    """

    row: dict[str, Any]
    size: Size
    caption_mask: TagMask | None = None
    masks: tuple[TagMask, ...] = ()
    boxes: tuple[Box, ...] = ()
    pngs: tuple[bytes, ...] = ()  # of the caption's mask and of `masks`
