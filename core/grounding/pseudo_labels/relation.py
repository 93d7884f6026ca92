"""The relation source: "subject predicate object" of a scene-graph model, the subject's box."""

from __future__ import annotations

import math

from .objects import usable
from .scenes import Detection, Relation, Scene
from .template import Labelled

LEAST = 0.2  # every one of the three probabilities must be larger (RelTR's threshold)
MOST = 10  # relations of an image


def relation_phrases(scene: Scene, most: int = MOST, least: float = LEAST) -> list[Labelled]:
    """The `most` relations whose three probabilities are all above `least`, likeliest first.

    Likelihood is their product. Relations whose subject has no area are left out.
    """
    sure = [relation for relation in scene.relations if min(relation.probabilities) > least]
    ranked = sorted(sure, key=lambda relation: -math.prod(relation.probabilities))
    return [_phrase(relation) for relation in ranked[:most] if _has_area(relation)]


def _phrase(relation: Relation) -> Labelled:
    text = f"{relation.subject} {relation.predicate} {relation.object}"
    return Labelled(text, relation.subject_box)


def _has_area(relation: Relation) -> bool:
    return bool(usable([Detection(relation.subject, relation.subject_box)]))
