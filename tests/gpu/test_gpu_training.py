"""A TTD step on the GPU: losses, gradients, EMA and statistics against loops on the CPU."""

from dataclasses import replace
from pathlib import Path

import bench_ttd_step
import numpy as np
import pytest
import torch

from core.backbones import load_backbone
from core.backbones.lora.adapter import adapter_parameters, add_adapter
from core.backbones.lora.targets import lora_targets
from core.training.distributed import Ranks
from core.training.task import Step
from core.ttd.calibration import calibrate
from core.ttd.collapse import map_statistics
from core.ttd.config import DistillConfig, load_config
from core.ttd.distiller import Distiller
from core.ttd.embedding import Maps, gather_texts
from core.utils.config import read_recipe
from core.world.sample import make_sample

pytestmark = pytest.mark.gpu

RECIPE = load_config(read_recipe(Path(__file__).parents[2] / "configs" / "ttd_any.yaml")).distill
SAMPLES = [make_sample(0, "train", i, 96) for i in range(6)]
CAPTIONS = [sample.text for sample in SAMPLES]


def images_of(samples):
    """float32 [N, 3, 96, 96] in [0, 1]."""
    stacked = torch.stack([torch.from_numpy(sample.image) for sample in samples])
    return stacked.permute(0, 3, 1, 2).float() / 255


IMAGES = images_of(SAMPLES)


def student(device, rank=4, encoders="both"):
    """The shipped model with an adapter that already does something, the same on every device."""
    backbone = load_backbone("tiny", device=device)
    torch.manual_seed(0)
    add_adapter(backbone, lora_targets(backbone, encoders), rank=rank, alpha=float(rank))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in adapter_parameters(backbone).values():
            value.copy_(0.02 * torch.randn(value.shape, generator=generator))
    return backbone


def calibrated(device):
    """What the model without its adapter shows on pairs that are not in the batch."""
    samples = [make_sample(0, "train", i, 96) for i in range(6, 38)]
    backbone = load_backbone("tiny", device=device)
    texts = [sample.text for sample in samples]
    return calibrate(backbone, images_of(samples), texts, stopwords=True)


def distilled(
    backbone, config, images=IMAGES, captions=CAPTIONS, dtype=torch.float32, calibration=None
):
    """The loss of a batch, its towers in `dtype`."""
    step, others = Step(0, Ranks(), backbone.device, dtype), []
    if calibration is not None:
        others = calibration.draw(np.random.default_rng(0), config.rank_words)
    distiller = Distiller(backbone, config, calibration=calibration)
    return distiller.distill(images, captions, step, others)


def gradients(backbone, loss):
    """The adapter's gradients as one vector on the CPU."""
    names = adapter_parameters(backbone)
    found = torch.autograd.grad(
        loss, list(names.values()), allow_unused=True, materialize_grads=True
    )
    return torch.cat([value.flatten().cpu() for value in found])


def relative(got, want):
    return float((got - want).norm() / want.norm())


def cosine(got, want):
    return float(torch.nn.functional.cosine_similarity(got, want, dim=0))


@pytest.fixture(scope="module")
def loops():
    """Loss and gradients of the published loss, caption by caption, on the CPU."""
    backbone = student("cpu")
    loss = bench_ttd_step.literal(
        bench_ttd_step.Case(backbone, backbone.normalize(IMAGES), CAPTIONS)
    )
    return float(loss.detach()), gradients(backbone, loss)


def test_loss_and_gradients_equal_the_loops(gpu, loops):
    backbone = student(gpu)
    part = distilled(backbone, DistillConfig())
    assert part.total.device.type == gpu
    assert abs(float(part.total.detach()) - loops[0]) < 1e-5
    assert relative(gradients(backbone, part.total), loops[1]) < 1e-3


