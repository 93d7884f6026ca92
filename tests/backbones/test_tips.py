"""TIPSv2 from its own files, against a literal forward pass in numpy float64."""

import math
import zipfile

import numpy as np
import pytest
import torch
from oracle_dino import attend, linear, patches, relu, vision_block
from oracle_vit import layer_norm
from small_clip import random_images, relative_error
from small_tips import CHARSMAP, DEPTH, PIECES, SMALL, WIDTH, Sizes, sentencepiece_model, write_tips

from core.backbones import load_backbone
from core.backbones.lora.adapter import adapter_parameters, add_adapter
from core.backbones.lora.merge import read_source
from core.backbones.lora.targets import lora_targets
from core.errors import TTDError
from core.text.encode import encode_texts

HEADS = 2


@pytest.fixture(scope="module")
def tips(tmp_path_factory):
    """(folder, vision weights, text weights) of a small TIPSv2, float64."""
    return _written(tmp_path_factory.mktemp("tips"))


def _written(folder, sizes=SMALL):
    states = write_tips(folder, sizes)
    return folder, *[{k: v.double().numpy() for k, v in state.items()} for state in states]


def triangle_matrix(size: int, new: int) -> np.ndarray:
    """[new, size] antialiased bilinear weights: triangles as wide as the larger step."""
    scale = size / new
    wide = max(scale, 1.0)
    rows = np.zeros((new, size))
    for i in range(new):
        centre = (i + 0.5) * scale
        for j in range(size):
            rows[i, j] = max(0.0, 1 - abs(j + 0.5 - centre) / wide)
        rows[i] /= rows[i].sum()
    return rows


def literal_tokens(
    p: dict, image: np.ndarray, own_value: bool, heads: int = HEADS
) -> tuple[np.ndarray, int, int]:
    """All tokens after the final norm: two class tokens, then patches."""
    x, h, w = patches(p, image)
    grid = math.isqrt(p["pos_embed"].shape[1] - 1)
    table = p["pos_embed"][0, 1:].reshape(grid, grid, -1)
    if (h, w) != (grid, grid):
        down, across = triangle_matrix(grid, h), triangle_matrix(grid, w)
        table = np.einsum("ia,jb,abd->ijd", down, across, table)
    first = p["cls_token"][0, 0] + p["pos_embed"][0, 0]
    second = p["register_tokens"][0, 0]
    x = np.concatenate([[first, second], x + table.reshape(h * w, -1)])
    depth = sum(name.endswith("ls1.gamma") for name in p)
    for i in range(depth):
        last = own_value and i == depth - 1
        x = vision_block(p, f"blocks.{i}", x, heads, own_value=last)
    return layer_norm(x, p["norm.weight"], p["norm.bias"], 1e-6), h, w


@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("size", [(56, 56), (28, 84), (70, 42)])
def test_dense_features_and_the_class_token(tmp_path, size, swiglu):
    folder, p, _ = _written(tmp_path, Sizes(swiglu=swiglu))
    image = random_images(1, 3, *size)
    backbone = load_backbone(f"tips:{folder}")
    assert (backbone.head, backbone.image_size, backbone.patch) == ("maskclip", 56, 14)
    for head in ("maskclip", "vanilla"):
        backbone.head = head
        tokens, h, w = literal_tokens(p, image[0].numpy(), head == "maskclip")
        want = torch.from_numpy(tokens[2:].T.reshape(WIDTH, h, w))
        assert relative_error(backbone.encode_pixels(image)[0], want) < 1e-5
    tokens, _, _ = literal_tokens(p, image[0].numpy(), False)
    assert relative_error(backbone.encode_image(image)[0], torch.from_numpy(tokens[0])) < 1e-5


def test_pixels_stay_as_they_are(tips):
    images = torch.rand(1, 3, 20, 30)
    assert torch.equal(load_backbone(f"tips:{tips[0]}").normalize(images), images)


