"""dino.txt from its own files, against a literal forward pass in numpy float64."""

import math

import numpy as np
import open_clip
import pytest
import torch
from oracle_dino import attend, linear, patches, vision_block
from oracle_vit import gelu, layer_norm
from small_clip import random_images, relative_error
from small_dinotxt import ADDED, DEPTH, GRID, REGISTERS, V2, V3, WIDTH, write_dinotxt

from core.backbones import load_backbone
from core.backbones.lora.targets import lora_targets
from core.errors import TTDError

PREFIX = 1 + REGISTERS


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """{version: (folder, tower, head and text weights in float64)}."""
    made = {}
    for version in (2, 3):
        folder = tmp_path_factory.mktemp(f"v{version}")
        states = write_dinotxt(folder, version)
        made[version] = folder, *[{k: v.double().numpy() for k, v in s.items()} for s in states]
    return made


def turner(p: dict, h: int, w: int):
    """DINOv3's rotation of a query or key at a token: y before x, first half with second."""
    periods = p["rope_embed.periods"]

    def turn(x: np.ndarray, token: int) -> np.ndarray:
        if token < PREFIX:
            return x
        row, column = divmod(token - PREFIX, w)
        places = [2 * (row + 0.5) / h - 1, 2 * (column + 0.5) / w - 1]
        angles = np.concatenate([2 * math.pi * place / periods for place in places])
        count = len(angles)
        out = np.zeros_like(x)
        for k, angle in enumerate(angles):
            a, b = x[k], x[k + count]
            out[k] = a * math.cos(angle) - b * math.sin(angle)
            out[k + count] = a * math.sin(angle) + b * math.cos(angle)
        return out

    return turn


def cubic_antialiased(size: int, new: int) -> np.ndarray:
    """[new, size]: enlarging, antialiasing changes the kernel to a = -0.5, and edges are cut."""

    def kernel(t: float, a: float = -0.5) -> float:
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    scale = size / new
    wide = max(scale, 1.0)
    rows = np.zeros((new, size))
    for i in range(new):
        centre = (i + 0.5) * scale
        for j in range(size):
            rows[i, j] = kernel((j + 0.5 - centre) / wide)
        rows[i] /= rows[i].sum()
    return rows


def literal_tokens(version: int, p: dict, head: dict, image: np.ndarray):
    """All tokens behind the added blocks' norm: class token, registers, patches."""
    x, h, w = patches(p, image)
    first = p["cls_token"][0]
    if version == 2:
        table = p["pos_embed"][0, 1:].reshape(GRID, GRID, -1)
        if (h, w) != (GRID, GRID):
            down, across = cubic_antialiased(GRID, h), cubic_antialiased(GRID, w)
            table = np.einsum("ia,jb,abd->ijd", down, across, table)
        first = first + p["pos_embed"][0, :1]
        x = x + table.reshape(h * w, -1)
    registers = p["register_tokens" if version == 2 else "storage_tokens"][0]
    x = np.concatenate([first, registers, x])
    how = {"eps": 1e-6} if version == 2 else {"eps": 1e-5, "turn": turner(p, h, w)}
    for i in range(DEPTH):
        x = vision_block(p, f"blocks.{i}", x, 2, **how)
    x = layer_norm(x, p["norm.weight"], p["norm.bias"], how["eps"])
    for i in range(ADDED):
        x = vision_block(head, f"block_list.{i}", x, 2, eps=1e-5)
    return layer_norm(x, head["ln_final.weight"], head["ln_final.bias"]), h, w


@pytest.mark.parametrize(
    ("version", "size"),
    [(2, (42, 42)), (2, (28, 70)), (2, (84, 42)), (3, (48, 48)), (3, (32, 80)), (3, (80, 16))],
)
def test_dense_features_and_images(releases, version, size):
    folder, p, head, _ = releases[version]
    image = random_images(1, 3, *size)
    tokens, h, w = literal_tokens(version, p, head, image[0].numpy())
    backbone = load_backbone(f"dinotxt:{folder}")
    assert (backbone.head, backbone.patch) == ("vanilla", {2: 14, 3: 16}[version])
    want = torch.from_numpy(tokens[PREFIX:].T.reshape(WIDTH, h, w))
    assert relative_error(backbone.encode_pixels(image)[0], want) < 1e-5
    mean = torch.from_numpy(tokens[PREFIX:].mean(0))
    assert relative_error(backbone.encode_image(image)[0], mean) < 1e-5
    both = backbone.encode_both(image)
    assert relative_error(both[0][0], want) < 1e-5 and relative_error(both[1][0], mean) < 1e-5


def literal_text(p: dict, ids: list[int]) -> np.ndarray:
    """The vector of both halves [2D] of one text that ends with its end token."""
    x = p["backbone.token_embedding.weight"][ids] + p["backbone.positional_embedding"][: len(ids)]
    name = "backbone.blocks.0"
    normed = layer_norm(x, p[f"{name}.attention_norm.weight"], p[f"{name}.attention_norm.bias"])
    q, k, v = np.split(linear(p, f"{name}.attention.qkv", normed), 3, axis=1)
    x = x + linear(p, f"{name}.attention.proj", attend(q, k, v, 1, causal=True))
    normed = layer_norm(x, p[f"{name}.ffn_norm.weight"], p[f"{name}.ffn_norm.bias"])
    hidden = gelu(linear(p, f"{name}.feed_forward.fc1", normed))
    x = x + linear(p, f"{name}.feed_forward.fc2", hidden)
    final = layer_norm(x, p["backbone.ln_final.weight"], p["backbone.ln_final.bias"])
    return final[-1] @ p["head.linear_projection.weight"].T


