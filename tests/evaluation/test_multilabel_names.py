"""What papers ask for: class names, templates and background words; the columns of their rows."""

import pytest

from core.data.multilabel.voc import CLASSES
from core.errors import TTDError
from core.evaluation.multilabel.names import NAMES, name_protocol
from core.evaluation.multilabel.published import PUBLISHED


def test_names_and_prompts_of_the_papers():
    piaa, tagclip, sparc = (name_protocol(name) for name in ("piaa", "tagclip", "sparc"))
    asked = piaa.words("voc07", CLASSES)
    assert [a for a, c in zip(asked, CLASSES, strict=True) if a != c] == [
        "dining table", "potted plant", "tv monitor"
    ]  # fmt: skip
    assert piaa.templates == ("a photo of a {}",)  # without full stop
    assert name_protocol("tai-dpt").templates == ("a photo of a {}.",)
    assert (len(tagclip.templates), len(sparc.templates)) == (85, 80)
    assert tagclip.words("voc12", CLASSES) == list(CLASSES)
    coco = ["person", "airplane", "motorcycle", "couch", "potted plant", "dining table", "tv"]
    assert tagclip.words("coco14", coco) == [
        "person", "aeroplane", "motorbike", "sofa", "pottedplant", "diningtable", "tvmonitor"
    ]  # fmt: skip
    assert piaa.words("coco14", coco) == coco and piaa.words("nus", ["birds"]) == ["birds"]
    counts = [len(tagclip.background.get(key, ())) for key in ("voc07", "coco14", "own")]
    assert counts == [25, 23, 0]
    with pytest.raises(TTDError, match=", ".join(NAMES)):
        name_protocol("clip")


def test_anchors_stand_with_their_labels():
    found = {(key, a.method): (a.variant, a.percent) for key in PUBLISHED for a in PUBLISHED[key]}
    assert found["voc07", "PIAA on SC-CLIP"] == ("PIAA", 92.5)
    assert found["voc12", "PIAA on SC-CLIP"] == ("PIAA", 92.2)
    assert found["coco14", "PIAA on SC-CLIP"] == ("PIAA", 73.2)
    assert found["voc07", "TagCLIP"] == ("TagCLIP", 92.8)
    assert found["nus", "TTD"] == ("", 42.63)
