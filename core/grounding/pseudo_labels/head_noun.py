"""Noun phrases of a caption by rules: no parser to download, good enough for captions.

A noun phrase is a run of words between determiners, prepositions, conjunctions and verbs. Captions
are short and plain ("a man in a red hat riding a horse"), which is why so little does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

from ...errors import TTDError
from ...utils.config import read_yaml

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[.,;:!?]")
LISTS = Path(__file__).with_name("word_classes.yaml")
LONGEST = 10_000  # characters of a caption that are looked at
IRREGULAR = {
    "men": "man",
    "women": "woman",
    "people": "person",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "policemen": "policeman",
    "firemen": "fireman",
    "snowmen": "snowman",
    "knives": "knife",
    "wives": "wife",
    "leaves": "leaf",
    "shelves": "shelf",
    "loaves": "loaf",
    "wolves": "wolf",
    "calves": "calf",
    "scarves": "scarf",
    "halves": "half",
    "oxen": "ox",
}


@cache
def word_class(name: str) -> frozenset[str]:
    """The words of a list of word_classes.yaml."""
    return frozenset(str(read_yaml(LISTS)[name]).split())


def noun_phrases(text: str) -> list[list[str]]:
    """The noun phrases of a text in order, as words in lower case without determiners.

    >>> noun_phrases("A man in a red hat is riding two horses.")
    [['man'], ['red', 'hat'], ['two', 'horses']]
    """
    phrases: list[list[str]] = []
    current: list[str] = []
    before = ""
    for word in WORD.findall(text[:LONGEST].lower()):
        if _ends(word, current, before):
            _close(current, phrases)
            current = []
        else:
            current.append(word)
        before = word
    _close(current, phrases)
    return phrases


def _ends(word: str, current: Sequence[str], before: str) -> bool:
    """Whether a word belongs to no noun phrase.

    A participle is a verb after a noun or an auxiliary ("is riding"), an adjective otherwise
    ("a flying bird").
    """
    ending = word in word_class("enders") or word in word_class("determiners")
    if ending or not word[0].isalnum():
        return True
    if not _participle(word):
        return False
    return _has_noun(current) or (not current and before not in word_class("determiners"))


def _close(current: list[str], phrases: list[list[str]]) -> None:
    """Take over what holds a noun, without words of place behind it ("the star left of")."""
    while current and current[-1] in word_class("places"):
        current.pop()
    if _has_noun(current):
        phrases.append(current)


def _participle(word: str) -> bool:
    return len(word) > 4 and word.endswith(("ing", "ed"))


def _has_noun(words: Sequence[str]) -> bool:
    other = word_class("adjectives") | word_class("places")
    return any(word not in other and not _participle(word) for word in words)


def head_phrase(text: str) -> list[str]:
    """The noun phrase that a caption is about: its first, or the one after "a group of"."""
    phrases = noun_phrases(text)
    if not phrases:
        return []
    head = phrases[0][-1]
    measured = head in word_class("measures") and f"{head} of " in text.lower()
    return phrases[1] if measured and len(phrases) > 1 else phrases[0]


def head_words(text: str) -> list[str]:
    """The words of the head phrase, as they are and in the singular, each once."""
    words = head_phrase(text)
    pairs = zip(words, map(singular, words), strict=True)
    return list(dict.fromkeys(chain.from_iterable(pairs)))


def singular(word: str) -> str:
    """An English noun in the singular, by rule: "boxes" -> "box", "women" -> "woman"."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zzes")):
        return word[:-2]
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural else word


def entities(text: str) -> int:
    """How many things an expression names: CLIP-VG orders its sources by the mean of it."""
    return len(noun_phrases(text))


def spacy_parser(model: str = "en_core_web_sm") -> Callable[[str], list[str]]:
    """The same as `head_words` by spaCy's dependency parse, as CLIP-VG does.

    The head phrase is the noun chunk that holds the root, else the root's first child.
    TTDError where spaCy or the model is not installed.
    """
    try:
        import spacy

        parse = spacy.load(model)
    except (ImportError, OSError) as error:
        raise TTDError(
            f"spaCy cannot be used ({error}); pip install spacy, python -m spacy download {model}, "
            "or leave out --parser spacy"
        ) from None

    def words(text: str) -> list[str]:
        """The lemmas of the first noun phrase at a root of the sentence."""
        document = parse(text[:LONGEST])
        chunks = list(document.noun_chunks)
        for root in [token for token in document if token.head == token]:
            for place in [root, *list(root.children)[:1]]:
                inside = [chunk for chunk in chunks if chunk.start <= place.i < chunk.end]
                if inside:
                    return [token.lemma_.lower() for token in inside[0]]
        return []

    return words
