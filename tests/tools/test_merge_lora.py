"""Merged weights are the adapted model: by open_clip and timm, and for TCL by hand."""

import merge_lora
import oracle_tcl
import pytest
import torch
import torch.nn.functional as F
from paths import ROOT
from small_clip import model_config, random_images, reference_model, write_clip
from small_tcl import small_weights

from core.backbones import load_backbone
from core.backbones.lora.adapter import AdapterInfo, adapter_parameters, add_adapter, save_adapter
from core.backbones.lora.targets import lora_targets
from core.errors import TTDError

TOKENS = torch.tensor([[126, 5, 9, 17, 40, 127] + [0] * 10, [126, 3, 80, 127, 0, 0] + [0] * 10])

TINY_LORA = ROOT / "weights" / "tiny+TTD.safetensors"


def adapt(path, arch, modules=None, size=0.05, **options):
    """A random adapter file for the model, and that model with the adapter on it."""
    backbone = load_backbone(arch, device="cpu", **options)
    info = AdapterInfo.of(backbone)
    add_adapter(backbone, modules or lora_targets(backbone), 2, 4.0)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapter_parameters(backbone).values():
            parameter.copy_(size * torch.randn(parameter.shape, generator=draw))
    save_adapter(backbone, path, info)
    return backbone


@torch.no_grad()
def embeddings(backbone, tokens=TOKENS):
    images = random_images(2, 3, 48, 32)
    return [
        F.normalize(x, dim=1)
        for x in (backbone.encode_pixels(images), backbone.encode_tokens(tokens))
    ]


def largest(one, other, tokens=TOKENS):
    return max(
        float((a - b).abs().max())
        for a, b in zip(embeddings(one, tokens), embeddings(other, tokens), strict=True)
    )


def merge(arch, lora, out, *more):
    assert (
        merge_lora.main(
            ["--arch", str(arch), "--lora", str(lora), "--out", str(out), *map(str, more)]
        )
        == 0
    )


