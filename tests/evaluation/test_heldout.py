"""Held-out evaluation against the predictor, image by image, and against counting by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from paths import ROOT
from PIL import Image

from core.backbones import load_backbone
from core.data.heldout import load_heldout, make_item, unseen_items
from core.errors import TTDError
from core.evaluation.heldout import Cuts, baselines, best_cuts, evaluate_heldout, measure
from core.evaluation.report import (
    baselines_json,
    cuts_line,
    heldout_json,
    heldout_lines,
    heldout_table,
    scorer_table,
)
from core.predictor import Predictor
from core.tags.selection import otsu_threshold

SIZES = [(40, 32), (32, 32), (32, 53), (32, 32)]  # one needs padding, two go together
CAPTIONS = [
    ("A red dog in a boat", ["red", "boat"]),
    ("a Cat on the moon", ["cat"]),
    ("the the star", []),
    ("dog", ["dog"]),
]


def iou(a, b):
    return (a & b).sum() / (a | b).sum() if (a | b).any() else np.nan


@pytest.fixture(scope="module")
def backbone(small_clip):
    return load_backbone(f"local-dir:{small_clip}", device="cpu")


@pytest.fixture(scope="module")
def items():
    random = np.random.default_rng(3)
    made = []
    for k, ((height, width), (text, tags)) in enumerate(zip(SIZES, CAPTIONS, strict=True)):
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        masks = np.zeros((len(tags), height, width), bool)
        for mask in masks:
            top, left = random.integers(0, 16, 2)
            mask[top : top + 14, left : left + 12] = True
        made.append(make_item(str(k), image, text, tags, masks))
    return made


def folder_of(root, items, name="cc3m_for_evaluation"):
    """The items as a set on disk; images as PNG, so that nothing is lost."""
    base = root / name
    for folder in ("image", "json_refined", "mask_using_HQ-SAM"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for item in items:
        Image.fromarray(item.image).save(base / f"image/{item.id}.png")
        (base / f"json_refined/{item.id}.json").write_text(
            json.dumps({"text": item.text, "tags": list(item.tags)})
        )
        (base / "mask_using_HQ-SAM" / item.id).mkdir(exist_ok=True)
        for tag, mask in zip(item.tags, item.masks, strict=True):
            Image.fromarray(mask.astype(np.uint8) * 255).save(
                base / f"mask_using_HQ-SAM/{item.id}/{tag}.png"
            )
    return root


def test_scores_are_those_of_the_predictor_picture_by_picture(backbone, items):
    predictor = Predictor(backbone, image_size=backbone.image_size)
    hits = kept = true = 0
    iou_of = {key: [] for key in ("caption", "word", "caption_minmax", "word_minmax")}
    for item in items:
        predictor.set_image(item.image)
        scores = predictor.scores(item.words)
        norms = (
            (scores - scores.min()) / (scores.max() - scores.min())
            if len(set(scores.tolist())) > 1
            else None
        )
        chosen = (
            np.ones(len(scores), bool) if norms is None else (norms > otsu_threshold(norms)).numpy()
        )
        hits, kept, true = (
            hits + (chosen & item.truth).sum(),
            kept + chosen.sum(),
            true + item.truth.sum(),
        )
        if not item.tags:
            continue
        texts, masks = [*item.tags, item.text], [*item.masks, item.masks.any(0)]
        for kind, maps, cut in (
            ("", predictor.soft_masks(texts), {}),
            ("_minmax", predictor.maps(texts), {}),
        ):
            for k, (values, mask) in enumerate(zip(maps.numpy(), masks, strict=True)):
                if kind:
                    values = (values - values.min()) / (values.max() - values.min())
                what = ("word" if k < len(item.tags) else "caption") + kind
                cut = getattr(Cuts(), what)
                iou_of[what].append(iou(values > cut, mask))
    found = evaluate_heldout(backbone, items)
    precision, recall = hits / kept, hits / true
    assert (found.tags.precision, found.tags.recall) == pytest.approx((precision, recall))
    assert found.pixel_f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert (found.pictures, found.words, found.captions, found.pairs) == (4, 15, 3, 4)
    for what, attribute in (
        ("caption", "caption_iou"),
        ("word", "word_map_iou"),
        ("caption_minmax", "caption_iou_minmax"),
        ("word_minmax", "word_map_iou_minmax"),
    ):
        # A cosine that lies on the cut may fall on either side by its last bit.
        assert getattr(found, attribute) == pytest.approx(np.nanmean(iou_of[what]), abs=2e-3), what


def test_results_do_not_depend_on_what_else_is_scored(backbone, items):
    whole = measure(backbone, items, scorers=("pixel", "image", "text"))
    for ids in (["1"], ["0", "3"], ["2", "1"]):
        alone = measure(
            backbone, [item for item in items if item.id in ids], scorers=("pixel", "image", "text")
        )
        part = whole.part(ids)
        assert [item.id for item in part.items] == [item.id for item in alone.items]
        for scorer in whole.scores:
            for a, b in zip(part.scores[scorer], alone.scores[scorer], strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        assert part.at().word_map_iou == pytest.approx(alone.at().word_map_iou, abs=2e-3)
        assert np.array_equal(part.words.owner, alone.words.owner)


def test_only_stop_words_are_rejected(backbone, items):
    measured = measure(backbone, items)
    allowed, rejected = measured.tags(), measured.tags(stopwords=True)
    assert rejected.recall <= allowed.recall and rejected.precision >= allowed.precision
    assert measured.tags(threshold=0.0) == baselines(items).all_words
    assert measured.tags(threshold=0.0, stopwords=True) == baselines(items).all_content_words


def test_the_best_cuts_are_the_best_of_all(backbone, items):
    measured = measure(backbone, items)
    best = best_cuts(backbone, items)
    steps = [round(0.01 * k, 2) for k in range(1, 100)]
    assert measured.at(best).word_map_iou == max(
        measured.at(replace(best, word=cut)).word_map_iou for cut in steps
    )
    assert measured.at(best).caption_iou_minmax == max(
        measured.at(replace(best, caption_minmax=cut)).caption_iou_minmax for cut in steps
    )
    assert measured.at(best).pixel_f1 == max(
        measured.at(replace(best, tag=k / 500)).pixel_f1 for k in range(501)
    ) or measured.at(best).pixel_f1 > max(
        measured.at(replace(best, tag=k / 500)).pixel_f1 for k in range(501)
    )


def test_baselines_by_hand():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, :4], masks[1, 4:6] = True, True  # half and a quarter of the image, apart
    trivial = baselines(
        [make_item("x", np.zeros((8, 8, 3), np.uint8), "the Red car", ["red", "car"], masks)]
    )
    assert trivial.all_words.precision == pytest.approx(2 / 3) and trivial.all_content_words.f1 == 1
    assert (
        trivial.caption_iou["all foreground"] == 0.75 and trivial.caption_iou["all background"] == 0
    )
    assert trivial.word_map_iou["all foreground"] == pytest.approx(3 / 8)
    assert 0 < trivial.word_map_iou["random map"] < 0.5


def test_a_set_without_any_true_tag_has_scores_of_words_alone(backbone, items):
    found = evaluate_heldout(backbone, [items[2]])
    assert (
        (found.captions, found.pairs) == (0, 0)
        and np.isnan(found.caption_iou)
        and found.tags.recall == 0
    )
    assert "-" in heldout_table(heldout_lines([found], baselines([items[2]])))


def test_sets_are_read_from_the_folder_and_from_the_one_above(tmp_path, items):
    root = folder_of(tmp_path, items)
    for place in (root, root / "cc3m_for_evaluation"):
        read = load_heldout(place)
        assert [item.id for item in read] == [item.id for item in items]
        for a, b in zip(read, items, strict=True):
            assert a.words == b.words and a.tags == b.tags and np.array_equal(a.truth, b.truth)
            assert np.array_equal(a.image, b.image) and np.array_equal(a.masks, b.masks)
    assert len(load_heldout(root, limit=2)) == 2
    assert unseen_items(root, items) == []
    (root / "world.yaml").write_text(
        yaml.safe_dump({"unseen_ids": {"1": ["red moon"], "9": ["blue key"]}})
    )
    assert [item.id for item in unseen_items(root, items)] == ["1"]


def test_errors_say_what_is_wrong(tmp_path, backbone, items):
    with pytest.raises(TTDError, match="no such folder"):
        load_heldout(tmp_path / "nowhere")
    root = folder_of(tmp_path, items)
    (root / "cc3m_for_evaluation/mask_using_HQ-SAM/0/boat.png").unlink()
    with pytest.raises(TTDError, match="boat.png"):
        load_heldout(root)
    with pytest.raises(TTDError, match="no words"):
        make_item("x", np.zeros((8, 8, 3), np.uint8), " . ", [], np.zeros((0, 8, 8), bool))
    with pytest.raises(TTDError, match="one mask of the image's size"):
        make_item("x", np.zeros((8, 8, 3), np.uint8), "red", ["red"], np.zeros((1, 4, 4), bool))
    with pytest.raises(TTDError, match="no images"):
        evaluate_heldout(backbone, [])
    with pytest.raises(TTDError, match="multiple of 0.01"):
        evaluate_heldout(backbone, items, background_threshold=0.405)


def test_tables_hold_the_numbers(backbone, items):
    before, after = (
        evaluate_heldout(backbone, items, background_threshold=background_threshold)
        for background_threshold in (0.4, 0.3)
    )
    text = heldout_table(heldout_lines([before, after], baselines(items)), ["before", "after"])
    line = next(row for row in text.splitlines() if row.startswith("word-map IoU "))
    cells = line.removeprefix("word-map IoU").split()[:3]
    gain = 100 * (after.word_map_iou - before.word_map_iou)
    assert cells == [
        f"{100 * before.word_map_iou:.1f}",
        f"{100 * after.word_map_iou:.1f}",
        f"{gain:+.1f}",
    ]
    assert "soft mask > 0.30" in cuts_line(after)
    assert json.loads(json.dumps(heldout_json(after)))["cuts"]["word"] == 0.3
    assert json.loads(json.dumps(baselines_json(baselines(items))))["all_words"]["recall"] == 1
    assert scorer_table(measure(backbone, items, scorers=("pixel", "text"))).count("\n") == 8


def test_the_script_prints_before_and_after(monkeypatch, small_clip, tmp_path, items, capsys):
    from core.backbones.lora.adapter import AdapterInfo, add_adapter, save_adapter

    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import evaluate_ttd

    backbone = load_backbone(f"local-dir:{small_clip}", device="cpu")
    linears = [
        name
        for name, module in backbone.named_modules()
        if name.startswith("text.") and isinstance(module, torch.nn.Linear)
    ]
    add_adapter(backbone, linears[:4], 2, 2)
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.1)
    save_adapter(backbone, tmp_path / "a.safetensors", AdapterInfo())
    root, out = folder_of(tmp_path / "set", items), tmp_path / "scores.json"
    (root / "world.yaml").write_text(yaml.safe_dump({"unseen_ids": {"1": ["red moon"]}}))
    assert (
        evaluate_ttd.main(
            [
                "--root",
                str(root),
                "--dev",
                str(root),
                "--arch",
                f"local-dir:{small_clip}",
                "--device",
                "cpu",
                "--lora",
                str(tmp_path / "a.safetensors"),
                "--json",
                str(out),
            ]
        )
        == 0
    )
    text, stored = capsys.readouterr().out, json.loads(out.read_text())
    assert sum(line.split()[:3] == ["before", "after", "gain"] for line in text.splitlines()) == 4
    assert "unseen in training (1)" in text
    plain = evaluate_heldout(load_backbone(f"local-dir:{small_clip}", device="cpu"), items)
    assert stored["sets"][0]["fixed"]["before"]["word_map_iou"] == pytest.approx(plain.word_map_iou)
    changed = evaluate_heldout(backbone, items)
    assert stored["sets"][0]["fixed"]["after"]["caption_iou"] == pytest.approx(changed.caption_iou)
    assert stored["sets"][1]["pictures"] == 1
