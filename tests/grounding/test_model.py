"""The model against a second implementation, and the published sizes."""

from dataclasses import replace

import pytest
import torch
from oracle_grounding import BLOCKS, ReferenceGrounder, official_file, official_state, random_batch

from core.errors import TTDError
from core.grounding.config import ModelConfig, default_blocks
from core.grounding.losses import box_iou, box_losses
from core.grounding.model import GroundingModel, model_config, patch_mask
from core.grounding.weights.checkpoint import load_model


@pytest.fixture(scope="module")
def reference():
    return ReferenceGrounder().eval()


@pytest.mark.parametrize("legacy", [False, True])
def test_boxes_losses_and_iou_of_the_reference(reference, tmp_path, legacy):
    official_file(tmp_path / "checkpoint.pth", reference, legacy)
    model = load_model(tmp_path / "checkpoint.pth", device="cpu")
    assert model.config.blocks == BLOCKS and model.config.heads == 8
    images, ignored, tokens, target = random_batch()
    with torch.no_grad():
        want, got = reference(images, ignored, tokens), model(images, ignored, tokens)
    assert (got - want).abs().max() < 1e-5
    assert want.std(0).max() > 1e-3  # the boxes depend on what is asked
    for ours, theirs in zip(
        box_losses(got, target).values(), box_losses(want, target).values(), strict=True
    ):
        assert ours == pytest.approx(theirs.item(), abs=1e-5)
    assert torch.allclose(box_iou(got, target), box_iou(want, target), atol=1e-4)


def test_sizes_that_no_tensor_tells(tmp_path):
    """Other blocks than the rule's, told by hand."""
    unusual = ReferenceGrounder(blocks=(0, 2, 3, 4), seed=5).eval()
    official_file(tmp_path / "checkpoint.pth", unusual)
    images, ignored, tokens, _ = random_batch()
    plain = load_model(tmp_path / "checkpoint.pth", device="cpu")
    model = load_model(tmp_path / "checkpoint.pth", device="cpu", sizes={"blocks": (0, 2, 3, 4)})
    with torch.no_grad():
        want = unusual(images, ignored, tokens)
        assert (model(images, ignored, tokens) - want).abs().max() < 1e-5
        assert (plain(images, ignored, tokens) - want).abs().max() > 1e-3


def test_positions_on_the_tokens(tmp_path):
    """One of our two additions; without it the same file gives other boxes."""
    changed = ReferenceGrounder(seed=7).eval()
    changed.placed = True
    official_file(tmp_path / "checkpoint.pth", changed)
    images, ignored, tokens, _ = random_batch()
    with torch.no_grad():
        want = changed(images, ignored, tokens)
        for told in (True, False):
            sizes = {"input_positions": told}
            model = load_model(tmp_path / "checkpoint.pth", device="cpu", sizes=sizes)
            distance = float((model(images, ignored, tokens) - want).abs().max())
            assert distance < 1e-5 if told else distance > 1e-3
            visual, text = model.encode_images(images), model.encode_texts(tokens)
            fused, _ = model.fuse(visual, patch_mask(ignored, 8), text, tokens)
            assert torch.allclose(fused, model(images, ignored, tokens), atol=1e-6)


def test_maps_can_be_folded_into_the_projections(reference, tmp_path):
    """The other: a frozen affine map before each projection is the published layout, folded."""
    official_file(tmp_path / "checkpoint.pth", reference)
    plain = load_model(tmp_path / "checkpoint.pth", device="cpu")
    config = replace(plain.config, whiten=16)
    torch.manual_seed(3)
    mapped = GroundingModel(plain.backbone, config, train_visual_pos=False).eval()
    shared = {n: v for n, v in plain.own_state().items() if n in mapped.own_state()}
    for name, value in shared.items():
        if value.shape == mapped.own_state()[name].shape:
            mapped.own_state()[name].copy_(value)
    for outer, inner in (("ml_visu_proj", "visual_map"), ("text_proj", "text_map")):
        into, first = getattr(plain, outer), getattr(mapped, inner)
        last = getattr(mapped, outer)
        with torch.no_grad():
            into.weight.copy_(last.weight @ first.weight)
            into.bias.copy_(last.weight @ first.bias + last.bias)
    images, ignored, tokens, _ = random_batch()
    with torch.no_grad():
        want, got = plain(images, ignored, tokens), mapped(images, ignored, tokens)
    assert (got - want).abs().max() < 1e-5
    assert not any("_map" in name for name in mapped.trained_parameters())


def test_gradients_of_the_reference(reference, tmp_path):
    official_file(tmp_path / "checkpoint.pth", reference)
    model = load_model(tmp_path / "checkpoint.pth", device="cpu")
    model.train_visual_pos = True
    model.backbone.visual.positional_embedding.requires_grad_(True)
    images, ignored, tokens, target = random_batch()
    for one in (model, reference):
        one.zero_grad()
        box_losses(one(images, ignored, tokens), target)["loss"].backward()
    theirs = dict(reference.named_parameters())
    for name, parameter in model.trained_parameters().items():
        if name.startswith("visu_proj"):
            assert parameter.grad is None
            continue
        want = theirs[name].grad
        scale = want.abs().max()
        assert (parameter.grad - want).abs().max() <= 1e-4 * scale + 1e-6, name


