"""Writes a small random Perception Encoder (PE-Core) as a `local-dir` folder.

timm's `Eva` with map pooling, learned and rotary positions; CLIP's text tower of 32 tokens.
"""

from pathlib import Path

from small_clip import write_clip

CONTEXT = 32
NAMES = ("vit_ttd_small_pe", "vit_ttd_small_pe_scaled", "vit_ttd_small_pe_bare")
VISION = {"image_size": 32, "timm_pool": "map", "timm_proj": None}
TEXT = {"context_length": CONTEXT, "vocab_size": 128, "width": 24, "heads": 2, "layers": 1}


def write_perception(folder: Path, name: str = NAMES[0], words: int = 128) -> Path:
    """32 px, patch 8, width 48, 4 heads in blocks and 2 in the pool, D = 24.

    name: with class token, the same with layer scales, or neither (PE-Core-bigG's form); words:
    token ids are below this; CLIP's tokenizer has 49,408.
    """
    _register()
    text = {**TEXT, "vocab_size": words}
    config = {"embed_dim": 24, "custom_text": True, "text_cfg": text}
    write_clip(folder, {**config, "vision_cfg": {**VISION, "timm_model_name": name}})
    return folder


def _register() -> None:
    """Make timm know the towers by their names."""
    from timm.models import is_model, register_model
    from timm.models.eva import Eva

    def build(kw, **own):
        for key in ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
            kw.pop(key, None)
        return Eva(
            img_size=32,
            patch_size=8,
            embed_dim=48,
            depth=2,
            num_heads=4,
            attn_type="rope",
            use_pre_transformer_norm=True,
            use_rot_pos_emb=True,
            ref_feat_shape=(4, 4),
            rope_grid_indexing="xy",
            attn_pool_num_heads=2,
            attn_pool_mlp_ratio=4.0,
            **{**own, **kw},
        )

    def vit_ttd_small_pe(**kw):
        return build(kw, rope_grid_offset=1.0)

    def vit_ttd_small_pe_scaled(**kw):
        return build(kw, rope_grid_offset=1.0, init_values=0.1)

    def vit_ttd_small_pe_bare(**kw):
        return build(kw, class_token=False)

    if not is_model(NAMES[0]):
        for model in (vit_ttd_small_pe, vit_ttd_small_pe_scaled, vit_ttd_small_pe_bare):
            register_model(model)
