"""TCL's loss of a batch: values, gradients and processes against loops over a plain state dict."""

import pytest
import torch
from oracle_tcl import double
from oracle_tcl_loss import WEIGHTS, per_rank
from small_clip import random_images
from small_tcl import save, small_weights, texts

from core.backbones import load_backbone
from core.errors import TTDError
from core.tcl.config import LossConfig
from core.tcl.model import trained_parameters
from core.tcl.objective import draw_noise, tcl_loss
from core.training.distributed import Ranks

PAIRS, SIZE = 4, 32  # maps of 8 x 8


@pytest.fixture
def batch():
    """Images [4, 3, 32, 32], raw texts [4, 32], noise [4, 1, 8, 8], float64."""
    noise = torch.rand(PAIRS, 1, 8, 8, generator=torch.Generator().manual_seed(3)).double()
    return random_images(PAIRS, 3, SIZE, SIZE).double(), texts(PAIRS).double(), noise


@pytest.fixture
def weights():
    """A small TCL in float64, its temperatures apart and not at their start."""
    state = double(small_weights())
    for name, value in (("tcli", 2.9), ("tclf", 2.2)):
        state[f"{name}_loss.logit_scale"] = torch.tensor(value).double()  # a float32 number
    return state


def model(weights, tmp_path):
    """The same weights in the library, float64."""
    return load_backbone("TCL", weights=save(tmp_path / "tcl.pth", weights)).double()


def oracle_gradients(weights, batch, world=1, parity=False):
    """Terms of every process, and the gradient of the mean over processes of their sums."""
    images, raw, noise = batch
    p = {k: v.clone().requires_grad_(not k.startswith("clip_")) for k, v in weights.items()}
    ranks = per_rank(p, images, raw, noise[:, 0], world, parity)
    (sum(sum(terms.values()) for terms in ranks) / world).backward()
    return ranks, {name: value.grad for name, value in p.items() if value.grad is not None}


def packed(parameters):
    """Gradients by a checkpoint's names: q, k and v of a block in one tensor."""
    found = {}
    for name, parameter in parameters.items():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for place, kind in enumerate(("q_proj.", "k_proj.", "v_proj.")):
            if kind in name:
                name, slot = name.replace(kind, "in_proj_"), place
                found.setdefault(name, [None] * 3)[slot] = gradient
                break
        else:
            found[name] = gradient
    return {k: torch.cat(v) if isinstance(v, list) else v for k, v in found.items()}


def agree(got, want):
    """Gradients by name that are equal to 1e-9 of the largest of each tensor."""
    assert got.keys() == want.keys()
    for name, gradient in want.items():
        scale = max(float(gradient.abs().max()), 1e-6)
        assert (got[name] - gradient).abs().max() / scale < 1e-8, name


@pytest.mark.parametrize("chunk", [None, 0, 1, 3])
def test_terms_and_gradients_are_those_of_the_loops(weights, batch, tmp_path, chunk):
    images, raw, noise = batch
    backbone = model(weights, tmp_path)
    trained = trained_parameters(backbone)
    got, masks = tcl_loss(backbone, images, raw, LossConfig(chunk=chunk), noise=noise)
    (want,), gradients = oracle_gradients(weights, batch)
    assert list(got) == list(WEIGHTS)
    for name in WEIGHTS:
        assert got[name].item() == pytest.approx(want[name].item(), rel=1e-10), name
    assert masks.shape == (PAIRS, 1, 8, 8) and not masks.requires_grad
    sum(got.values()).backward()
    agree(packed(trained), gradients)
    frozen = [p for n, p in backbone.named_parameters() if n.startswith(("visual.", "text."))]
    assert all(p.grad is None for p in frozen)


def test_gradients_are_those_of_finite_differences(weights, batch, tmp_path):
    images, raw, noise = batch
    backbone = model(weights, tmp_path)
    # The straight-through gradient is not that of the forward pass: without its term.
    config = LossConfig(tcli_weight=0.0)
    trained = trained_parameters(backbone)

    def total():
        return sum(tcl_loss(backbone, images, raw, config, noise=noise)[0].values())

    total().backward()
    for name, parameter in trained.items():
        if parameter.grad is None or "tcli" in name:
            continue
        flat, at = parameter.detach().view(-1), parameter.numel() // 2
        before, step = float(flat[at]), 1e-6
        values = []
        for moved in (before + step, before - step):
            flat[at] = moved
            values.append(total().item())
        flat[at] = before
        slope = (values[0] - values[1]) / (2 * step)
        assert float(parameter.grad.view(-1)[at]) == pytest.approx(slope, rel=1e-4, abs=2e-8), name


