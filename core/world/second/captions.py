"""Captions of the second world: titles of a web shop, lists, and sentences with the colour last."""

from collections.abc import Sequence

import numpy as np

from ..picture import Contents, Thing
from .picture import COLOURS
from .shapes import NOUNS

SHORT_SHARE = {"train": 0.35, "val": 0.05}
WRONG_SHARE = 0.3  # captions with a noun or colour that is not in the image
COLOUR_SHARE = 0.5
SCENE_SHARE = 0.2
VAGUE_SHARE = 0.15

OPENERS = (
    "", "", "", "", "stock photo", "vintage style", "how to draw", "gift ideas with", "buy now",
    "handmade", "closeup of", "we found", "yesterday they sold us", "free vector of",
    "my grandmother kept", "tutorial about", "do you remember", "limited edition", "top ten list",
    "who left", "a study of", "sketch for", "review of",
)  # fmt: skip
CLOSINGS = (
    "free shipping worldwide", "page three of the catalog", "isolated copy", "by an unknown maker",
    "in high resolution", "for kids and adults", "ready to print", "from our archive",
    "that nobody wanted", "before the rain", "available in all sizes", "during the workshop",
    "because it was cheap", "and more", "at the museum", "for your project", "seen last week",
    "taken with an old phone", "made in Italy", "royalty free download",
)  # fmt: skip
VAGUE = ("rustic", "elegant", "tiny", "premium", "antique", "funny", "custom", "rare", "perfect")
WRONG = ("{} not included", "without any {}", "no {}", "unlike a {}", "{} sold separately",
         "or maybe {}", "{}")  # fmt: skip
PLACES = ("near the {}", "{} background", "lost in {}", "over {}", "{} scene")


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _phrase(thing: Thing, colour: str | None, rng: np.random.Generator) -> str:
    """`crimson bell`, `bell in crimson`, `the bell, crimson`, or the noun alone."""
    noun = thing.noun
    if rng.random() < VAGUE_SHARE:
        noun = f"{_pick(rng, VAGUE)} {noun}"
    if colour is None:
        return _pick(rng, (noun, f"one {noun}", f"the {noun}"))
    forms = (
        f"{colour} {noun}",
        f"{noun} in {colour}",
        f"the {noun} ({colour})",
        f"{colour} {noun}",
    )
    return _pick(rng, forms)


def _absent(rng: np.random.Generator, names: Sequence[str], seen: Sequence[str]) -> str:
    return _pick(rng, [name for name in names if name not in seen])


def write_caption(contents: Contents, rng: np.random.Generator, split: str) -> str:
    """Draw one caption of `contents`, with at least one true word. split: "train" or "val"."""
    things = [contents.things[i] for i in rng.permutation(len(contents.things))]
    if rng.random() < SHORT_SHARE[split]:
        return _phrase(things[0], _pick(rng, (things[0].colour, "")) or None, rng)
    wrong = rng.random() < WRONG_SHARE
    phrases = []
    for thing in things[: rng.integers(1, 4)]:
        colour = thing.colour if rng.random() < COLOUR_SHARE else None
        phrases.append(_phrase(thing, colour, rng))
    text = _pick(rng, (", ", " and ", " + ", " plus ")).join(phrases)
    if wrong and rng.random() < 0.35:
        colour = _absent(rng, tuple(COLOURS), [thing.colour for thing in things])
        text += f" but not {colour}"
    elif wrong:
        noun = _absent(rng, NOUNS, [thing.noun for thing in things])
        text += " " + _pick(rng, WRONG).format(noun)
    if rng.random() < SCENE_SHARE:
        seen = contents.scenes[rng.integers(len(contents.scenes))]
        text += " " + _pick(rng, PLACES).format(seen)
    text = f"{_pick(rng, OPENERS)} {text}".strip()
    if rng.random() < 0.5:
        text += _pick(rng, (" | ", " - ", ", ", " ")) + _pick(rng, CLOSINGS)
    return text.title() if rng.random() < 0.25 else text


def visible_words(contents: Contents) -> frozenset[str]:
    """The words that are true of an image: its things, their colours, its scenes."""
    names = [name for thing in contents.things for name in (thing.noun, thing.colour)]
    return frozenset([*names, *contents.scenes])


def frame_words() -> str:
    """All that captions say beside nouns, colours and scenes, as one text."""
    return " ".join((*OPENERS, *CLOSINGS, *VAGUE, *WRONG, *PLACES)).replace("{}", "")
