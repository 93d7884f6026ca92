"""Which towers are supported, and that those served equal open_clip's own forward; what is refused, by name."""

import json

import pytest
import torch
from paths import ROOT
from small_clip import (
    model_config,
    random_images,
    reference_model,
    relative_error,
    write_clip,
    write_config,
)

from core.backbones import load_backbone
from core.backbones.heads import HEADS
from core.errors import TTDError

END = 127  # highest id of the small vocabulary


def token_rows(length: int) -> torch.Tensor:
    rows = torch.zeros(3, length, dtype=torch.long)
    for row, words in zip(rows, ([5], [9, 17, 40], [3, 3, 80, 2, 61]), strict=True):
        row[: len(words) + 2] = torch.tensor([126, *words, END])
    return rows


def compare(folder, backbone, length: int = 77) -> None:
    """Pooled image and text equal open_clip's own model."""
    reference = reference_model(folder)
    images = random_images(2, 3, 32, 32)
    assert relative_error(backbone.encode_image(images), reference.encode_image(images)) < 1e-5
    want = reference.encode_text(token_rows(length))
    assert relative_error(backbone.encode_tokens(token_rows(length)), want) < 1e-5


MUST = {
    "no ln_pre": ({"no_ln_pre": True}, {}, {}),
    "average, norm after": ({"pool_type": "avg", "final_ln_after_pool": True}, {}, {}),
    "quick gelu": ({}, {}, {"quick_gelu": True}),
    "mlp ratio": ({"mlp_ratio": 2.5}, {"mlp_ratio": 3.0}, {}),
    "norm eps": ({"norm_kwargs": {"eps": 0.1}}, {"norm_kwargs": {"eps": 0.2}}, {}),
    "tanh gelu": (
        {"act_kwargs": {"approximate": "tanh"}},
        {"act_kwargs": {"approximate": "tanh"}},
        {},
    ),
    "patch 16": ({"patch_size": 16}, {}, {}),
    "patch dropout": ({"patch_dropout": 0.5}, {}, {}),
    "short context": ({}, {"context_length": 16}, {}),
    "own text tower": ({}, {}, {"custom_text": True}),
}
# Rarer forms: either open_clip's answer or a refusal, never another answer.
MAY = {
    "layer scale": ({"ls_init_value": 0.1}, {"ls_init_value": 0.1}, {}),
    "sines": ({"pos_embed_type": "sin_cos_2d"}, {}, {}),
    "oblong": ({"image_size": [32, 32], "patch_size": [8, 16]}, {}, {}),
    "coca pooling": ({"attentional_pool": True, "attn_pooler_heads": 2}, {}, {}),
    "no pooling": ({"pool_type": "none"}, {}, {}),
    "normed queries": ({"qk_norm": True}, {"qk_norm": True}, {}),
    "normed text queries": ({}, {"qk_norm": True}, {}),
    "scaled cosine": ({"scaled_cosine_attn": True}, {}, {}),
    "head scales": ({"scale_heads": True}, {}, {}),
    "scaled attention": ({"scale_attn": True}, {}, {}),
    "scaled mlp": ({"scale_fc": True}, {}, {}),
    "custom block": ({"block_type": "custom"}, {}, {}),
    "sees all, last": ({}, {"no_causal_mask": True, "pool_type": "last"}, {"custom_text": True}),
    "sees all, first": ({}, {"no_causal_mask": True, "pool_type": "first"}, {"custom_text": True}),
    "sees all, argmax": ({}, {"no_causal_mask": True}, {}),
    "causal, last": ({}, {"pool_type": "last"}, {}),
    "end id": ({}, {"pool_type": "eos", "eos_id": END}, {}),
    "end id is not the highest": ({}, {"pool_type": "eos", "eos_id": 40}, {}),
    "text bias": ({}, {"proj_bias": True}, {"custom_text": True}),
    "no text projection": (
        {},
        {"proj_type": "none", "width": 24, "heads": 2},
        {"custom_text": True},
    ),
    "text class token": ({}, {"embed_cls": True, "pad_id": 0}, {"custom_text": True}),
    "bias of logits": ({}, {}, {"init_logit_bias": -10}),
}


