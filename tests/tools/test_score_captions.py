"""Scores of pairs equal cosines taken one by one; files are resumed byte for byte."""

import json

import numpy as np
import pytest
import score_captions
import torch
import torch.nn.functional as F
from PIL import Image

from core.backbones import load_backbone
from core.data.pairs import find_pairs
from core.errors import TTDError
from core.maps.resize import resized_tensor
from core.maps.views import Views, prepare
from core.tags.pair_scores import pair_label, score_pairs

SIZES = ((40, 60), (60, 40), (40, 60), (33, 33), (5, 70), (40, 60), (48, 48))
CAPTIONS = [
    "a red boat",
    "two dogs",
    "sand",
    "a boat on the sea, far away from the shore",
    "it",
    "a car",
    "nothing",
]


def picture(number):
    return np.random.default_rng(number).integers(0, 256, (*SIZES[number], 3), dtype=np.uint8)


@pytest.fixture
def pairs(tmp_path):
    """ROOT with cc3m/train of seven pairs, the fifth with a damaged image."""
    folder = tmp_path / "cc3m" / "train"
    (folder / "image").mkdir(parents=True)
    (folder / "json").mkdir()
    for number, caption in enumerate(CAPTIONS):
        Image.fromarray(picture(number)).save(folder / "image" / f"{number:03}.png")
        (folder / "json" / f"{number:03}.json").write_text(json.dumps({"text": caption}))
    (folder / "image" / "004.png").write_bytes(b"no picture")
    return tmp_path


@torch.no_grad()
def one_by_one(backbone, pixels, caption, size, scales, hflip):
    """The cosine of every view on its own, averaged."""
    text, found = backbone.encode_text([caption])[0], []
    for scale in scales:
        image = resized_tensor(pixels, round(size * scale))[None]
        for view in (image, image.flip(-1))[: 1 + hflip]:
            found.append(
                F.cosine_similarity(backbone.encode_image(backbone.normalize(view))[0], text, dim=0)
            )
    return float(torch.stack(found).mean())


@pytest.mark.parametrize(("scales", "hflip"), [((1.0,), False), ((1.0, 0.5), True)])
def test_scores_are_average_cosines_whatever_the_batch(small_clip, scales, hflip):
    backbone = load_backbone(f"local-dir:{small_clip}", device="cpu")
    pixels = [picture(number) for number in range(len(SIZES))]
    views = Views(32, scales, hflip)
    got = score_pairs(backbone, [prepare(one, views) for one in pixels], CAPTIONS, views)
    want = [
        one_by_one(backbone, one, caption, 32, scales, hflip)
        for one, caption in zip(pixels, CAPTIONS, strict=True)
    ]
    assert torch.allclose(got, torch.tensor(want), atol=1e-5)
    assert score_pairs(backbone, [], [], views).shape == (0,)


def run(pairs, small_clip, *more):
    arguments = [
        "--root",
        str(pairs),
        "--data",
        "cc3m",
        "--arch",
        f"local-dir:{small_clip}",
        "--out",
        str(pairs / "out"),
        "--batch",
        "2",
        "--device",
        "cpu",
        *more,
    ]
    assert score_captions.main(arguments) == 0


def test_the_script_scores_in_order_and_lists_what_it_skipped(pairs, small_clip, capsys):
    run(pairs, small_clip, "--image", "32")
    made = sorted(path.name for path in (pairs / "out").iterdir())
    assert [name.split("_32_[1.0]")[1] for name in made] == [
        ".inputs.npz",
        ".jsonl",
        ".meta.json",
        ".skipped.jsonl",
    ]
    assert all(name.startswith("cc3m_train@local-dir_") for name in made)
    rows = [json.loads(line) for line in (pairs / "out" / made[1]).read_text().splitlines()]
    assert [(row["index"], row["id"]) for row in rows] == [
        (n, f"{n:03}") for n in (0, 1, 2, 3, 5, 6)
    ]
    backbone = load_backbone(f"local-dir:{small_clip}", device="cpu")
    for row in rows:
        want = one_by_one(
            backbone, picture(row["index"]), CAPTIONS[row["index"]], 32, (1.0,), False
        )
        assert row["score"] == pytest.approx(want, abs=1e-5)
    skipped = json.loads((pairs / "out" / made[3]).read_text())
    assert skipped["id"] == "004" and "004.png" in skipped["reason"]
    assert "6 pairs scored" in capsys.readouterr().out


def test_after_a_kill_the_same_command_gives_the_same_bytes(pairs, small_clip, capsys):
    run(pairs, small_clip, "--hflip")
    found = sorted((pairs / "out").iterdir())
    before = {path: path.read_bytes() for path in found}
    _, lines, meta, skipped = found
    run(pairs, small_clip, "--hflip")
    assert "nothing to do" in capsys.readouterr().out
    for keep in (0, 3, 150, len(before[lines]) - 1):  # cut anywhere, inside a line too
        lines.write_bytes(before[lines][:keep])
        meta.write_text(json.dumps({**json.loads(before[meta]), "finished": False}))
        run(pairs, small_clip, "--hflip")
        assert (lines.read_bytes(), skipped.read_bytes()) == (before[lines], before[skipped])
    assert "resuming after" in capsys.readouterr().out


def test_other_settings_are_not_mixed_in(pairs, small_clip):
    run(pairs, small_clip)
    with pytest.raises(TTDError, match="other settings.*batch"):
        run(pairs, small_clip, "--batch", "3")
    run(pairs, small_clip, "--batch", "3", "--overwrite")
    run(pairs, small_clip, "--limit", "2")  # has a name of its own
    assert len([path for path in (pairs / "out").iterdir() if path.name.endswith("].jsonl")]) == 1


def test_where_data_is(pairs):
    train = pairs / "cc3m" / "train"
    assert find_pairs("cc3m", pairs, "train") == [str(train)]
    assert find_pairs("cc3m/train", pairs, "elsewhere") == [str(train)]
    assert find_pairs(f"{train}+cc3m", pairs) == [str(train)] * 2
    assert find_pairs("s/{00..03}.tar", pairs, "train") == ["s/{00..03}.tar"]
    with pytest.raises(TTDError, match="no pairs called cc12m"):
        find_pairs("cc12m", pairs, "train")
    assert pair_label(str(train)) == "cc3m_train" and "/" not in pair_label("s/*.tar")
