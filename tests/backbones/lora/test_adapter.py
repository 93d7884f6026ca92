"""Adapters: every adapted weight is W + (alpha / r) B A; adapters that do not fit are refused."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from core.backbones import load_backbone
from core.backbones.lora.adapter import (
    PREFIX,
    AdapterInfo,
    adapter_disabled,
    adapter_parameters,
    adapter_swapped,
    add_adapter,
    load_adapter,
    save_adapter,
)
from core.errors import TTDError

MODULES = [
    "visual.blocks.0.attn.q_proj",
    "visual.blocks.1.attn.v_proj",
    "visual.blocks.1.attn.out_proj",
    "visual.blocks.0.mlp.c_fc",
    "text.blocks.0.attn.k_proj",
    "text.blocks.1.mlp.c_proj",
]
RANK, ALPHA = 3, 6.0


@pytest.fixture
def base(small_clip):
    return load_backbone(f"local-dir:{small_clip}", device="cpu", dtype="float64")


def random_adapter(backbone, seed=0):
    """lora_A, lora_B for MODULES, in the file's names."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for name in MODULES:
        out, into = backbone.get_submodule(name).weight.shape
        state[f"{name}.lora_A.weight"] = torch.randn(RANK, into, generator=draw)
        state[f"{name}.lora_B.weight"] = torch.randn(out, RANK, generator=draw)
    return state


def write(path, state, **info):
    import json

    save_file(
        {PREFIX + k: v for k, v in state.items()},
        path,
        metadata={"ttd": json.dumps({"alpha": ALPHA, **info})},
    )
    return path


def test_adapter_equals_the_hand_merged_weights(base, tmp_path):
    state = random_adapter(base)
    by_hand = copy.deepcopy(base)
    for name in MODULES:
        linear = by_hand.get_submodule(name)
        delta = (
            ALPHA
            / RANK
            * state[f"{name}.lora_B.weight"].double()
            @ state[f"{name}.lora_A.weight"].double()
        )
        linear.weight.data += delta
    adapted = copy.deepcopy(base)
    load_adapter(adapted, write(tmp_path / "a.safetensors", state))
    adapted.double()
    images, words = (
        base.normalize(torch.rand(2, 3, 24, 40, dtype=torch.float64)),
        ["a red boat", "sand"],
    )
    for call in (
        lambda b: b.encode_pixels(images),
        lambda b: b.encode_image(images),
        lambda b: b.encode_text(words),
    ):
        assert torch.allclose(call(adapted), call(by_hand), atol=1e-9)
        assert not torch.allclose(call(adapted), call(base), atol=1e-2)  # the adapter does act


def test_only_the_adapter_learns_and_its_gradient_is_the_finite_difference(base, tmp_path):
    load_adapter(base, write(tmp_path / "a.safetensors", random_adapter(base)))
    base.double()
    learns = {name for name, p in base.named_parameters() if p.requires_grad}
    assert learns and all(".lora_" in name for name in learns)
    images = base.normalize(torch.rand(1, 3, 16, 16, dtype=torch.float64))

    def loss():
        return (
            base.similarity(base.encode_pixels(images), base.encode_text(["boat"])).square().sum()
        )

    loss().backward()
    for name in learns:
        parameter = base.get_parameter(name)
        with torch.no_grad():
            parameter[0, 0] += 1e-5
            above = loss()
            parameter[0, 0] -= 2e-5
            difference = (above - loss()) / 2e-5
            parameter[0, 0] += 1e-5
        assert torch.allclose(parameter.grad[0, 0], difference, rtol=1e-4, atol=1e-9), name


def test_save_then_load_gives_the_same_model(base, tmp_path):
    add_adapter(base, MODULES, RANK, ALPHA)
    for name, parameter in base.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter.data, generator=torch.Generator().manual_seed(len(name)))
    save_adapter(base, tmp_path / "x.safetensors", AdapterInfo(arch=base.arch))
    again = load_backbone(
        base.arch, lora=tmp_path / "x.pt", device="cpu"
    )  # X.pt is absent: X.safetensors is taken
    assert torch.allclose(
        again.encode_text(["a boat"]).double(), base.encode_text(["a boat"]), atol=1e-5
    )
    assert again.checksum != load_backbone(base.arch, device="cpu").checksum


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda s: s | {"visual.blocks.9.attn.q_proj.lora_A.weight": torch.zeros(3, 8)},
            "visual.blocks.9",
        ),
        (
            lambda s: {k: v[:, :-1] if "c_fc.lora_A" in k else v for k, v in s.items()},
            "c_fc.lora_A",
        ),
        (
            lambda s: {k: v for k, v in s.items() if "c_fc.lora_B" not in k},
            "c_fc.lora_A.weight without its other half",
        ),
        (lambda s: s | {"visual.conv.weight": torch.zeros(1)}, "visual.conv.weight"),
    ],
)
def test_misfits_are_refused_by_name(base, tmp_path, spoil, words):
    with pytest.raises(TTDError, match=words):
        load_adapter(
            base,
            write(
                tmp_path / "a.safetensors",
                {k: v.contiguous() for k, v in spoil(random_adapter(base)).items()},
            ),
        )


