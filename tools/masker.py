"""A model's masks of phrases for evaluate_phrase_masks.py; a killed run resumes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core.errors import TTDError, UnreadableError
from core.utils.resumed_lines import ResumedLines
from tools.cli import load_model, min_score, say
from tools.evaluation import progress_bar

if TYPE_CHECKING:
    from core.data.phrases.image_sizes import Size
    from core.predictor import Predictor


class Masked(NamedTuple):
    """A phrase's cosine with its nearest pixel, and its mask as compressed run lengths."""

    cosine: float
    mask: dict[str, Any]

    @property
    def empty(self) -> bool:
        """No pixel of the image is the phrase's."""
        from core.data.labels.regions import region_of

        return not region_of(self.mask).area


class Masker:
    """The model of the options, and how its soft masks become masks."""

    def __init__(self, args: argparse.Namespace) -> None:
        from core.predictor import Predictor
        from core.predictor.labelled import THRESHOLD

        backbone = load_model(args)
        refine = "pamr" if args.pamr else None
        self.predictor: Predictor = Predictor(backbone, args.image, args.scales, args.hflip, refine)
        own = backbone.own.defaults.bg
        usual = THRESHOLD if own is None else own
        self.threshold = usual if args.bg is None else args.bg
        self.least, self.templates = min_score(args), args.templates
        self.allow_missing, self.overwrite = args.allow_missing, args.overwrite
        self.log: ResumedLines | None = None
        self.lost: list[str] = []  # images that cannot be used, with --allow-missing

    def identity(self) -> dict[str, Any]:
        """All that decides a mask, but for the image and the phrase."""
        predictor = self.predictor
        return {
            "model": predictor.backbone.checksum,
            "head": predictor.backbone.head,
            "dtype": str(predictor.backbone.dtype),
            "views": [predictor.views.size, list(predictor.views.scales), predictor.views.hflip],
            "refine": predictor.refine,
            "bg": self.threshold,
            "templates": self.templates,
        }

    def logging(self, place: Path | None) -> AbstractContextManager[Any]:
        """Keep what is done beside the file `place` until it is written; None: keep nothing."""
        self.log = None
        if place is None:
            return nullcontext()
        path = place.with_name(place.name + ".part")
        self.log = ResumedLines(path, self.identity(), self.overwrite)
        if self.log.done:
            say(f"{path}: resumes after {len(self.log.done)} images")
        return self.log

    def masks(
        self, image: Path, texts: Sequence[str], sizes: Collection[Size] = ()
    ) -> list[Masked] | None:
        """The mask of each text in an image; None where it cannot be used and that is allowed.

        sizes: (H, W) that annotations say of it, and which it must have.
        TTDError: it cannot be decoded, or is of another size; UnreadableError: it cannot be read
        now.
        """
        key = "\n".join([os.fspath(image), *texts])
        if self.log is not None and key in self.log.done:
            logged = [Masked(*row) for row in self.log.done[key]]
            if all(one.mask.get("size") == list(size) for one in logged for size in sizes):
                return logged
        try:
            found = self._made(image, texts, sizes)
        except UnreadableError:
            raise
        except TTDError as error:
            if not self.allow_missing:
                raise TTDError(f"{error}; --allow-missing leaves it out") from None
            self.lost.append(image.name)
            return None
        if self.log is not None:
            self.log.add(key, [list(one) for one in found])
        return found

    def _made(self, image: Path, texts: Sequence[str], sizes: Collection[Size]) -> list[Masked]:
        """One text at a time: a narrative has many phrases, and an image many pixels."""
        from core.data.labels.rle import compress
        from core.data.phrases.image_sizes import unlike

        self.predictor.set_image(image)
        for size in sizes:
            if self.predictor.size != size:
                raise TTDError(
                    f"{image} {unlike(self.predictor.size, size)} (height x width); put the "
                    "release's own file there"
                )
        found = []
        for text in texts:
            cosine = float(self.predictor.scores([text], self.templates)[0])
            soft = self.predictor.soft_masks([text], self.templates)[0]
            mask = (soft > self.threshold).cpu().numpy()
            found.append(Masked(cosine, compress(mask)))
        return found

    def check_there(self, images: Sequence[Path]) -> None:
        """TTDError, before hours of work, where images are missing, unless that is allowed."""
        from core.utils.files import is_there
        from core.utils.shown import first_few

        lost = [str(path) for path in images if not is_there(path)]
        if len(lost) == len(images) or (lost and not self.allow_missing):
            raise TTDError(
                f"{len(lost)} of {len(images)} images are missing ({first_few(lost, 2)}); see "
                "--images, or add --allow-missing to score the others"
            )

    def check_sizes(self, sizes: Mapping[Path, set[Size]]) -> None:
        """TTDError, before hours of work, for images of another size, unless that is allowed.

        sizes: (H, W) that the annotations say of each image.
        """
        from core.data.phrases.image_sizes import wrong_sizes
        from core.utils.shown import first_few

        if self.allow_missing:
            return
        with progress_bar(len(sizes)) as bar:
            wrong = wrong_sizes(sizes, bar.update)
        if wrong:
            raise TTDError(
                f"{len(wrong)} of {len(sizes)} images are of another size (height x width): "
                f"{first_few(wrong, 2)}; put the release's own files there, or add --allow-missing "
                "to score the others"
            )

    def say_lost(self) -> None:
        """What was left out, with --allow-missing."""
        from core.utils.shown import first_few

        if self.lost:
            names = first_few(self.lost, 3)
            say(f"left out: {len(self.lost)} images that cannot be used ({names})")