def literal_text(p: dict, ids: list[int]) -> np.ndarray:
    """The embedding of one text, without padding."""
    places = np.arange(WIDTH // 2) / (WIDTH // 2 - 1)
    x = p["token_embedding.weight"][ids] * math.sqrt(WIDTH)
    angles = np.arange(len(ids))[:, None] / 10_000**places
    x = x + np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    for i in range(DEPTH):
        name = f"transformer.resblocks.{i}"
        normed = layer_norm(x, p[f"{name}.ln_1.weight"], p[f"{name}.ln_1.bias"])
        packed = normed @ p[f"{name}.attn.in_proj_weight"].T + p[f"{name}.attn.in_proj_bias"]
        mixed = attend(*np.split(packed, 3, axis=1), HEADS)
        x = x + linear(p, f"{name}.attn.out_proj", mixed)
        normed = layer_norm(x, p[f"{name}.ln_2.weight"], p[f"{name}.ln_2.bias"])
        x = x + linear(p, f"{name}.mlp.c_proj", relu(linear(p, f"{name}.mlp.c_fc", normed)))
    return layer_norm(x, p["ln_final.weight"], p["ln_final.bias"]).mean(0)


def test_texts_of_any_length_and_company(tips):
    folder, _, p = tips
    backbone = load_backbone(f"tips:{folder}")
    texts = ["a dog", "a cat dogs", "cat", "A " * 100]
    ids = [[3, 4], [3, 5, 4, 6], [5], [3] * 64]
    assert [[i for i in row if i] for row in backbone.tokenize(texts).tolist()] == ids
    want = torch.from_numpy(np.stack([literal_text(p, row) for row in ids]))
    assert relative_error(backbone.encode_text(texts), want) < 1e-5
    assert relative_error(encode_texts(backbone, texts), torch.nn.functional.normalize(want)) < 1e-5
    alone = torch.cat([backbone.encode_text([text]) for text in texts])
    assert relative_error(backbone.encode_text(texts), alone) < 1e-5


def test_a_text_without_a_token_is_zero_and_no_nan(tips):
    backbone = load_backbone(f"tips:{tips[0]}")
    assert not backbone.encode_text(["", "a dog"])[0].any()


def best_segmentation(text: str, scores: dict[str, float]) -> list[str]:
    """By brute force over all ways to cut."""
    if not text:
        return []
    ways = []
    for end in range(1, len(text) + 1):
        if text[:end] in scores:
            ways.append([text[:end], *best_segmentation(text[end:], scores)])
    return max(ways, key=lambda way: sum(scores[piece] for piece in way))


@pytest.mark.parametrize("text", ["dogs", "A  Dog ", "cat a dog", "acts", "tag dotes"])
def test_tokens_are_the_likeliest_pieces(tips, text):
    scores = {piece: -1.0 - 0.5 * place for place, piece in enumerate(PIECES)}
    clean = "▁" + "▁".join(text.lower().split())
    want = [PIECES.index(piece) + 3 for piece in best_segmentation(clean, scores)]
    (row,) = load_backbone(f"tips:{tips[0]}").tokenize([text]).tolist()
    assert [i for i in row if i] == want


def test_unknown_letters_and_names_of_control_pieces(tips):
    """Runs of unknown letters are one <unk> (2); "</s>" in a text is text."""
    rows = load_backbone(f"tips:{tips[0]}").tokenize(["a zzz", "</s>"]).tolist()
    assert rows[0][:3] == [3, 7, 2] and rows[0][3] == 0
    assert 1 not in rows[1]


def test_the_normalizers_table(tmp_path):
    """Its only entry makes a tab a space."""
    write_tips(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model(charsmap=CHARSMAP))
    rows = load_backbone(f"tips:{tmp_path}").tokenize(["a\tdog", "a dog"])
    assert torch.equal(rows[0], rows[1])


def test_lora_reaches_both_towers_and_learns(tips):
    backbone = load_backbone(f"tips:{tips[0]}")
    targets = lora_targets(backbone)
    assert {"visual.blocks.1.attn.v_proj", "visual.blocks.1.mlp.fc1", "text.blocks.0.mlp.c_fc"} <= (
        set(targets)
    )
    assert "visual.blocks.1.attn.q_proj" not in targets
    add_adapter(backbone, targets, rank=2, alpha=2)
    parameters = adapter_parameters(backbone)
    with torch.no_grad():
        for value in parameters.values():
            value.add_(0.01)
    pixels = backbone.encode_pixels(random_images(1, 3, 56, 56))
    backbone.similarity(pixels, backbone.encode_text(["a dog"])).sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in parameters.values())


def test_merging_says_what_to_do_instead(tips):
    with pytest.raises(TTDError, match="keep the adapter"):
        read_source(f"tips:{tips[0]}", None)


# --- files


def refused(arch: str, words: str, **options) -> None:
    with pytest.raises(TTDError, match=words) as error:
        load_backbone(arch, **options).encode_text(["a dog"])
    assert "\n" not in str(error.value)


