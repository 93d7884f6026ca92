"""Every constant that a tag depends on, in one frozen object, to be written beside the result."""

from __future__ import annotations

from dataclasses import dataclass

from ..data.words import is_stopword
from ..errors import TTDError
from ..maps.views import Views

SCORERS = ("pixel", "image", "text")
NORMS = ("minmax", "softmax", "none")


@dataclass(frozen=True)
class TagProtocol:
    """How words are scored and cut. TTDError for values that cannot be.

    image_size: short side in pixels at scale 1; scales, hflip: views whose maps are averaged.
    scorers: any of SCORERS, see `core.tags.scoring`.
    normalize: one of NORMS; threshold: a constant on that scale, or None for Otsu's of each
    caption.
    stopwords: None, "shipped" or "nltk": function words that are never selected.
    min_score: cosine below which no word is selected, not even a caption's only one; None: no such
    cut. It is one of the scorer `pixel`, the others have other scales.
    """

    image_size: int
    scales: tuple[float, ...] = (1.0,)
    hflip: bool = False
    scorers: tuple[str, ...] = SCORERS
    normalize: str = "minmax"
    threshold: float | None = None
    stopwords: str | None = None
    min_score: float | None = None

    def __post_init__(self) -> None:
        _ = self.views  # its checks
        check_scorers(self.scorers)
        if self.min_score is not None and tuple(self.scorers) != ("pixel",):
            raise TTDError(
                "--min-score is a cosine with the nearest pixel, other scorers have other scales: "
                "add --scorer pixel"
            )

    @property
    def views(self) -> Views:
        """What is looked at of an image."""
        return Views(self.image_size, self.scales, self.hflip)

    def rejects(self, word: str) -> bool:
        """Whether `word` may not be selected. TTDError for "nltk" where NLTK's list is absent."""
        return self.stopwords is not None and is_stopword(word, self.stopwords)


def check_scorers(scorers: tuple[str, ...]) -> None:
    """TTDError, which lists them, for scorers that are not in `SCORERS`, and for none."""
    unknown = [name for name in scorers if name not in SCORERS]
    if unknown or not scorers:
        raise TTDError(
            f"unknown scorer {', '.join(unknown) or '(none)'}: choose from {', '.join(SCORERS)}"
        )