def test_another_base_head_or_path_is_refused(base, tmp_path):
    state = random_adapter(base)
    with pytest.raises(TTDError, match="other weights"):
        load_adapter(base, write(tmp_path / "a.safetensors", state, base_checksum="0" * 32))
    with pytest.raises(TTDError, match="--head clearclip"):
        load_adapter(base, write(tmp_path / "b.safetensors", state, head="clearclip"))
    with pytest.raises(TTDError, match="no LoRA adapter at"):
        load_adapter(base, tmp_path / "none.pt")


def randomised(backbone, seed=0):
    """A random adapter on MODULES, in place."""
    add_adapter(backbone, MODULES, RANK, ALPHA)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(backbone).values():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return backbone.double()


def test_disabled_adapter_is_the_base_and_comes_back_with_its_gradients(base):
    adapted = randomised(copy.deepcopy(base))
    images = base.normalize(torch.rand(1, 3, 24, 40, dtype=torch.float64))
    before = adapted.encode_pixels(images)
    with adapter_disabled(adapted):
        assert torch.equal(adapted.encode_pixels(images), base.encode_pixels(images))
        with adapter_disabled(adapted):
            pass
        assert torch.equal(adapted.encode_text(["sand"]), base.encode_text(["sand"]))
    assert torch.equal(adapted.encode_pixels(images), before)
    assert all(p.requires_grad == (".lora_" in name) for name, p in adapted.named_parameters())
    for parameter in adapter_parameters(adapted).values():
        parameter.requires_grad_(False)
    with pytest.raises(RuntimeError, match="inside"), adapter_disabled(adapted):
        raise RuntimeError("inside")
    assert torch.equal(adapted.encode_pixels(images), before)
    assert not any(p.requires_grad for p in adapted.parameters())
    with adapter_disabled(base):  # no adapter: nothing to do
        base.encode_text(["sand"])


def test_swapped_adapter_acts_inside_only_and_leaves_the_students_gradient_alone(base):
    student, teacher = randomised(copy.deepcopy(base), 0), randomised(copy.deepcopy(base), 1)
    values = {name: value.detach() for name, value in adapter_parameters(teacher).items()}
    own = {name: value.detach().clone() for name, value in adapter_parameters(student).items()}
    images = base.normalize(torch.rand(1, 3, 16, 16, dtype=torch.float64))
    student.encode_pixels(images).square().sum().backward()
    wanted = {
        name: value.grad.clone()
        for name, value in adapter_parameters(student).items()
        if value.grad is not None
    }
    student.zero_grad()
    loss, checksum = student.encode_pixels(images).square().sum(), student.checksum
    with torch.no_grad(), adapter_swapped(student, values):
        assert torch.equal(student.encode_pixels(images), teacher.encode_pixels(images))
    loss.backward()  # of a graph made before the swap
    parameters = adapter_parameters(student)
    assert all(torch.equal(parameters[name], own[name]) for name in own)
    assert wanted and all(torch.equal(parameters[name].grad, grad) for name, grad in wanted.items())
    assert student.checksum == checksum


def test_swap_under_autocast_does_not_use_the_students_cached_casts(base):
    student, teacher = (
        randomised(copy.deepcopy(base), 0).float(),
        randomised(copy.deepcopy(base), 1).float(),
    )
    values = {name: value.detach() for name, value in adapter_parameters(teacher).items()}
    with torch.autocast("cpu", torch.bfloat16):
        mine = student.encode_text(["sand"])
        with torch.no_grad(), adapter_swapped(student, values):
            theirs = student.encode_text(["sand"])
        after = student.encode_text(["sand"])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(theirs, teacher.encode_text(["sand"])) and not torch.equal(theirs, mine)
    assert torch.equal(after, mine) and after.requires_grad


def test_swap_wants_the_adapters_own_names_and_shapes(base):
    adapted = randomised(base)
    values = {name: value.detach() for name, value in adapter_parameters(adapted).items()}
    with (
        pytest.raises(TTDError, match="visual.conv"),
        adapter_swapped(adapted, values | {"visual.conv": values}),
    ):
        pass
    values["text.blocks.0.attn.k_proj.lora_A.weight"] = torch.zeros(1)
    with pytest.raises(TTDError, match="k_proj.lora_A"), adapter_swapped(adapted, values):
        pass
