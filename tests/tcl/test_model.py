"""A fresh TCL on a CLIP, what is trained of it, and its checkpoint."""

import oracle_tcl as oracle
import pytest
import torch
from small_clip import model_config, random_images, write_clip
from small_siglip import write_siglip
from small_tcl import STRINGS, save, small_weights

from core.backbones import load_backbone
from core.backbones.tcl.base import MergesTokenizer
from core.errors import TTDError
from core.tcl.checkpoint import official_state, save_tcl
from core.tcl.model import is_decayed, tcl_from_clip, trained_parameters, unused_parameters


@pytest.fixture(scope="module")
def base(small_clip):
    """A class-token CLIP with GELU and heads 32 wide."""
    return load_backbone(f"local-dir:{small_clip}")


def test_fresh_masker_gives_the_bases_own_value_path_map(base):
    tcl = tcl_from_clip(base)
    images = random_images(2, 3, 32, 48)
    want = base.visual.dense(images, "maskclip")
    got = tcl.encode_pixels(images)
    assert got.shape == (2, 24, 16, 24) and tcl.stride == 2
    assert (got - want.repeat_interleave(4, 2).repeat_interleave(4, 3)).abs().max() < 1e-4
    assert (tcl.mask_scale, tcl.mask_bias) == (10.0, 0.25)