@pytest.mark.parametrize("parity", [False, True])
def test_weights_of_terms_and_targets_are_the_configs(weights, batch, tmp_path, parity):
    images, raw, noise = batch
    backbone = model(weights, tmp_path)
    usual, masks = tcl_loss(backbone, images, raw, LossConfig(parity=parity), noise=noise)
    config = LossConfig(area=0.7, area_weight=2.0, neg_area=0.9, tv_img_weight=0.5, parity=parity)
    other, _ = tcl_loss(backbone, images, raw, config, noise=noise)
    area = float(masks.mean())
    assert usual["area_loss"].item() == pytest.approx(0.4 * abs(area - 0.4), rel=1e-6)
    assert other["area_loss"].item() == pytest.approx(2.0 * abs(area - 0.7), rel=1e-6)
    negative = usual["neg_area_loss"].item() / 0.4
    assert other["neg_area_loss"].item() == pytest.approx(0.4 * abs(negative - 0.9), rel=1e-6)
    assert other["tv_img_loss"].item() == pytest.approx(0.5 * usual["tv_img_loss"].item())
    assert torch.equal(other["tclf_loss"], usual["tclf_loss"])


def test_captions_are_encoded_as_they_stand(tcl, batch):
    images, _, noise = batch
    captions = ["a dog", "the cat sits", "", "a dog"]
    by_text, _ = tcl_loss(tcl, images.float(), captions, LossConfig(), noise=noise.float())
    raw = torch.cat([tcl.encode_text([caption]) for caption in captions])
    by_embedding, _ = tcl_loss(tcl, images.float(), raw, LossConfig(), noise=noise.float())
    for name, value in by_embedding.items():
        assert by_text[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_noise_follows_the_generator_and_not_the_number_of_processes():
    def drawn(world):
        return torch.cat(
            [
                draw_noise((8 // world, 1, 3, 5), Ranks(r, world), torch.Generator().manual_seed(9))
                for r in range(world)
            ]
        )

    assert drawn(1).shape == (8, 1, 3, 5)
    assert torch.equal(drawn(1), drawn(2)) and torch.equal(drawn(1), drawn(4))
    assert len(drawn(1).unique()) > 100


def test_what_does_not_go_together_is_refused(tcl, batch):
    images, raw, _ = (part.float() for part in batch)
    for bad, texts_, said in (
        (images, raw[:3], "one text for each"),
        (images[:1], raw[:1], "at least two"),
        (images[..., :30], raw, "multiples of the patch"),
        (images[0], raw, "must be"),
    ):
        with pytest.raises(TTDError, match=said):
            tcl_loss(tcl, bad, texts_, LossConfig())


def test_gates_at_zero_give_the_frozen_clips_map(tmp_path, weights):
    state = dict(weights)
    for name, value in state.items():
        if name.endswith("gate.gate"):
            state[name] = torch.zeros_like(value)
        source = name.replace("masker.image_encoder.backbone.", "clip_image_encoder.clip_visual.")
        source = source.replace(
            "masker.image_encoder.decoder.image_proj", "clip_image_encoder.clip_proj"
        )
        if source != name and source in weights:
            state[name] = weights[source]
    backbone = model(state, tmp_path)
    images = random_images(2, 3, 64, 64).double()
    value_path = backbone.visual.dense(images, "maskclip")  # [2, D, 4, 4]
    enlarged = value_path.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert (backbone.encode_pixels(images) - enlarged).abs().max() < 1e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_products_leave_the_loss_float32_and_near(tcl_copy, batch, dtype):
    images, raw, noise = (part.float() for part in batch)
    trained_parameters(tcl_copy)
    want, _ = tcl_loss(tcl_copy, images, raw, LossConfig(), noise=noise)
    with torch.autocast("cpu", dtype):
        got, masks = tcl_loss(tcl_copy, images, raw, LossConfig(), noise=noise)
    for name, value in want.items():
        assert got[name].dtype == torch.float32
        assert got[name].item() == pytest.approx(value.item(), rel=0.05, abs=0.02), name
    sum(got.values()).backward()
    gradients = [p.grad for p in tcl_copy.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert masks.dtype == torch.float32


@pytest.fixture
def tcl_copy(small_tcl):
    """A small TCL of one's own, float32."""
    return load_backbone("TCL", weights=small_tcl)
