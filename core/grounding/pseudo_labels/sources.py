"""From scenes to a training list: the phrases of one source, one JSONL line each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...data.grounding import whole_box
from ...errors import TTDError
from ...utils.files import atomic, write_errors
from .caption import caption_phrases
from .head_noun import entities, head_words, spacy_parser
from .relation import relation_phrases
from .scenes import Scene
from .spatial import APART
from .template import SEED, Labelled, template_phrases
from .vocabulary import Vocabulary, load_vocabulary

SOURCES = ("template", "relation", "caption")


@dataclass(frozen=True)
class SourceConfig:
    """How the phrases of a source are made.

    objects, phrases: of an image at most, for the template source (`template.SETTINGS` by
    benchmark). apart: see `spatial_words`. vocabulary: a YAML file, or the shipped one. parser:
    "rules" or "spacy", for captions. parity: the published rule for "top".
    """

    source: str = "template"
    objects: int = 3
    phrases: int = 6
    apart: float = APART
    vocabulary: str | None = None
    parser: str = "rules"
    parity: bool = False
    seed: int = SEED

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise TTDError(f"unknown source {self.source!r}: choose {', '.join(SOURCES)}")
        if self.parser not in ("rules", "spacy"):
            raise TTDError(f"unknown parser {self.parser!r}: rules or spacy")
        if min(self.objects, self.phrases) < 1 or self.apart < 0:
            raise TTDError("objects and phrases must be at least 1, apart at least 0")


@dataclass(frozen=True)
class Written:
    """What became of a source: images read, images with phrases, phrases, entities a phrase."""

    images: int
    used: int
    phrases: int
    entities: float


def phrases_of(config: SourceConfig) -> Callable[[Scene], list[Labelled]]:
    """The generator of a source. TTDError: a vocabulary or parser that cannot be loaded."""
    if config.source == "relation":
        return relation_phrases
    words: Vocabulary = load_vocabulary(config.vocabulary)
    if config.source == "caption":
        parser = spacy_parser() if config.parser == "spacy" else head_words
        return partial(caption_phrases, words=words, seed=config.seed, parser=parser)
    return partial(
        template_phrases,
        words=words,
        objects=config.objects,
        phrases=config.phrases,
        seed=config.seed,
        apart=config.apart,
        parity=config.parity,
    )


def write_source(path: Path, scenes: Iterable[Scene], config: SourceConfig) -> Written:
    """Write the phrases of all scenes to a JSONL file, whole or not at all.

    Boxes are cut to whole pixels, as label lists have them. TTDError: not a phrase at all, a bad
    scene, or a file that cannot be written.
    """
    make = phrases_of(config)
    images = used = count = named = 0
    with write_errors(path, "make room, or choose another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
            for scene in scenes:
                found = [item for item in make(scene) if item.text.strip()]
                images, used, count = images + 1, used + bool(found), count + len(found)
                named += sum(entities(item.text) for item in found)
                file.writelines(_line(scene, item, n) for n, item in enumerate(found))
            if not count:
                raise TTDError(f"{images} scenes and no phrase of the {config.source} source")
    return Written(images, used, count, named / count)


def write_scenes(path: Path, scenes: Iterable[Scene]) -> int:
    """Write scenes to a JSONL file, whole or not at all; how many. TTDError: none, or no room."""
    count = 0
    with write_errors(path, "make room, or choose another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
            for scene in scenes:
                file.write(json.dumps(scene.row(), ensure_ascii=False) + "\n")
                count += 1
            if not count:
                raise TTDError("no scene to write: no image could be used")
    return count


def _line(scene: Scene, item: Labelled, number: int) -> str:
    row: dict[str, Any] = {
        "id": f"{scene.file}#{number}",
        "image": scene.file,
        "box": list(whole_box(item.box, False)),
        "text": item.text,
    }
    return json.dumps(row, ensure_ascii=False) + "\n"