@pytest.mark.parametrize("name", MUST)
def test_served_forms_equal_open_clip(tmp_path, name):
    vision, text, top = MUST[name]
    write_clip(tmp_path, model_config(vision, text, **top))
    compare(tmp_path, load_backbone(f"local-dir:{tmp_path}"), text.get("context_length", 77))


@pytest.mark.parametrize("name", MAY)
def test_rare_forms_are_right_or_refused(tmp_path, name):
    vision, text, top = MAY[name]
    write_clip(tmp_path, model_config(vision, text, **top))
    try:
        backbone = load_backbone(f"local-dir:{tmp_path}")
    except TTDError as error:
        assert "\n" not in str(error) and "not supported" in str(error)
        return
    reference = reference_model(tmp_path)
    images, rows = random_images(2, 3, 32, 32), token_rows(77)
    assert relative_error(backbone.encode_image(images), reference.encode_image(images)) < 1e-5
    for tokens in (rows, rows[:1]):  # alone and with longer prompts
        want = torch.nn.functional.normalize(reference.encode_text(tokens), dim=-1)
        got = torch.nn.functional.normalize(backbone.encode_tokens(tokens), dim=-1)
        assert (got - want).abs().max() < 2e-6


# --- refused by name
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vision", "word"),
    [
        ({"layers": [1, 1, 1, 1], "width": 16, "image_size": 64, "patch_size": None}, "resnet"),
        (
            {
                "timm_model_name": "convnext_atto",
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": 64,
            },
            "convnext",
        ),
        (
            {
                "timm_model_name": "eva02_tiny_patch14_224",
                "timm_pool": "token",
                "timm_proj": "linear",
                "image_size": 224,
            },
            "eva",
        ),
        (
            {
                "timm_model_name": "swin_tiny_patch4_window7_224",
                "timm_pool": "avg",
                "timm_proj": "linear",
                "image_size": 224,
            },
            "swin",
        ),
        (
            {
                "timm_model_name": "vit_tiny_patch16_224",
                "timm_pool": "avg",
                "timm_proj": "linear",
                "image_size": 224,
            },
            "visiontransformer",
        ),
    ],
)
def test_other_towers_are_refused_by_name(tmp_path, vision, word):
    write_clip(tmp_path, model_config(vision))
    with pytest.raises(TTDError) as error:
        load_backbone(f"local-dir:{tmp_path}")
    assert word in str(error.value).lower() and "\n" not in str(error.value)


# --- folders and names that do not work
# ---------------------------------------------------------------------------


def test_a_folder_without_weights_is_never_random(tmp_path):
    write_config(tmp_path, model_config())
    with pytest.raises(TTDError, match="open_clip_model.safetensors"):
        load_backbone(f"local-dir:{tmp_path}")


def test_a_folder_without_config(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TTDError, match="open_clip_config.json"):
            load_backbone(f"local-dir:{path}")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"model_cfg": {"embed_dim": 3}}', '{"model_cfg": null}']
)
def test_a_broken_config_is_one_line(tmp_path, content):
    write_clip(tmp_path, model_config())
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(TTDError, match="open_clip_config.json"):
        load_backbone(f"local-dir:{tmp_path}")


def test_a_config_of_another_size_than_the_weights(tmp_path):
    write_clip(tmp_path, model_config())
    write_config(tmp_path, model_config({"width": 96}))
    with pytest.raises(TTDError, match="open_clip_model.safetensors"):
        load_backbone(f"local-dir:{tmp_path}")


def test_the_grid_of_the_file_is_not_bent_in_silence(tmp_path):
    """A config whose image size does not fit the stored position table: open_clip's load would resize the table."""
    weights = write_clip(tmp_path, model_config())
    write_config(tmp_path, model_config({"image_size": 48}))
    try:
        backbone = load_backbone(f"local-dir:{tmp_path}")
    except TTDError:
        return
    table = [
        p
        for name, p in backbone.named_parameters()
        if name.startswith("visual") and "positional" in name
    ][0]
    want = (
        torch.nn.functional.interpolate(
            weights["visual.positional_embedding"][1:].T.reshape(1, -1, 4, 4),
            size=(6, 6),
            mode="bicubic",
        )[0]
        .flatten(1)
        .T
    )
    assert table.shape[0] in (17, 37)
    if (
        table.shape[0] == 37
    ):  # then by the stated rule: bicubic, no antialias; enlarging knows no antialias
        assert (table[1:] - want).abs().max() < 1e-5


