"""The colours that objects come in, and which noun-colour pairs are kept out of training."""

from .objects import NOUNS

# Saturated, far apart in hue; scenes are muted, so that a colour word never means a background.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 28, 36),
    "blue": (40, 72, 226),
    "yellow": (250, 218, 24),
    "green": (28, 164, 48),
    "orange": (246, 126, 12),
    "purple": (132, 40, 188),
    "pink": (250, 112, 190),
    "cyan": (28, 208, 218),
}


def unseen_pairs() -> tuple[tuple[str, str], ...]:
    """(noun, colour) pairs that no training image or caption holds: one colour of each noun.

    They are the same for any seed, so that a world of another seed can serve as the development
    set of a model that was trained on this one.
    """
    colours = tuple(COLOURS)
    return tuple((noun, colours[(5 * i + 3) % len(colours)]) for i, noun in enumerate(NOUNS))