def test_bfloat16_gradients_point_the_same_way(gpu):
    """All words are selected: after rounding, Otsu's cut may fall between other words."""
    config = DistillConfig(norm="none", threshold=-1.0)
    here, there = student(gpu), student("cpu")
    part = distilled(here, config, dtype=torch.bfloat16)
    want = distilled(there, config)
    assert abs(float(part.total.detach()) - float(want.total.detach())) < 1e-2
    assert cosine(gradients(here, part.total), gradients(there, want.total)) > 0.85


def test_bfloat16_gradients_of_the_texts_are_near(gpu):
    """The first image blocks amplify rounding (0.95 for all parts together), short texts do not."""
    config = DistillConfig(norm="none", threshold=-1.0)
    here, there = student(gpu, encoders="text"), student("cpu", encoders="text")
    part = distilled(here, config, dtype=torch.bfloat16)
    want = distilled(there, config)
    assert cosine(gradients(here, part.total), gradients(there, want.total)) > 0.995


@pytest.mark.parametrize("teacher", ["current", "ema", "frozen"])
def test_the_recipe_equals_itself_in_parts_on_the_cpu(gpu, teacher):
    """All of the recipe, PAMR's targets and ranks too: one batch here, pair by pair on the CPU."""
    config = replace(RECIPE, teacher=teacher)
    here, there = student(gpu), student("cpu")
    part, own = distilled(here, config, calibration=calibrated(gpu)), calibrated("cpu")
    parts = [
        distilled(there, config, IMAGES[[i]], CAPTIONS[i : i + 1], calibration=own)
        for i in range(len(CAPTIONS))
    ]
    assert float(part.values["ranking"]) > 0
    mean = sum(one.total for one in parts) / len(parts)
    assert abs(float(part.total.detach()) - float(mean.detach())) < 1e-4
    assert relative(gradients(here, part.total), gradients(there, mean)) < 5e-3


def test_the_average_follows_by_its_formula(gpu):
    backbone = student(gpu)
    distiller = Distiller(backbone, DistillConfig(teacher="ema", ema_decay=0.9))
    name, value = next(iter(adapter_parameters(backbone).items()))
    start = value.detach().double().cpu()
    for _ in range(3):
        with torch.no_grad():
            value.add_(1.0)
        distiller.update_ema()
    # values start + 1, + 2, + 3: average = start + 0.1 * (0.81 * 1 + 0.9 * 2 + 1 * 3)
    want = start + 0.1 * (0.81 + 1.8 + 3.0)
    assert distiller.average[name].device.type == gpu
    torch.testing.assert_close(distiller.average[name].double().cpu(), want, atol=1e-6, rtol=0)


def test_collapse_statistics_equal_numpy(gpu):
    texts = gather_texts(["red dog runs", "a cat"])
    generator = torch.Generator().manual_seed(3)
    maps = torch.rand(2, 3, 5, 4, generator=generator)
    selected = torch.tensor([[True, True, True], [False, True, False]])
    found = map_statistics(Maps(maps.to(gpu), maps[:, 0].to(gpu)), selected.to(gpu), texts)
    flat = maps.double().numpy().reshape(2, 3, -1)
    spread = np.mean([flat[0, 0].std(), flat[0, 1].std(), flat[0, 2].std(), flat[1, 1].std()])
    alike = np.corrcoef(flat[0])[np.triu_indices(3, 1)].mean()
    assert float(found.map_std) == pytest.approx(spread, abs=1e-6)
    assert float(found.map_correlation) == pytest.approx(alike, abs=1e-5)
    assert float(found.selected) == pytest.approx(4 / 5, abs=1e-6)


def test_steps_of_adamw_lower_the_loss(gpu):
    backbone = student(gpu)
    distiller = Distiller(backbone, DistillConfig(teacher="frozen"))
    number = Step(0, Ranks(), backbone.device, torch.bfloat16)
    optimizer = torch.optim.AdamW(distiller.parameters.values(), lr=2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad(set_to_none=True)
        part = distiller.distill(IMAGES, CAPTIONS, number)
        part.total.backward()
        torch.nn.utils.clip_grad_norm_(distiller.parameters.values(), 1.0)
        optimizer.step()
        losses.append(float(part.total.detach()))
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0]