def test_convolutions_are_drawn_by_the_seed_and_nothing_else_moves(base):
    before = torch.random.get_rng_state()
    one, same, other = (tcl_from_clip(base, seed=s).masker.stages for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    weight = one[0].conv.conv.weight
    assert torch.equal(weight, same[0].conv.conv.weight)
    assert not torch.equal(weight, other[0].conv.conv.weight)
    bound = 1 / (64 * 9) ** 0.5  # torch's default: uniform in +- 1 / sqrt(fan in)
    assert 0.9 * bound < weight.abs().max() <= bound


def test_the_copied_block_is_a_copy(base):
    tcl = tcl_from_clip(base, copied=2)
    assert len(tcl.masker.blocks) == 2
    with torch.no_grad():
        tcl.masker.blocks[0].attn.v_proj.weight.zero_()
        tcl.masker.proj.zero_()
    assert base.visual.blocks[1].attn.v_proj.weight.abs().max() > 0
    assert base.visual.readout.proj.abs().max() > 0


def test_normalization_is_imagenets_whatever_the_bases(base):
    grey = torch.full((1, 3, 8, 8), 0.5)
    got = tcl_from_clip(base).normalize(grey)[0, :, 0, 0]
    want = [(0.5 - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert got.tolist() == pytest.approx(want)


@pytest.mark.parametrize("towers", [True, False])
def test_every_trained_number_comes_back_from_the_checkpoint(tmp_path, towers):
    tcl = load_backbone("TCL", weights=save(tmp_path / "a.pth", small_weights()))
    with torch.no_grad():
        for place, parameter in enumerate(trained_parameters(tcl).values()):
            parameter.add_(0.01 * (place + 1))
    state = official_state(tcl, towers=towers)
    assert all(value.is_contiguous() for value in state.values())
    if not towers:
        assert not any(name.startswith("clip_") for name in state) and len(state) == 39
        return
    assert {name: tuple(v.shape) for name, v in state.items()} == {
        name: tuple(v.shape) for name, v in small_weights().items()
    }
    save_tcl(tcl, tmp_path / "b.pth")
    back = load_backbone("TCL", weights=tmp_path / "b.pth")
    images, ours = random_images(2, 3, 32, 32), trained_parameters(tcl)
    with torch.no_grad():
        assert torch.equal(back.encode_pixels(images), tcl.encode_pixels(images))
    for name, value in trained_parameters(back).items():
        assert torch.equal(value, ours[name]), name
    assert back.mask_scale == pytest.approx(
        10.0 + 0.01 * (1 + list(ours).index("masker.sim2mask.w"))
    )


def test_a_checkpoint_is_what_the_oracle_reads(tmp_path):
    tcl = load_backbone("TCL", weights=save(tmp_path / "a.pth", small_weights()))
    with torch.no_grad():
        for parameter in trained_parameters(tcl).values():
            parameter.mul_(1.05)
    images = random_images(2, 3, 32, 32)
    p = oracle.double(official_state(tcl))
    want = oracle.encode_pixels(p, images.double())
    assert (tcl.encode_pixels(images) - want).abs().max() / want.abs().max() < 1e-5
    assert float(p["masker.sim2mask.w"]) == pytest.approx(10.5)
    assert float(p["masker.sim2mask.b"]) == pytest.approx(-2.625)


def test_a_tcl_on_another_clip_comes_back_whole(base, tmp_path):
    tcl = tcl_from_clip(base)
    with torch.no_grad():
        tcl.masker.stages[0].conv.gate.fill_(0.3)
    save_tcl(tcl, tmp_path / "tcl.pth")
    back = load_backbone("TCL", weights=tmp_path / "tcl.pth")
    images = random_images(2, 3, 32, 48)
    assert torch.equal(back.encode_pixels(images), tcl.encode_pixels(images))
    assert torch.equal(back.encode_image(images), tcl.encode_image(images))
    assert torch.equal(back.encode_text(STRINGS), tcl.encode_text(STRINGS))


def test_half_precision_files_keep_the_single_numbers(base, tmp_path):
    save_tcl(tcl_from_clip(base), tmp_path / "tcl.pth", dtype=torch.float16)
    stored = torch.load(tmp_path / "tcl.pth")["model"]
    assert stored["masker.sim2mask.b"].dtype == torch.float32
    assert stored["masker.image_encoder.decoder.image_proj.proj"].dtype == torch.float16
    assert load_backbone("TCL", weights=tmp_path / "tcl.pth").dtype == torch.float32


def test_a_vocabulary_of_its_own_goes_with_the_checkpoint(tmp_path):
    tiny = load_backbone("tiny")
    merges = tiny.merges()
    again = MergesTokenizer(merges, 48)
    assert torch.equal(again(["a red dog", "boats"]), tiny.tokenize(["a red dog", "boats"]))


def test_a_clip_that_does_not_fit_is_refused(tmp_path):
    for folder, said in (
        (write_siglip(tmp_path / "siglip"), "not pooled by a class token"),
        (_clip(tmp_path / "avg", vision={"pool_type": "avg"}), "not pooled by a class token"),
        (_clip(tmp_path / "scaled", vision={"ls_init_value": 0.1}), "scale their residuals"),
        (_clip(tmp_path / "bare", vision={"no_ln_pre": True}), "norms"),
    ):
        with pytest.raises(TTDError, match=said):
            tcl_from_clip(load_backbone(f"local-dir:{folder}"))


def _clip(folder, **changes):
    write_clip(folder, model_config(**changes))
    return folder


@pytest.mark.parametrize(
    "base",
    [
        "text",
        {"quick_gelu": 1, "heads": 2, "text_heads": 1, "merges": None},
        {"quick_gelu": True, "heads": 0, "text_heads": 1, "merges": None},
        {"quick_gelu": True, "heads": 2, "text_heads": 1},
        {"quick_gelu": True, "heads": 2, "text_heads": 1, "merges": torch.zeros(9).byte()},
        {"quick_gelu": True, "heads": 2, "text_heads": 1, "merges": None, "more": 1},
    ],
)
def test_a_damaged_description_of_the_clip_is_one_line(tmp_path, base):
    path = save(tmp_path / "tcl.pth", small_weights(), base=base)
    with pytest.raises(TTDError, match="under `base`"):
        load_backbone("TCL", weights=path)


def test_what_is_decayed():
    by_shape = {
        "masker.image_encoder.decoder.image_proj.proj": ((4, 3), True),
        "net.0.conv.conv.weight": ((4, 4, 3, 3), True),
        "net.0.conv.conv.bias": ((4,), False),
        "net.0.conv.norm.weight": ((4,), False),
        "odd.bias": ((4, 4), False),
    }
    for name, (shape, decayed) in by_shape.items():
        assert is_decayed(name, torch.nn.Parameter(torch.zeros(shape))) == decayed, name
    gate = torch.nn.Parameter(torch.zeros(()))
    assert is_decayed("net.0.conv.gate.gate", gate) and not is_decayed("gate", gate, scalars=False)


def test_trained_parameters_are_the_masker_and_four_numbers(base):
    tcl = tcl_from_clip(base)
    trained = trained_parameters(tcl)
    own = sum(p.numel() for p in tcl.masker.parameters())
    assert sum(p.numel() for p in trained.values()) == own + 4
    assert {p.requires_grad for p in trained.values()} == {True}
    frozen = [*tcl.visual.parameters(), *tcl.text.parameters()]
    assert not any(p.requires_grad for p in frozen)
    assert len(unused_parameters(tcl)) == 4