def test_half_precision_tensors_are_read(reference, tmp_path):
    official_file(tmp_path / "half.pth", reference, half=True)
    model = load_model(tmp_path / "half.pth", device="cpu")
    assert model.backbone.dtype == torch.float32
    images, ignored, tokens, _ = random_batch()
    with torch.no_grad():
        assert (
            model(images, ignored, tokens) - reference(images, ignored, tokens)
        ).abs().max() < 5e-2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("reg_token.weight"), "missing reg_token.weight"),
        (lambda s: s.update({"extra.weight": torch.ones(1)}), "unknown extra.weight"),
        (lambda s: s.update({"text_proj.bias": torch.ones(3)}), "other shapes: text_proj.bias"),
        (lambda s: s.pop("clip.ln_final.bias"), "ln_final.bias"),
    ],
)
def test_other_checkpoints_are_refused(reference, tmp_path, change, says):
    state = official_state(reference)
    change(state)
    torch.save({"model": state}, tmp_path / "other.pth")
    with pytest.raises(TTDError, match=says):
        load_model(tmp_path / "other.pth", device="cpu")


def test_without_aliases_or_the_unused_layer(reference, tmp_path):
    state = {n: v for n, v in official_state(reference).items() if "_clip_vg" not in n}
    state = {n: v for n, v in state.items() if not n.startswith("visu_proj")}
    torch.save({"model": state}, tmp_path / "plain.pth")
    images, ignored, tokens, _ = random_batch()
    with torch.no_grad():
        got = load_model(tmp_path / "plain.pth", device="cpu")(images, ignored, tokens)
        assert (got - reference(images, ignored, tokens)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "length", "count"),
    [("B-16", 275, 21_832_964), ("B-32", 128, 21_644_804), ("L-14", 335, 38_920_452)],
)
def test_published_sizes(name, length, count):
    import open_clip
    from open_clip.model import CLIP

    from core.backbones import openclip
    from core.backbones.base import Preprocess
    from core.backbones.clip import CLIPBackbone
    from core.grounding.model import sequence_length

    with torch.device("meta"):
        clip = CLIP(**open_clip.get_model_config(f"ViT-{name}-quickgelu"))
        backbone = CLIPBackbone(
            openclip.vision_tower(clip, name),
            openclip.text_tower(clip, name),
            lambda texts: torch.zeros(len(texts), 77, dtype=torch.long),
            Preprocess((0, 0, 0), (1, 1, 1), 224),
            logit_scale=1.0,
        )
        config = model_config(backbone)
        model = GroundingModel(backbone, config)
    assert sequence_length(config, backbone) == length == model.vl_pos_embed.weight.shape[0]
    assert sum(p.numel() for p in model.trained_parameters().values()) == count
    if name == "B-16":
        whole = sum(p.numel() for p in model.parameters()) + 1  # logit_scale is a number here
        assert whole == 171_302_405


def test_blocks():
    assert default_blocks(12) == (0, 3, 7, 11) and default_blocks(24) == (0, 7, 15, 23)
    assert default_blocks(5) == (0, 2, 4) and default_blocks(4, 4) == (0, 1, 2, 3)
    with pytest.raises(TTDError):
        default_blocks(3, 4)


def test_config_refuses_what_no_encoder_has():
    for change in ({"heads": 7}, {"blocks": (3, 1)}, {"dropout": 1.0}, {"layers": 0}):
        with pytest.raises(TTDError):
            ModelConfig(**{"blocks": (0, 1), "hidden": 64, "image_size": 32, **change})


def test_patch_mask_is_the_centres_rule():
    """Against the central 2 x 2 pixels counted one by one, on random masks."""
    draw = torch.Generator().manual_seed(0)
    for patch in (8, 16, 14):
        masks = torch.rand(4, 4 * patch, 4 * patch, generator=draw) < 0.6
        want = ReferenceGrounder._patches(type("Of", (), {"patch": patch})(), masks)
        assert torch.equal(patch_mask(masks, patch), want)
        assert 0 < want.float().mean() < 1


def test_other_padding_is_refused(tmp_path, monkeypatch):
    """Text that is padded with another id would be read as words."""
    from small_grounding import write_backbone

    from core.backbones import load_backbone
    from core.backbones.base import Backbone

    backbone = load_backbone(write_backbone(tmp_path), device="cpu")
    padded = torch.ones(1, 8, dtype=torch.long)
    monkeypatch.setattr(Backbone, "tokenize", lambda self, texts: padded)
    with pytest.raises(TTDError, match="padded with id 1"):
        GroundingModel(backbone, model_config(backbone))
