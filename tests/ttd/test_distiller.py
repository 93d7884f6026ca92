"""The student and its teachers, against models of their own."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from core.backbones import load_backbone
from core.backbones.lora.adapter import adapter_disabled, adapter_parameters, add_adapter
from core.data.pairs import open_pairs
from core.errors import TTDError
from core.training.distributed import Ranks
from core.training.task import Step
from core.ttd.calibration import Calibration, calibrate
from core.ttd.config import DistillConfig
from core.ttd.distiller import Distiller
from core.ttd.embedding import embed, gather_texts
from core.ttd.loss import ttd_loss

STEP = Step(0, Ranks(), torch.device("cpu"))


def first_part(config, backbone, distill, pairs, calibration=None):
    """A distiller on a backbone whose adapter is not 0, images and captions."""
    add_adapter(backbone, ["text.blocks.0.attn.q_proj", "visual.blocks.0.attn.v_proj"], 2, 2.0)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in adapter_parameters(backbone).values():
            value.copy_(0.3 * torch.randn(value.shape, generator=draw))
    images = torch.rand(3, 3, 32, 32, generator=draw)
    distiller = Distiller(backbone, distill, calibration=calibration)
    return distiller, images, [pairs[i].text for i in range(3)]


def test_words_are_selected_at_the_size_of_the_calibration(config):
    """Scores move with the size of the images: what is compared has one."""
    pairs = open_pairs(config.data, config.root)
    distill = DistillConfig(teacher="frozen", selection="calibrated")
    backbone = load_backbone(config.arch, device="cpu")
    looked = calibrate(
        backbone, torch.rand(5, 3, 32, 32), [pairs[i].text for i in range(5)], stopwords=True
    )
    sides, dim = looked.pixels[0].shape[2], looked.pixels[0].shape[1]
    assert sum(part.nbytes for part in looked.pixels) == 2 * 5 * dim * sides  # two bytes a number
    distiller, images, captions = first_part(config, backbone, distill, pairs, looked)
    chosen = []
    real = Calibration.choose

    class Watched(Calibration):
        def choose(self, base, texts, stopwords):
            chosen.append((base, real(self, base, texts, stopwords)))
            return chosen[-1][1]

    distiller.calibration = Watched(*vars(looked).values())
    small = F.interpolate(images, size=(16, 16), mode="area")
    for seen in (images, small):
        distiller.distill(seen, captions, STEP)
    assert [base.pixels.shape[-1] for base, _ in chosen] == [4, 4]
    back = F.interpolate(small, size=(32, 32), mode="bilinear", antialias=True)
    with torch.no_grad(), adapter_disabled(backbone):
        want = embed(backbone, backbone.normalize(back), gather_texts(captions), True)
    assert torch.allclose(chosen[1][0].pixels, want.pixels, atol=1e-5)
    with pytest.raises(TTDError, match="needs a calibration"):
        Distiller(backbone, distill)


@pytest.mark.parametrize("teacher", ["current", "ema", "frozen"])
def test_the_teacher_is_the_one_asked_for(config, teacher):
    """Against the loss with a teacher that is a model of its own."""
    pairs = open_pairs(config.data, config.root)
    distill = DistillConfig(teacher=teacher, ema_decay=0.9)
    distiller, images, captions = first_part(
        config, load_backbone(config.arch, device="cpu"), distill, pairs
    )
    other = load_backbone(config.arch, device="cpu")
    if teacher != "frozen":  # the average after one update of the adapter to twice its values
        first_part(config, other, distill, pairs)
        if teacher == "ema":
            with torch.no_grad():
                for mine, theirs in zip(
                    distiller.parameters.values(), adapter_parameters(other).values(), strict=True
                ):
                    mine.mul_(2)
                    theirs.mul_(1.1)  # nine tenths old, one tenth new
            distiller.update_ema()
    texts = gather_texts(captions)
    with torch.no_grad():
        inputs = distiller.backbone.normalize(images)
        student, target = embed(distiller.backbone, inputs, texts), embed(other, inputs, texts)
        want = ttd_loss(student, texts, distill, (1.0, 0.0), teacher=target)
    part = distiller.distill(images, captions, STEP)
    assert part.total.item() == pytest.approx(want.total.item(), rel=1e-5)
    part.total.backward()
    assert all(value.grad is not None for value in distiller.parameters.values())


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_share_of_the_average_teaches(config, share):
    """Against a model without an adapter, its weights changed by that share of (alpha / r) B A."""
    pairs = open_pairs(config.data, config.root)
    distill = DistillConfig(teacher="ema", ema_share=share)
    distiller, images, captions = first_part(
        config, load_backbone(config.arch, device="cpu"), distill, pairs
    )
    other = load_backbone(config.arch, device="cpu")
    values = adapter_parameters(distiller.backbone)
    for name in ("text.blocks.0.attn.q_proj", "visual.blocks.0.attn.v_proj"):
        halves = [values[next(k for k in values if f"{name}.lora_{h}." in k)] for h in "AB"]
        with torch.no_grad():
            other.get_submodule(name).weight += share * halves[1] @ halves[0]  # alpha = r = 2
    texts = gather_texts(captions)
    with torch.no_grad():
        inputs = distiller.backbone.normalize(images)
        student, target = embed(distiller.backbone, inputs, texts), embed(other, inputs, texts)
        want = ttd_loss(student, texts, distill, (1.0, 0.0), teacher=target)
        same = ttd_loss(student, texts, distill, (1.0, 0.0))
    got = distiller.distill(images, captions, STEP).total.item()
    assert got == pytest.approx(want.total.item(), rel=1e-5)
    assert got != pytest.approx(same.total.item(), rel=1e-3)


def test_bf16_keeps_adapter_and_loss_in_float32(config):
    pairs = open_pairs(config.data, config.root)
    backbone = load_backbone(config.arch, device="cpu")
    exact, images, captions = first_part(config, backbone, DistillConfig(), pairs)
    a = exact.distill(images, captions, STEP).total
    b = exact.distill(images, captions, replace(STEP, dtype=torch.bfloat16)).total
    b.backward()
    assert (
        b.dtype == torch.float32
        and a.item() != b.item()
        and a.item() == pytest.approx(b.item(), rel=0.2)
    )
    assert {value.dtype for value in adapter_parameters(backbone).values()} == {torch.float32}
    assert {value.grad.dtype for value in adapter_parameters(backbone).values()} == {torch.float32}


def test_the_contrastive_anchor_gathers_all_processes(config):
    """Two processes with the same batch: CLIP's loss of all pairs, each there twice."""

    class Twice(Ranks):
        def all_gather(self, values):
            return torch.cat([values, values])

    pairs = open_pairs(config.data, config.root)
    distill = DistillConfig(anchor="contrastive", anchor_weight=1.0)
    backbone = load_backbone(config.arch, device="cpu")
    distiller, images, captions = first_part(config, backbone, distill, pairs)
    alone = distiller.distill(images, captions, STEP).values["anchor"]
    twice = distiller.distill(images, captions, replace(STEP, ranks=Twice(0, 2)))
    # Every denominator is doubled, its logarithm larger by log 2.
    assert float(twice.values["anchor"] - alone) == pytest.approx(0.6931472, abs=1e-5)
