"""Which towers are supported: they equal open_clip's own forward; others are refused by name."""

import pytest
import torch
import torch.nn.functional as F
from small_clip import (
    assert_equals_open_clip,
    model_config,
    random_images,
    reference_model,
    relative_error,
    token_rows,
    write_clip,
)

from core.backbones import load_backbone
from core.backbones.heads import HEADS
from core.errors import TTDError

END = 127  # highest id of the small vocabulary


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
# Rarer forms of the text tower, and what else a config may ask for.
RARE = {
    "layer scale": ({"ls_init_value": 0.1}, {"ls_init_value": 0.1}, {}),
    "sines": ({"pos_embed_type": "sin_cos_2d"}, {}, {}),
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
    "bias of logits": ({}, {}, {"init_logit_bias": -10}),
}
OTHER_BLOCKS = "CustomResidualAttentionBlock are not supported"
# Forms that are refused, and what the message says.
REFUSED = {
    "oblong": ({"image_size": [32, 32], "patch_size": [8, 16]}, {}, {}, "non-square patches"),
    "oblong grid": ({"image_size": [32, 64]}, {}, {}, "position tables are not supported"),
    "coca pooling": ({"attentional_pool": True, "attn_pooler_heads": 2}, {}, {}, "CoCa"),
    "no pooling": ({"pool_type": "none"}, {}, {}, "no pooling"),
    "normed queries": ({"qk_norm": True}, {"qk_norm": True}, {}, OTHER_BLOCKS),
    "normed text queries": ({}, {"qk_norm": True}, {}, OTHER_BLOCKS),
    "scaled cosine": ({"scaled_cosine_attn": True}, {}, {}, OTHER_BLOCKS),
    "head scales": ({"scale_heads": True}, {}, {}, OTHER_BLOCKS),
    "scaled attention": ({"scale_attn": True}, {}, {}, OTHER_BLOCKS),
    "scaled mlp": ({"scale_fc": True}, {}, {}, OTHER_BLOCKS),
    "custom block": ({"block_type": "custom"}, {}, {}, OTHER_BLOCKS),
    "text class token": (
        {},
        {"embed_cls": True, "pad_id": 0},
        {"custom_text": True},
        "text towers with an appended class token",
    ),
}


@pytest.mark.parametrize("name", MUST)
def test_supported_forms_equal_open_clip(tmp_path, name):
    vision, text, top = MUST[name]
    write_clip(tmp_path, model_config(vision, text, **top))
    length = text.get("context_length", 77)
    assert_equals_open_clip(tmp_path, load_backbone(f"local-dir:{tmp_path}"), length)


@pytest.mark.parametrize("name", RARE)
def test_rare_forms_equal_open_clip(tmp_path, name):
    vision, text, top = RARE[name]
    write_clip(tmp_path, model_config(vision, text, **top))
    backbone, reference = load_backbone(f"local-dir:{tmp_path}"), reference_model(tmp_path)
    images, rows = random_images(2, 3, 32, 32), token_rows()
    assert relative_error(backbone.encode_image(images), reference.encode_image(images)) < 1e-5
    for tokens in (rows, rows[:1]):  # alone and with longer prompts
        want = F.normalize(reference.encode_text(tokens), dim=-1)
        got = F.normalize(backbone.encode_tokens(tokens), dim=-1)
        assert (got - want).abs().max() < 2e-6


@pytest.mark.parametrize("name", REFUSED)
def test_other_forms_are_refused_by_name(tmp_path, name):
    vision, text, top, words = REFUSED[name]
    write_clip(tmp_path, model_config(vision, text, **top))
    with pytest.raises(TTDError, match=words) as error:
        load_backbone(f"local-dir:{tmp_path}")
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


# --- refused by name


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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "patch"), [("ViT-B-16", 224, 16), ("ViT-L-14", 224, 14)])
def test_usual_models(tmp_path, name, size, patch):
    """Random weights in the usual sizes: every head runs, pooled outputs equal open_clip's."""
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
