"""CLIP-VG written down once more, slowly: open_clip's own towers, sequence-first torch layers.

`ReferenceGrounder` has the published checkpoint's names for its trained part; `official_file`
writes a checkpoint as the published training script does, aliases and options included.
"""

import argparse
import math

import torch
from small_clip import random_tensor
from torch import nn

VISION = {"image_size": 32, "layers": 6, "width": 128, "patch_size": 8}
TEXT = {"context_length": 77, "vocab_size": 90, "width": 64, "heads": 1, "layers": 2}
EMBED, BLOCKS, HEADS = 64, (0, 1, 3, 5), 8


class ReferenceGrounder(nn.Module):
    """blocks: image blocks by index; the rest of the sizes are the constants above.

    placed: ours, off as published: positions on the tokens themselves too.
    """

    def __init__(self, vision=VISION, text=TEXT, embed=EMBED, blocks=BLOCKS, seed=0):
        from open_clip.model import CLIP

        super().__init__()
        self.clip = CLIP(embed, vision, text, quick_gelu=True).eval()
        self.blocks, self.patch = blocks, vision["patch_size"]
        self.placed = False
        patches = (vision["image_size"] // vision["patch_size"]) ** 2
        self.visu_proj = nn.Linear(512, embed)
        self.text_proj = nn.Linear(embed, embed)
        self.reg_token = nn.Embedding(1, embed)
        self.vl_pos_embed = nn.Embedding(1 + text["context_length"] + 1 + patches, embed)
        self.ml_visu_proj = nn.Linear(vision["width"] * len(blocks), embed)
        layers = []
        for _ in range(6):
            layers.append(
                nn.ModuleDict(
                    {
                        "self_attn": nn.MultiheadAttention(embed, HEADS),
                        "linear1": nn.Linear(embed, 96),
                        "linear2": nn.Linear(96, embed),
                        "norm1": nn.LayerNorm(embed),
                        "norm2": nn.LayerNorm(embed),
                    }
                )
            )
        inner = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.vl_transformer = nn.ModuleDict({"encoder": inner})
        head = [nn.Linear(embed, embed), nn.Linear(embed, embed), nn.Linear(embed, 4)]
        self.bbox_embed = nn.ModuleDict({"layers": nn.ModuleList(head)})
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in self.named_parameters():
                value.copy_(random_tensor(name, value.shape, generator))

    def forward(self, images, ignored, tokens):
        """images [B, 3, S, S], ignored bool [B, S, S], tokens [B, 77] -> cxcywh [B, 4]."""
        visual = self._visual(images)
        text = self._text(tokens)
        batch = len(images)
        rows = [self.reg_token.weight[None].repeat(batch, 1, 1), text, visual]
        x = torch.cat(rows, 1).transpose(0, 1)  # sequence first
        pos = self.vl_pos_embed.weight[:, None].repeat(1, batch, 1)
        if self.placed:
            x = x + pos
        seen = torch.zeros(batch, 1, dtype=torch.bool)
        mask = torch.cat([seen, tokens == 0, seen, self._patches(ignored)], 1)
        for layer in self.vl_transformer["encoder"]["layers"]:
            q = k = x + pos
            x = layer["norm1"](x + layer["self_attn"](q, k, x, key_padding_mask=mask)[0])
            y = layer["linear2"](layer["linear1"](x).clamp(min=0))
            x = layer["norm2"](x + y)
        first, second, third = self.bbox_embed["layers"]
        return third(second(first(x[0]).relu()).relu()).sigmoid()

    def _visual(self, images):
        kept = []
        hooks = []
        for index in self.blocks:
            block = self.clip.visual.transformer.resblocks[index]
            hooks.append(block.register_forward_hook(lambda _m, _i, out: kept.append(out)))
        self.clip.encode_image(images)
        for hook in hooks:
            hook.remove()
        return self.ml_visu_proj(torch.cat(kept, -1))

    def _text(self, tokens):
        x = self.clip.token_embedding(tokens) + self.clip.positional_embedding
        x = self.clip.transformer(x, attn_mask=self.clip.attn_mask)
        return self.text_proj(self.clip.ln_final(x) @ self.clip.text_projection)

    def _patches(self, ignored):
        """The rule by hand: the mean of the four central pixels, half rounds to even."""
        side = ignored.shape[-1] // self.patch
        out = torch.zeros(len(ignored), side * side, dtype=torch.bool)
        middle = self.patch // 2 - 1
        for image, mask in enumerate(ignored):
            for row in range(side):
                for column in range(side):
                    top, left = row * self.patch + middle, column * self.patch + middle
                    count = int(mask[top : top + 2, left : left + 2].sum())
                    out[image, row * side + column] = count >= 3
        return out


def official_state(model, half=False):
    """The published `model` dictionary: clip.*, two alias families, the trained part."""
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    for name in list(state):
        if half and name.startswith("clip.") and ".ln_" not in name and state[name].ndim > 1:
            state[name] = state[name].half()
        if name.startswith("clip.visual."):
            state[name.replace("clip.visual.", "image_encoder_clip_vg.")] = state[name]
        elif name.startswith("clip.") and name != "clip.logit_scale":
            state[name.replace("clip.", "text_encoder_clip_vg.")] = state[name]
    return state


def official_file(path, model, legacy=False, half=False):
    """A checkpoint of the published training script."""
    content = {
        "model": official_state(model, half),
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": []},
        "lr_scheduler": {"last_epoch": 3},
        "epoch": 3,
        "args": argparse.Namespace(vl_nheads=HEADS, vl_dropout=0.1, model="ViT-B/16"),
        "val_accu": torch.tensor(0.5),
    }
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def random_batch(count=3, seed=1):
    """Images [B, 3, 32, 32], padding bool [B, 32, 32], tokens [B, 77], targets cxcywh [B, 4]."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 32, 32, generator=generator)
    ignored = torch.ones(count, 32, 32, dtype=torch.bool)
    tokens = torch.zeros(count, 77, dtype=torch.long)
    for row in range(count):
        ignored[row, 3 + row : 27, row : 32 - row] = False
        length = 4 + row
        tokens[row, :length] = torch.randint(1, 88, (length,), generator=generator)
        tokens[row, length] = 89
    tokens[0, 2] = 0  # the byte token "!" has the id of the padding
    centre = 0.3 + 0.4 * torch.rand(count, 2, generator=generator)
    return images, ignored, tokens, torch.cat([centre, centre * math.pi / 5], 1)
