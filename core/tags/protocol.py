"""Every constant that a result depends on, in one frozen object per task, to be written beside the result."""

from __future__ import annotations

from dataclasses import dataclass

from ..data.words import is_stopword


@dataclass(frozen=True)
class TagProtocol:
    """How words are scored and cut.

    image_size: short side in pixels at scale 1; scales, hflip: views whose maps are averaged.
    normalize: `minmax`, `softmax` or `none`; threshold: a constant on that scale, or None for
    Otsu's of each caption.
    stopwords: None, "shipped" or "nltk": function words that are never selected.
    """

    image_size: int
    scales: tuple[float, ...] = (1.0,)
    hflip: bool = False
    scorers: tuple[str, ...] = ("pixel", "image", "text")
    normalize: str = "minmax"
    threshold: float | None = None
    stopwords: str | None = None

    def rejects(self, word: str) -> bool:
        """Whether `word` may not be selected. Raises TTDError for "nltk" where NLTK's list is absent."""
        return self.stopwords is not None and is_stopword(word, self.stopwords)