@pytest.mark.parametrize("version", [2, 3])
def test_a_text_is_the_half_that_belongs_to_patches(releases, version):
    folder, _, _, p = releases[version]
    texts = ["a photo of a dog.", "cat"]
    rows = open_clip.get_tokenizer("ViT-B-16")(texts)
    ids = [[i for i in row if i] for row in rows.tolist()]
    want = torch.from_numpy(np.stack([literal_text(p, row)[WIDTH:] for row in ids]))
    backbone = load_backbone(f"dinotxt:{folder}")
    assert relative_error(backbone.encode_text(texts), want) < 1e-5


def test_input(releases):
    """ImageNet's mean and std."""
    images = torch.full((1, 3, 16, 16), 0.5)
    got = load_backbone(f"dinotxt:{releases[3][0]}").normalize(images)[0, :, 0, 0]
    want = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    assert torch.allclose(got, torch.tensor(want), atol=1e-6)


def test_lora_and_the_only_head(releases):
    backbone = load_backbone(f"dinotxt:{releases[3][0]}")
    targets = lora_targets(backbone)
    last = DEPTH + ADDED - 1
    assert {f"visual.blocks.{last}.mlp.w2", f"visual.blocks.{last}.attn.q_proj"} <= set(targets)
    assert {"visual.blocks.0.attn.k_proj", "text.blocks.0.mlp.fc1"} <= set(targets)
    with pytest.raises(TTDError, match="vanilla"):
        load_backbone(f"dinotxt:{releases[3][0]}", head="maskclip")


def test_half_types_and_batches(releases):
    images = random_images(2, 3, 32, 48)
    backbone = load_backbone(f"dinotxt:{releases[3][0]}")
    whole = backbone.encode_pixels(images)
    alone = torch.cat([backbone.encode_pixels(image[None]) for image in images])
    assert relative_error(whole, alone) < 1e-5
    half = load_backbone(f"dinotxt:{releases[3][0]}", dtype="bfloat16").encode_pixels(images)
    assert half.dtype == torch.bfloat16 and relative_error(half.float(), whole) < 0.2


# --- files


def refused(arch: str, words: str, **options) -> None:
    with pytest.raises(TTDError, match=words) as error:
        load_backbone(arch, **options)
    assert "\n" not in str(error.value)


def test_missing_files(tmp_path):
    refused(f"dinotxt:{tmp_path / 'none'}", "no such folder")
    refused(f"dinotxt:{tmp_path}", "found none")
    write_dinotxt(tmp_path, 2)
    (tmp_path / V2["text"]).rename(tmp_path / "text.pth")
    refused(f"dinotxt:{tmp_path}", "text_encoder")
    (tmp_path / "text.pth").rename(tmp_path / V2["text"])
    (tmp_path / V2["tower"]).rename(tmp_path / "tower.pth")
    refused(f"dinotxt:{tmp_path}", "--weights")
    assert load_backbone(f"dinotxt:{tmp_path}", weights=tmp_path / "tower.pth").patch == 14


def test_both_releases_in_one_folder(tmp_path):
    write_dinotxt(tmp_path, 2)
    write_dinotxt(tmp_path, 3)
    refused(f"dinotxt:{tmp_path}", "found both")


def test_the_tower_of_the_other_release(tmp_path):
    write_dinotxt(tmp_path / "2", 2)
    write_dinotxt(tmp_path / "3", 3)
    refused(
        f"dinotxt:{tmp_path / '3'}",
        "no tensor storage_tokens",
        weights=tmp_path / "2" / V2["tower"],
    )


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("tower", lambda s: s.pop("norm.bias"), "no tensor norm.bias"),
        ("tower", lambda s: s.pop("rope_embed.periods"), "no tensor rope_embed.periods"),
        ("tower", lambda s: s.update(cls_norm=torch.ones(3)), "unknown tensors .cls_norm"),
        ("tower", lambda s: s.update(cls_token=torch.ones(1, 1, 7)), "is"),
        ("both", lambda s: s.pop("text_model.backbone.ln_final.bias"), "ln_final.bias"),
        ("both", lambda s: s.pop("visual_model.head.block_list.0.norm1.bias"), "norm1.bias"),
        (
            "both",
            lambda s: s.update({"text_model.head.linear_projection.weight": torch.ones(128, 64)}),
            "linear_projection",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, name, change, words):
    write_dinotxt(tmp_path, 3)
    state = torch.load(tmp_path / V3[name])
    change(state)
    torch.save(state, tmp_path / V3[name])
    refused(f"dinotxt:{tmp_path}", words)


class Evil:
    """Unpickled in earnest, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_a_file_runs(tmp_path):
    write_dinotxt(tmp_path, 3)
    ran = tmp_path / "ran"
    torch.save({"cls_token": Evil(ran)}, tmp_path / V3["tower"])
    refused(f"dinotxt:{tmp_path}", "dinov3_vitl16_pretrain")
    assert not ran.exists()
