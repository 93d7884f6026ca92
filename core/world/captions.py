"""Captions from a small grammar: what is seen, what is not, and the words that say nothing about the image.

A caption is an opener, one to three named things, perhaps a place and a closing phrase. In about a
third of them one word lies: a noun or a colour that the image does not show, as captions from the
web do.

Training captions can be `noise`-ier: they name the largest thing first, and each further thing is,
with that chance, one that is not there. A CLIP that learns from these trusts the first name of a
caption: single-tag bias.
"""

from dataclasses import dataclass

import numpy as np

from ..data.words import split_words
from .objects import NOUNS
from .palette import COLOURS
from .picture import UNSEEN, Contents

SCENE_SHARE = 0.18  # captions that name a scene
ABSENT_SHARE = 0.34  # captions with a noun or colour that is not in the image
COLOUR_SHARE = 0.52  # named things whose colour is named too
SHORT_SHARE = {
    "train": 0.3,
    "val": 0.05,
}  # captions of one to four words; plenty in training: they name one thing
CLOSING_SHARE = 0.33
FILLER_SHARE = 0.08  # named things with an adjective that nobody can see

# Closing and opening phrases: function words in the proportion of running English, content words
# nobody can see.
OPENERS = (
    "", "", "", "", "", "", "this is", "here is", "there is", "it is all about", "a photo of", "my friend found",
    "look at", "he wanted", "she was dreaming of", "a story about", "you should never forget", "what do they do with",
    "an artist shares", "the best picture of", "they were waiting for", "in the news this morning it was",
    "i have always loved", "nobody expected", "the family spends time with", "one view of", "it's only",
    "an early design of", "not just",
)  # fmt: skip
JOINTS = (
    "and",
    "and",
    "with",
    "near",
    "beside",
    "by",
    "behind",
    "as well as",
    "or",
    "under",
    "next to",
    "along with",
)
CLOSINGS = (
    "on a quiet summer day", "for the best price", "during the weekend with friends", "at the start of the season",
    "for all of us", "in an amazing moment", "while they are on holiday",
    "which is a gift for your mother", "like in a dream", "after the long festival", "because he could",
    "to be had in a shop near you", "and so on", "before the wedding", "by a famous artist",
    "from the new collection", "on our way to the market", "when we were there",
    "as part of an idea", "for sale now", "but not for long", "at the end of the year",
    "with love", "if you are in the mood", "in her own style", "made by hand", "just as i like it",
    "during a short visit to the city", "at work", "over the years",
    "for a happy birthday", "in a game of memory",
)  # fmt: skip
FILLERS = (
    "beautiful",
    "little",
    "old",
    "lovely",
    "favorite",
    "special",
    "modern",
    "classic",
    "cheap",
    "famous",
)
PLACES = {
    "grass": ("on the grass", "in grass"), "sand": ("on the sand", "in sand"), "night": ("at night", "in the night"),
    "brick": ("against the brick", "by brick"),
    "water": ("on the water", "over water"), "snow": ("in the snow", "on snow"),
    "wood": ("on the wood", "against wood"), "stone": ("on the stone", "over stone"),
}  # fmt: skip
ABSENT_PHRASES = (
    "without a {}",
    "but no {}",
    "like a {}",
    "and not a {}",
    "instead of the {}",
    "and a {}",
    "or a {}",
)


@dataclass(frozen=True)
class Visible:
    """The words that are true of an image, kind by kind."""

    nouns: tuple[str, ...]
    colours: tuple[str, ...]
    scenes: tuple[str, ...]

    @property
    def words(self) -> frozenset[str]:
        return frozenset(self.nouns + self.colours + self.scenes)


def visible_words(contents: Contents) -> Visible:
    """What a caption may truly say of `contents`; every thing that is drawn is visible (`image.MIN_SHARE`)."""
    colours = tuple(dict.fromkeys(t.colour for t in contents.things))
    return Visible(tuple(t.noun for t in contents.things), colours, contents.scenes)


def _pick(rng: np.random.Generator, options) -> str:
    options = tuple(options)
    return str(options[rng.integers(len(options))])


def _article(phrase: str, rng: np.random.Generator) -> str:
    article = rng.random()
    if article < 0.45:
        return phrase if article < 0.2 else f"the {phrase}"  # headlines drop their articles
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def _absent_colour(noun: str, seen: Visible, rng: np.random.Generator, unseen: bool) -> str:
    return _pick(
        rng, (c for c in COLOURS if c not in seen.colours and (unseen or (noun, c) not in UNSEEN))
    )