@pytest.mark.parametrize(
    "config",
    [
        model_config(),
        model_config(custom_text=True, quick_gelu=True),
        model_config({"pool_type": "avg", "final_ln_after_pool": True, "mlp_ratio": 2.5}),
    ],
    ids=["openai's form", "own text tower, quick gelu", "average"],
)
@pytest.mark.parametrize("head", ["vanilla", "clearclip"])
def test_a_folder_is_the_adapted_model_for_us_and_for_open_clip(tmp_path, config, head):
    write_clip(tmp_path / "base", config, ttd={"mask_scale": 7.0})
    arch = f"local-dir:{tmp_path / 'base'}"
    adapted = adapt(tmp_path / "a.safetensors", arch, head=head)
    merge(arch, tmp_path / "a.safetensors", tmp_path / "merged", "--head", head)
    merged = load_backbone(f"local-dir:{tmp_path / 'merged'}", device="cpu")
    assert (merged.head, merged.mask_scale) == (head, 7.0)
    assert largest(adapted, merged) < 1e-5
    assert (
        largest(adapted, load_backbone(arch, head=head, device="cpu")) > 1e-3
    )  # there was something to merge
    theirs, images = reference_model(tmp_path / "merged"), random_images(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(
            theirs.encode_image(images), adapted.encode_image(images), rtol=1e-4, atol=1e-4
        )


def test_a_file_for_weights_is_the_adapted_model_too(small_clip, tmp_path):
    arch = f"local-dir:{small_clip}"
    adapted = adapt(tmp_path / "a.safetensors", arch)
    for name in ("m.safetensors", "m.pt"):
        merge(arch, tmp_path / "a.safetensors", tmp_path / name)
        assert largest(adapted, load_backbone(arch, weights=tmp_path / name, device="cpu")) < 1e-5


@pytest.mark.parametrize("head", ["vanilla", "maskclip"])
def test_siglip_with_its_pool(tmp_path, head):
    from small_siglip import write_siglip

    arch = f"local-dir:{write_siglip(tmp_path / 'base')}"
    adapted = adapt(tmp_path / "a.safetensors", arch, head=head)
    assert any("attn_pool.kv" in name for name in adapter_parameters(adapted))
    merge(arch, tmp_path / "a.safetensors", tmp_path / "merged", "--head", head)
    assert largest(adapted, load_backbone(f"local-dir:{tmp_path / 'merged'}", device="cpu")) < 1e-5


def test_tcl_is_one_file_in_its_own_names(small_tcl, tmp_path):
    adapted = adapt(tmp_path / "a.safetensors", "TCL", weights=small_tcl)
    tokens = torch.randint(49408, (3, 77), generator=torch.Generator().manual_seed(0))
    for name in ("m.pth", "m.safetensors"):
        merge("TCL", tmp_path / "a.safetensors", tmp_path / name, "--weights", small_tcl)
        assert (
            largest(adapted, load_backbone("TCL", weights=tmp_path / name, device="cpu"), tokens)
            < 1e-5
        )
    state = torch.load(tmp_path / "m.pth", weights_only=True)["model"]
    assert state.keys() == {name for name in small_weights() if not name.startswith("pamr.")} - {
        "tcli_loss.logit_scale",
        "tclf_loss.logit_scale",
    }
    images = random_images(1, 3, 64, 64)
    want = oracle_tcl.encode_pixels(oracle_tcl.double(state), images.double())
    assert torch.allclose(
        adapted.encode_pixels(images).detach().double(), want, rtol=1e-4, atol=1e-4
    )


def test_tcl_with_every_tower_adapted_by_hand(small_tcl, tmp_path):
    modules = [
        "visual.blocks.0.attn.k_proj",
        "visual.blocks.1.mlp.c_proj",
        "masker.blocks.0.attn.v_proj",
        "text.blocks.1.attn.q_proj",
    ]
    adapted = adapt(tmp_path / "a.safetensors", "TCL", modules, weights=small_tcl)
    merge("TCL", tmp_path / "a.safetensors", tmp_path / "m.pth", "--weights", small_tcl)
    merged = load_backbone("TCL", weights=tmp_path / "m.pth", device="cpu")
    assert largest(adapted, merged, torch.randint(49408, (3, 77))) < 1e-5


@pytest.mark.slow
def test_the_shipped_model_keeps_its_tokenizer(tmp_path):
    adapted = adapt(tmp_path / "a.safetensors", "tiny")
    merge("tiny", tmp_path / "a.safetensors", tmp_path / "merged")
    merged = load_backbone(f"local-dir:{tmp_path / 'merged'}", device="cpu")
    words = ["a red boat on the sand", "two cats"]
    with torch.no_grad():
        one, other = merged.encode_text(words), adapted.encode_text(words)
    assert torch.allclose(F.normalize(one), F.normalize(other), atol=1e-5)


def test_plain_open_clip_finds_the_shipped_tokenizer_where_it_is_told(tmp_path):
    """As docs/adapters.md shows it; the same ids and embeddings as ours."""
    import open_clip

    out = tmp_path / "merged"
    merge_lora.main(["--lora", str(TINY_LORA), "--out", str(out)])
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{out}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{out}", bpe_path=str(out / "bpe.txt.gz"))
    ours, texts = load_backbone(f"local-dir:{out}"), ["a red boat", "without a fish"]
    assert torch.equal(tokenize(texts), ours.tokenize(texts))
    with torch.no_grad():
        torch.testing.assert_close(
            model.eval().encode_text(tokenize(texts)), ours.encode_text(texts), atol=1e-4, rtol=1e-4
        )


def test_what_is_not_possible_is_said(small_clip, small_tcl, tmp_path):
    arch, lora = f"local-dir:{small_clip}", tmp_path / "a.safetensors"
    adapt(tmp_path / "tcl.safetensors", "TCL", weights=small_tcl)
    adapt(lora, arch)
    with pytest.raises(TTDError, match="no folder can be made of this model"):
        merge("TCL", tmp_path / "tcl.safetensors", tmp_path / "folder", "--weights", small_tcl)
    assert not (tmp_path / "folder").exists()
    with pytest.raises(TTDError, match="is what is merged"):
        merge(arch, lora, small_clip)
    with pytest.raises(TTDError, match="is what is merged"):
        merge(arch, lora, lora)
    with pytest.raises(TTDError, match="is a file"):
        (tmp_path / "there").write_text("")
        merge(arch, lora, tmp_path / "there")
    with pytest.raises(TTDError, match="trained on other weights"):
        merge("TCL", lora, tmp_path / "m.pth", "--weights", small_tcl)


def test_a_tensor_that_is_not_the_adapted_weight_is_noticed(small_clip, tmp_path):
    from dataclasses import replace

    from core.backbones.lora import merge as lora_merge

    arch = f"local-dir:{small_clip}"
    adapted, source = adapt(tmp_path / "a.safetensors", arch), lora_merge.read_source(arch, None)
    name = "visual.transformer.resblocks.0.attn.in_proj_weight"
    before = {key: value.clone() for key, value in source.state.items()}
    merged = lora_merge.merge(adapted, source)
    assert all(
        torch.equal(source.state[key], value) for key, value in before.items()
    )  # the source is left alone
    changed = {key for key in before if not torch.equal(merged[key], before[key])}
    assert changed and all(key.endswith("weight") and ".ln_" not in key for key in changed)
    with pytest.raises(TTDError, match="is not its weight"):
        lora_merge.merge(adapted, replace(source, state=source.state | {name: before[name] + 1}))
    with pytest.raises(TTDError, match="has none of"):
        lora_merge.merge(
            adapted, replace(source, state={k: v for k, v in before.items() if k != name})
        )