def test_missing_and_surplus_tensors_are_errors(tmp_path):
    from safetensors.torch import save_file

    weights = write_clip(tmp_path, model_config())
    path = tmp_path / "open_clip_model.safetensors"
    gone = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    save_file({name: value for name, value in weights.items() if name != gone}, path)
    with pytest.raises(TTDError, match=gone):
        load_backbone(f"local-dir:{tmp_path}")
    save_file({**weights, "visual.surplus": torch.zeros(2)}, path)
    with pytest.raises(TTDError, match=r"visual\.surplus"):
        load_backbone(f"local-dir:{tmp_path}")


def test_a_file_cut_short_is_one_line(tmp_path):
    write_clip(tmp_path, model_config())
    path = tmp_path / "open_clip_model.safetensors"
    for size in (0, 5, path.stat().st_size // 2):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(TTDError, match="open_clip_model.safetensors") as error:
            load_backbone(f"local-dir:{tmp_path}")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("arch", ["CLIPP", "", "ViT-B-77:openai", "clip "])
def test_unknown_names_list_the_choices(arch):
    with pytest.raises(TTDError) as error:
        load_backbone(arch)
    assert all(
        word in str(error.value) for word in ("CLIP", "TCL", "tiny", "hf-hub:", "local-dir:")
    )


def test_a_known_model_with_an_unknown_tag_lists_the_tags():
    with pytest.raises(TTDError, match="laion2b"):
        load_backbone("ViT-B-32:no_such_tag")
    with pytest.raises(TTDError, match="laion2b"):
        load_backbone("ViT-B-32")


def test_a_known_model_with_a_missing_file(tmp_path):
    with pytest.raises(TTDError, match="nothing.pt"):
        load_backbone(f"ViT-B-32:{tmp_path / 'nothing.pt'}")
    with pytest.raises(TTDError, match="nothing.pt"):
        load_backbone("CLIP", weights=tmp_path / "nothing.pt")


def test_unknown_devices_and_types(tmp_path):
    write_clip(tmp_path, model_config())
    for arguments in ({"device": "toaster"}, {"dtype": "float31"}, {"device": "cuda:99"}):
        with pytest.raises(TTDError):
            load_backbone(f"local-dir:{tmp_path}", **arguments)


# --- map pooling (SigLIP)
# -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    """A small SigLIP: timm ViT without class token, map pooling; text tower that sees all and reads the last token."""
    from timm.models import register_model
    from timm.models.vision_transformer import VisionTransformer

    @register_model
    def vit_ttd_test_siglip(
        pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **kw
    ):
        return VisionTransformer(
            img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, class_token=False, **kw
        )

    folder = tmp_path_factory.mktemp("siglip")
    vision = {
        "image_size": 32,
        "timm_model_name": "vit_ttd_test_siglip",
        "timm_pool": "map",
        "timm_proj": "none",
    }
    text = {
        "context_length": 16,
        "vocab_size": 128,
        "width": 48,
        "heads": 2,
        "layers": 1,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "hf_tokenizer_name": "nobody/needs-a-download",
    }
    config = {
        "embed_dim": 48,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": vision,
        "text_cfg": text,
    }
    write_clip(folder, config)
    return folder


def pooled_one_by_one(trunk: torch.nn.Module, images: torch.Tensor, identity: bool) -> torch.Tensor:
    """Dense features by timm's own modules: the last attention optionally replaced by its values, every token pooled
    as if it were the only one: [B, D, h, w]."""
    x = trunk.patch_embed.proj(images)
    h, w = x.shape[2:]
    side = int(trunk.pos_embed.shape[1] ** 0.5)
    grid = trunk.pos_embed.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False)
    x = (x + grid).flatten(2).transpose(1, 2)
    for block in trunk.blocks[:-1]:
        x = block(x)
    last = trunk.blocks[-1]
    if identity:
        width = x.shape[-1]
        values = (
            last.norm1(x) @ last.attn.qkv.weight[2 * width :].T + last.attn.qkv.bias[2 * width :]
        )
        x = x + values @ last.attn.proj.weight.T + last.attn.proj.bias
        x = x + last.mlp(last.norm2(x))
    else:
        x = last(x)
    x = trunk.norm(x)
    pooled = trunk.attn_pool(
        x.reshape(-1, 1, x.shape[-1])
    )  # one token each: its weight is 1, the value path is left
    return pooled.reshape(len(images), h, w, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("head", ["vanilla", "maskclip"])
@pytest.mark.parametrize("size", [(32, 32), (24, 56), (29, 50)])
def test_map_pooling_takes_the_value_path(siglip, head, size):
    from oracle_tcl import pad

    backbone = load_backbone(f"local-dir:{siglip}", head=head)
    images = random_images(2, 3, *size)
    trunk = reference_model(siglip).visual.trunk
    want = pooled_one_by_one(trunk, pad(images, 8)[0], head == "maskclip")
    assert relative_error(backbone.encode_pixels(images), want) < 1e-5


def test_map_pooled_image_and_text_equal_open_clip(siglip):
    compare(siglip, load_backbone(f"local-dir:{siglip}"), length=16)


@pytest.mark.parametrize("head", ["maskclip-value", "sclip", "naclip", "kk", "clearclip"])
def test_map_pooling_has_two_heads(siglip, head):
    with pytest.raises(TTDError, match="vanilla"):
        load_backbone(f"local-dir:{siglip}", head=head)


def test_a_tokenizer_that_needs_a_download_says_so(siglip):
    """Loading and token ids work without it; strings say in one line what is missing."""
    with pytest.raises(TTDError) as error:
        load_backbone(f"local-dir:{siglip}").encode_text(["dog"])
    assert "tokenizer" in str(error.value) and "\n" not in str(error.value)


# --- the usual sizes
# ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "patch"), [("ViT-B-16", 224, 16), ("ViT-L-14", 224, 14)])
def test_usual_models(tmp_path, name, size, patch):
    """Random weights under the model's own config: every head runs, the pooled outputs equal open_clip's."""
    import open_clip

    config = open_clip.get_model_config(name)
    write_clip(tmp_path, config)
    reference, backbone = reference_model(tmp_path), load_backbone(f"local-dir:{tmp_path}")
    assert (backbone.image_size, backbone.patch) == (size, patch)
    images, strings = random_images(1, 3, size, size), ["a photo of a dog", "cat"]
    with torch.no_grad():
        assert relative_error(backbone.encode_image(images), reference.encode_image(images)) < 1e-4
        want = reference.encode_text(open_clip.get_tokenizer(name)(strings))
        assert relative_error(backbone.encode_text(strings), want) < 1e-4
        for head in HEADS:
            backbone.head = head
            maps = backbone.similarity(backbone.encode_pixels(images), want)
            assert maps.shape == (1, 2, size // patch, size // patch) and torch.isfinite(maps).all()


@pytest.mark.slow
def test_siglip_b_16(tmp_path):
    import open_clip

    config = open_clip.get_model_config("ViT-B-16-SigLIP")
    write_clip(tmp_path, config)
    reference = reference_model(tmp_path)
    images, rows = random_images(1, 3, 224, 224), torch.randint(2, 32000, (2, 64))
    with torch.no_grad():
        for head in ("vanilla", "maskclip"):
            backbone = load_backbone(f"local-dir:{tmp_path}", head=head)
            want = pooled_one_by_one(reference.visual.trunk, images, head == "maskclip")
            assert relative_error(backbone.encode_pixels(images), want) < 1e-4
        assert relative_error(backbone.encode_image(images), reference.encode_image(images)) < 1e-4
        assert relative_error(backbone.encode_tokens(rows), reference.encode_text(rows)) < 1e-4


def test_checksum_of_the_shipped_model_is_stable():
    """`tiny` loads without a download and keeps its own constants."""

    folder = ROOT / "weights" / "tiny"
    if not (folder / "open_clip_model.safetensors").exists():
        pytest.skip("weights/tiny is not there yet")
    backbone = load_backbone("tiny")
    config = json.loads((folder / "open_clip_config.json").read_text())
    assert backbone.checksum == load_backbone(f"local-dir:{folder}").checksum
    assert backbone.image_size == config["model_cfg"]["vision_cfg"]["image_size"]
    grey = torch.full((1, 3, 1, 1), 0.5)
    constants = config["preprocess_cfg"]
    want = [(0.5 - m) / s for m, s in zip(constants["mean"], constants["std"], strict=True)]
    assert torch.allclose(backbone.normalize(grey).flatten(), torch.tensor(want), atol=1e-5)
