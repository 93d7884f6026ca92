"""The hash of a set's classes: what changes it, what does not, and who refuses another one."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from small_records import picture, write

from core.data.labels.datasets import open_dataset
from core.errors import TTDError
from core.evaluation.label_maps import evaluate

BASE = {"images": "images", "masks": "masks", "classes": ["cat", "dog"], "background": 0}


def make(folder, **changes):
    """A set of one image; None takes a key away."""
    content = {key: value for key, value in {**BASE, **changes}.items() if value is not None}
    write(folder, {"images/a.png": picture(), "set.yaml": content})
    (folder / "masks").mkdir(exist_ok=True)
    Image.fromarray(np.array([[0, 1, 2]] * 2, np.uint8)).save(folder / "masks" / "a.png")
    return open_dataset(str(folder / "set.yaml"))


def test_it_is_a_hash_of_names_first_label_and_background(tmp_path):
    wanted = hashlib.sha256(b"(('cat', 'dog'), 1, True)").hexdigest()[:16]
    assert make(tmp_path).digest == wanted  # folders of masks hold it: it must not change


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"bg": 0.9},
        {"palette": [[1, 2, 3], [4, 5, 6]]},
        {"background": True},
        {"classes": ["background", "cat", "dog"]},
        {"classes": ["__ignore__", "_background_", "cat", "dog"]},
        {"masks_drawn": "upright"},
        {"masks": None},
    ],
)
def test_what_labels_do_not_depend_on_leaves_it(tmp_path, changes):
    assert make(tmp_path / "other", **changes).digest == make(tmp_path / "own").digest


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ["dog", "cat"]},
        {"classes": ["cat", "dog", "cow"]},
        {"classes": ["cat"]},
        {"classes": ["cat", "Dog"]},
        {"classes": ["cat", "dog|puppy"]},
        {"background": None},
        {"background": None, "ignore": [0, 255]},
        {"classes": ["cat', 'dog"], "background": 0},
    ],
)
def test_what_labels_mean_changes_it(tmp_path, changes):
    assert make(tmp_path / "other", **changes).digest != make(tmp_path / "own").digest


def test_masks_of_other_classes_are_refused(tmp_path):
    own, other = make(tmp_path / "own"), make(tmp_path / "other", classes=["dog", "cat"])
    folder = own.masks
    evaluate(own, folder)  # what made them is not known
    for made, fine in ((own, True), (other, False)):
        (folder / "protocol.json").write_text(json.dumps({"identity": {"classes": made.digest}}))
        if fine:
            assert evaluate(own, folder).pictures == {"a": 1.0}
            continue
        with pytest.raises(TTDError, match="made with other classes"):
            evaluate(own, folder)
