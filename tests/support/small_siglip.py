"""Writes a small random SigLIP as a `local-dir` folder.

A timm tower with map pooling, and a text tower that sees all tokens and reads the last one.
"""

from pathlib import Path

from small_clip import write_clip

CONTEXT = 16
# timm's names of the tower, without and with layer scales
NAMES = ("vit_ttd_small_siglip", "vit_ttd_small_siglip_scaled")
VISION = {"image_size": 32, "timm_pool": "map", "timm_proj": "none"}
TEXT = {
    "context_length": CONTEXT,
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


def write_siglip(folder: Path, layer_scale: bool = False) -> Path:
    """32 px, patch 8, D = 48; no tokenizer: feed token ids below 128, `CONTEXT` of them."""
    _register()
    vision = {**VISION, "timm_model_name": NAMES[layer_scale]}
    config = {"embed_dim": 48, "init_logit_bias": -10, "custom_text": True}
    write_clip(folder, {**config, "vision_cfg": vision, "text_cfg": TEXT})
    return folder


def _register() -> None:
    """Make timm know the towers by their names."""
    from timm.models import is_model, register_model
    from timm.models.vision_transformer import VisionTransformer

    def vit_ttd_small_siglip(
        pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **kw
    ):
        return VisionTransformer(
            img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, class_token=False, **kw
        )

    def vit_ttd_small_siglip_scaled(**kw):
        return vit_ttd_small_siglip(init_values=0.1, **kw)

    if not is_model(NAMES[0]):
        register_model(vit_ttd_small_siglip)
        register_model(vit_ttd_small_siglip_scaled)