def _named(contents: Contents, rng: np.random.Generator, noise: float) -> list[tuple[str, str]]:
    """(noun, colour) of the one to three things that a caption names, in its order."""
    things, count = contents.things, 1 + rng.choice(3, p=(0.1, 0.4, 0.5))
    if not noise:
        picked = [
            things[i] for i in rng.choice(len(things), min(len(things), count), replace=False)
        ]
        return [(thing.noun, thing.colour) for thing in picked]
    main, *others = sorted(things, key=lambda thing: -thing.half)
    others = [others[i] for i in rng.permutation(len(others))]
    named = [(main.noun, main.colour)]
    for _ in range(1, count):
        if rng.random() < noise:
            noun = _pick(rng, (n for n in NOUNS if all(n != t.noun for t in things)))
            named.append((noun, _pick(rng, (c for c in COLOURS if (noun, c) not in UNSEEN))))
        elif others:
            thing = others.pop()
            named.append((thing.noun, thing.colour))
    return named


def _thing_phrases(
    contents: Contents, rng: np.random.Generator, wrong_colour: bool, unseen: bool, noise: float
) -> list[str]:
    """Name one to three things, some with their colour; with `wrong_colour` the first gets an absent one."""
    seen = visible_words(contents)
    phrases = []
    for noun, colour in _named(contents, rng, noise):
        words = [noun]
        if wrong_colour and not phrases:
            words.insert(0, _absent_colour(noun, seen, rng, unseen))
        elif rng.random() < COLOUR_SHARE:
            words.insert(0, colour)
        if rng.random() < FILLER_SHARE:
            words.insert(0, _pick(rng, FILLERS))
        phrases.append(_article(" ".join(words), rng))
    if rng.random() < 0.06:  # a colour without its noun
        phrases[-1] = f"something {_pick(rng, seen.colours)}"
    return phrases


def _absent_phrase(seen: Visible, rng: np.random.Generator) -> str:
    if rng.random() < 0.75:
        return _pick(rng, ABSENT_PHRASES).format(
            _pick(rng, (n for n in NOUNS if n not in seen.nouns))
        )
    return _pick(rng, ("but nothing {}", "and something {}")).format(
        _pick(rng, (c for c in COLOURS if c not in seen.colours))
    )


def _short(contents: Contents, rng: np.random.Generator, noise: float) -> str:
    """One to three words, such as "boat", "red boat" or "boat on sand"; noisy ones tend to name the largest thing."""
    if noise and rng.random() < 0.5:
        thing = max(contents.things, key=lambda thing: thing.half)
    else:
        thing = contents.things[rng.integers(len(contents.things))]
    forms = (
        thing.noun,
        f"{thing.colour} {thing.noun}",
        f"the {thing.noun}",
        f"{thing.noun} picture",
        f"a {thing.noun} for sale",
    )
    return _pick(rng, forms)


def write_caption(
    contents: Contents, rng: np.random.Generator, split: str, noise: float = 0.0
) -> str:
    """Draw one caption of `contents`; one word at least is true. Split "train" never holds an unseen pair.

    noise: chance in [0, 1] that a training caption's second or third thing is not in the image
    (see above).
    """
    unseen, noise = split != "train", noise if split == "train" else 0.0
    if rng.random() < SHORT_SHARE[split]:
        return _short(contents, rng, noise)
    lie = rng.random() < ABSENT_SHARE / (1 - SHORT_SHARE[split])
    wrong_colour = lie and rng.random() < 0.4
    phrases = _thing_phrases(contents, rng, wrong_colour, unseen, noise)
    text = phrases[0]
    for phrase in phrases[1:]:
        text += f" {_pick(rng, JOINTS)} {phrase}"
    if lie and not wrong_colour:
        text += " " + _absent_phrase(visible_words(contents), rng)
    if rng.random() < SCENE_SHARE:
        text += " " + _pick(rng, PLACES[_pick(rng, contents.scenes)])
    text = f"{_pick(rng, OPENERS)} {text}".strip()
    if rng.random() < CLOSING_SHARE:
        text += (", " if rng.random() < 0.3 else " ") + _pick(rng, CLOSINGS)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return text + (_pick(rng, (".", ".", "!", "?")) if rng.random() < 0.5 else "")


def true_tags(text: str, contents: Contents) -> list[str]:
    """The distinct words of `text`, case-folded, that are visible in `contents`, in the order of the text."""
    words = (word.text.casefold() for word in split_words(text))
    return list(dict.fromkeys(w for w in words if w in visible_words(contents).words))
