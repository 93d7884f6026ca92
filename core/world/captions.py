"""Captions from a small grammar: what is seen, what is not, and words that say nothing about it.

A caption is an opener, one to three named things, perhaps a place and a closing phrase. In about a
third of them one word is wrong: a noun or a colour that the image does not show, as in captions
from the web.

Training captions can be noisier: they name the largest thing first, and each further thing is
absent from the image with probability `noise`. A CLIP that learns from these trusts the first name
of a caption: single-tag bias.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..data.words import split_words
from .objects import NOUNS
from .palette import COLOURS
from .picture import UNSEEN, Contents

SCENE_SHARE = 0.18  # captions that name a scene
ABSENT_SHARE = 0.34  # captions with a noun or colour that is not in the image
COLOUR_SHARE = 0.52  # named things whose colour is named too
# Captions of one to four words. Many in training, because they name one thing.
SHORT_SHARE = {"train": 0.3, "val": 0.05}
CLOSING_SHARE = 0.33
FILLER_SHARE = 0.08  # named things with an adjective that nobody can see
LONELY_COLOUR_SHARE = 0.06  # captions that end in a colour without its noun

# Opening and closing phrases: function words in the proportion of running English, and content
# words for things that nobody can see.
OPENERS = (
    "", "", "", "", "", "", "this is", "here is", "there is", "it is all about", "a photo of",
    "my friend found", "look at", "he wanted", "she was dreaming of", "a story about",
    "you should never forget", "what do they do with", "an artist shares", "the best picture of",
    "they were waiting for", "in the news this morning it was", "i have always loved",
    "nobody expected", "the family spends time with", "one view of", "it's only",
    "an early design of", "not just",
)  # fmt: skip
JOINTS = (
    "and", "and", "with", "near", "beside", "by", "behind", "as well as", "or", "under", "next to",
    "along with",
)  # fmt: skip
CLOSINGS = (
    "on a quiet summer day", "for the best price", "during the weekend with friends",
    "at the start of the season", "for all of us", "in an amazing moment",
    "while they are on holiday", "which is a gift for your mother", "like in a dream",
    "after the long festival", "because he could", "to be had in a shop near you", "and so on",
    "before the wedding", "by a famous artist",
    "from the new collection", "on our way to the market", "when we were there",
    "as part of an idea", "for sale now", "but not for long", "at the end of the year",
    "with love", "if you are in the mood", "in her own style", "made by hand", "just as i like it",
    "during a short visit to the city", "at work", "over the years",
    "for a happy birthday", "in a game of memory",
)  # fmt: skip
FILLERS = (
    "beautiful", "little", "old", "lovely", "favorite", "special", "modern", "classic", "cheap",
    "famous",
)  # fmt: skip
PLACES = {
    "grass": ("on the grass", "in grass"), "sand": ("on the sand", "in sand"),
    "night": ("at night", "in the night"), "brick": ("against the brick", "by brick"),
    "water": ("on the water", "over water"), "snow": ("in the snow", "on snow"),
    "wood": ("on the wood", "against wood"), "stone": ("on the stone", "over stone"),
}  # fmt: skip
ABSENT_PHRASES = (
    "without a {}", "but no {}", "like a {}", "and not a {}", "instead of the {}", "and a {}",
    "or a {}",
)  # fmt: skip


@dataclass(frozen=True)
class Visible:
    """The words that are true of an image, kind by kind."""

    nouns: tuple[str, ...]
    colours: tuple[str, ...]
    scenes: tuple[str, ...]

    @property
    def words(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self.nouns + self.colours + self.scenes)


def visible_words(contents: Contents) -> Visible:
    """What a caption may truly say of `contents`: all that is drawn, see `picture.MIN_SHARE`."""
    colours = tuple(dict.fromkeys(t.colour for t in contents.things))
    return Visible(tuple(t.noun for t in contents.things), colours, contents.scenes)


def _pick(rng: np.random.Generator, options: Iterable[str]) -> str:
    options = tuple(options)
    return str(options[rng.integers(len(options))])


def _article(phrase: str, rng: np.random.Generator) -> str:
    article = rng.random()
    if article < 0.2:
        return phrase  # headlines drop their articles
    if article < 0.45:
        return f"the {phrase}"
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def _absent_colour(noun: str, seen: Visible, rng: np.random.Generator, unseen: bool) -> str:
    absent = (colour for colour in COLOURS if colour not in seen.colours)
    return _pick(rng, (colour for colour in absent if unseen or (noun, colour) not in UNSEEN))


def _named(contents: Contents, rng: np.random.Generator, noise: float) -> list[tuple[str, str]]:
    """(noun, colour) of the one to three things that a caption names, in its order."""
    count = 1 + int(rng.choice(3, p=(0.1, 0.4, 0.5)))
    if noise:
        return _named_with_noise(contents, rng, noise, count)
    things = contents.things
    picked = rng.choice(len(things), min(len(things), count), replace=False)
    return [(things[i].noun, things[i].colour) for i in picked]


def _named_with_noise(
    contents: Contents, rng: np.random.Generator, noise: float, count: int
) -> list[tuple[str, str]]:
    """The largest thing first; each of the others is absent with probability `noise`."""
    main, *others = sorted(contents.things, key=lambda thing: -thing.half)
    others = [others[i] for i in rng.permutation(len(others))]
    shown = {thing.noun for thing in contents.things}
    named = [(main.noun, main.colour)]
    for _ in range(1, count):
        if rng.random() < noise:
            noun = _pick(rng, (noun for noun in NOUNS if noun not in shown))
            named.append((noun, _pick(rng, (c for c in COLOURS if (noun, c) not in UNSEEN))))
        elif others:
            thing = others.pop()
            named.append((thing.noun, thing.colour))
    return named


def _thing_phrases(
    contents: Contents, rng: np.random.Generator, wrong_colour: bool, unseen: bool, noise: float
) -> list[str]:
    """Name one to three things, some with their colour.

    wrong_colour: the first gets a colour that is not in the image.
    """
    seen = visible_words(contents)
    phrases: list[str] = []
    for noun, colour in _named(contents, rng, noise):
        words = [noun]
        if wrong_colour and not phrases:
            words.insert(0, _absent_colour(noun, seen, rng, unseen))
        elif rng.random() < COLOUR_SHARE:
            words.insert(0, colour)
        if rng.random() < FILLER_SHARE:
            words.insert(0, _pick(rng, FILLERS))
        phrases.append(_article(" ".join(words), rng))
    if rng.random() < LONELY_COLOUR_SHARE:
        phrases[-1] = f"something {_pick(rng, seen.colours)}"
    return phrases


def _absent_phrase(seen: Visible, rng: np.random.Generator) -> str:
    """A closing phrase with a noun or a colour that the image does not show."""
    if rng.random() < 0.75:
        frame = _pick(rng, ABSENT_PHRASES)
        return frame.format(_pick(rng, (noun for noun in NOUNS if noun not in seen.nouns)))
    frame = _pick(rng, ("but nothing {}", "and something {}"))
    return frame.format(_pick(rng, (colour for colour in COLOURS if colour not in seen.colours)))


def _short(contents: Contents, rng: np.random.Generator, noise: float) -> str:
    """One to four words, such as "red boat"; noisy captions tend to name the largest thing."""
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
    """Draw one caption of `contents`, with at least one true word.

    split: "train" or "val"; training captions never hold an unseen pair (`palette.unseen_pairs`).
    noise: probability in [0, 1] that a training caption's second or third thing is not in the
    image; without effect on validation captions.
    """
    unseen = split != "train"
    if unseen:
        noise = 0.0
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
    """The distinct words of `text`, case-folded, that `contents` shows, in their order."""
    visible = visible_words(contents).words
    words = (word.text.casefold() for word in split_words(text))
    return list(dict.fromkeys(word for word in words if word in visible))