def test_missing_files(tmp_path):
    refused(f"tips:{tmp_path / 'none'}", "found none")
    write_tips(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    refused(f"tips:{tmp_path}", "tokenizer.model is missing|SentencePiece model .* is missing")
    (tmp_path / "tips_v2_oss_b14_text.npz").rename(tmp_path / "text.npz")
    refused(f"tips:{tmp_path}", "text tower must be beside it")


def test_two_sizes_in_one_folder(tmp_path):
    write_tips(tmp_path)
    for kind in ("vision", "text"):
        path = tmp_path / f"tips_v2_oss_b14_{kind}.npz"
        (tmp_path / f"tips_v2_oss_l14_{kind}.npz").write_bytes(path.read_bytes())
    refused(f"tips:{tmp_path}", "--weights")
    named = tmp_path / "tips_v2_oss_l14_vision.npz"
    assert load_backbone(f"tips:{tmp_path}", weights=named).patch == 14


def changed(folder, kind, change):
    path = folder / f"tips_v2_oss_b14_{kind}.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    change(arrays)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("vision", lambda a: a.pop("norm.bias"), "no tensor norm.bias"),
        ("vision", lambda a: a.update(more=np.zeros(2)), "unknown tensors .more"),
        ("vision", lambda a: a.pop("blocks.0.norm1.bias"), "no tensor blocks.0.norm1.bias"),
        ("vision", lambda a: a.update(cls_token=np.zeros((1, 1, 100))), "register_tokens is"),
        ("vision", lambda a: a.update(pos_embed=a["pos_embed"][:, :-1]), "square grid"),
        ("vision", lambda a: a.update(pos_embed=a["pos_embed"] * np.nan), "not finite"),
        ("vision", lambda a: a.update({"norm.bias": np.array([{}])}), "never unpickled"),
        ("text", lambda a: a.pop("ln_final.weight"), "no tensor ln_final.weight"),
        ("text", lambda a: a.update({"norm.bias": np.zeros(3)}), "unknown tensors"),
    ],
)
def test_other_files_are_refused(tmp_path, kind, change, words):
    write_tips(tmp_path)
    changed(tmp_path, kind, change)
    refused(f"tips:{tmp_path}", words)


def test_damaged_and_hostile_archives(tmp_path):
    write_tips(tmp_path)
    path = tmp_path / "tips_v2_oss_b14_vision.npz"
    whole = path.read_bytes()
    for data in (b"", b"PK\x03\x04", whole[: len(whole) // 2], b"<html>", whole[:-200]):
        path.write_bytes(data)
        refused(f"tips:{tmp_path}", "npz|not a readable")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    for data, words in ((array, "more than its bytes"), (b"\x93NUMPY\x09\x00", "header")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("cls_token.npy", data)
        refused(f"tips:{tmp_path}", words)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cls_token.npy", bytes(5_000_000))
    refused(f"tips:{tmp_path}", "unpacks to")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no pieces of text"),
        (b"<html>", "SentencePiece model"),
        (sentencepiece_model()[:50], "SentencePiece model"),
        (sentencepiece_model(kind=2), "other than unigram"),
        (sentencepiece_model(extra=(("<0x41>", 0.0, 6),)), "byte fallback"),
        (sentencepiece_model(extra=(("own", 0.0, 4),)), "user-defined"),
        (sentencepiece_model(extra=(("own", float("nan"), 1),)), "not a SentencePiece"),
        (sentencepiece_model() + b"\x1a\x06\x12\x04\xff\xff\xff\xff", "damaged|not a Sent"),
    ],
)
def test_tokenizer_files(tmp_path, data, words):
    write_tips(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(data)
    refused(f"tips:{tmp_path}", words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "heads"),
    [
        (Sizes(768, 3072, 2, 32, 32_000), 12),
        (Sizes(1152, 4304, 1, 32, 32_000), 16),
        (Sizes(1536, 4096, 1, 32, 32_000, swiglu=True), 24),
    ],
)
def test_official_shapes(tmp_path, sizes, heads):
    """B, So400m and g, of fewer blocks: sizes and numbers of heads are read from the file."""
    folder, p, _ = _written(tmp_path, sizes)
    backbone = load_backbone(f"tips:{folder}")
    assert (backbone.image_size, backbone.patch) == (448, 14)
    image = random_images(1, 3, 42, 56)
    tokens, h, w = literal_tokens(p, image[0].numpy(), True, heads)
    want = torch.from_numpy(tokens[2:].T.reshape(-1, h, w))
    assert relative_error(backbone.encode_pixels(image)[0], want) < 1e-4
    assert backbone.text.blocks[0].attn.heads == heads
    assert backbone.encode_text(["a dog"]).shape == (1, sizes.width)
