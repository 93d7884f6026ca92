"""Which class names are people, and which are garments of people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import TTDError
from ...utils.config import read_yaml
from ...utils.files import expanded

SHIPPED = Path(__file__).with_name("vocabulary.yaml")
GARMENTS = ("hat", "shirt", "pants", "shoes")  # the order in which a class is looked up


@dataclass(frozen=True)
class Vocabulary:
    """people, hat, shirt, pants, shoes: class names, in lower case."""

    people: frozenset[str]
    hat: frozenset[str] = frozenset()
    shirt: frozenset[str] = frozenset()
    pants: frozenset[str] = frozenset()
    shoes: frozenset[str] = frozenset()

    def garment(self, label: str) -> str | None:
        """The kind of clothes that a class is, or None. A class in several lists is the first's."""
        name = label.lower()
        kinds = (self.hat, self.shirt, self.pants, self.shoes)
        return next((k for k, names in zip(GARMENTS, kinds, strict=True) if name in names), None)

    def kind(self, label: str) -> str:
        """ "people", "clothes" or "things", in this order of priority."""
        if label.lower() in self.people:
            return "people"
        return "things" if self.garment(label) is None else "clothes"


def load_vocabulary(path: str | Path | None = None) -> Vocabulary:
    """The vocabulary of a YAML file with the five lists; None: the shipped one.

    TTDError: not readable, another key, or a list that holds anything but names.
    """
    source = expanded(path) if path else SHIPPED
    values = read_yaml(source)
    known = ("people", *GARMENTS)
    for key, names in values.items():
        if key not in known:
            raise TTDError(f"{source}: {key} is no list of a vocabulary: {', '.join(known)}")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TTDError(f"{source}: {key} must be a list of class names")
    lists = {key: frozenset(map(str.lower, values.get(key, ()))) for key in known}
    return Vocabulary(**lists)
