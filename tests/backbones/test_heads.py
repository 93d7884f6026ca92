"""The seven dense heads against loops over heads and tokens (oracle_vit), and open_clip itself."""

import math

import numpy as np
import oracle_vit
import pytest
import torch
from small_clip import model_config, random_images, reference_model, relative_error, write_clip

from core.backbones import load_backbone
from core.backbones.heads import HEADS as REGISTRY
from core.backbones.heads import gaussian_window
from core.errors import TTDError

HEADS = ("vanilla", "maskclip", "maskclip-value", "sclip", "naclip", "kk", "clearclip")
# name: (config, attention heads of the image tower, activation)
TOWERS = {
    "tok": (model_config(), 2, oracle_vit.gelu),
    "tok-quickgelu-4-heads": (
        model_config({"head_width": 16}, quick_gelu=True),
        4,
        oracle_vit.quick_gelu,
    ),
    "avg": (model_config({"pool_type": "avg"}), 2, oracle_vit.gelu),
    "avg-ln-after-pool-no-ln-pre": (
        model_config({"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}),
        2,
        oracle_vit.gelu,
    ),
}
# own size, another grid, no multiples of the patch, its own count
SIZES = ((32, 32), (24, 40), (29, 50), (16, 64))


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """{name: (folder, weights as the test wrote them)}."""
    root = tmp_path_factory.mktemp("towers")
    return {
        name: (root / name, write_clip(root / name, config, seed=seed))
        for seed, (name, (config, _, _)) in enumerate(TOWERS.items())
    }


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("tower", TOWERS)
def test_head_equals_loops_over_heads_and_tokens(towers, tower, head):
    folder, weights = towers[tower]
    _, heads, act = TOWERS[tower]
    backbone = load_backbone(f"local-dir:{folder}", head=head)
    assert backbone.head == head
    for height, width in SIZES if tower == "tok" else SIZES[2:3]:
        image = random_images(1, 3, height, width)
        want = oracle_vit.dense(weights, image[0], heads, head, act)
        assert want.shape == (24, -(-height // 8), -(-width // 8))
        assert relative_error(backbone.encode_pixels(image)[0], want) < 1e-5


def test_the_heads_of_the_oracle_differ(towers):
    """Guards the test above: it could not tell heads apart that are equal on these weights."""
    weights = towers["tok"][1]
    image = random_images(3, 24, 40)
    maps = [oracle_vit.dense(weights, image, 2, head) for head in HEADS]
    for i in range(len(maps)):
        for j in range(i):
            assert np.abs(maps[i] - maps[j]).max() > 0.01 * np.abs(maps[i]).max(), (
                HEADS[i],
                HEADS[j],
            )


def test_naclips_window_is_a_gaussian_of_the_distance_in_patches():
    """Peak 1 at the patch itself, exp(-1/50) beside it; nothing for the class token."""
    window = gaussian_window((3, 4), 1, sigma=5.0)
    assert window.shape == (13, 13) and not window[0].any() and not window[:, 0].any()
    patch = 1 + 1 * 4 + 2  # patch (1, 2) of a 3 x 4 grid
    above, beside, corner = 1 + 0 * 4 + 2, 1 + 1 * 4 + 1, 1 + 2 * 4 + 0
    want = [1, math.exp(-1 / 50), math.exp(-1 / 50), math.exp(-5 / 50)]
    got = window[patch, [patch, above, beside, corner]]
    assert torch.allclose(got, torch.tensor(want), atol=1e-6)
    assert torch.equal(window, window.T)
    assert gaussian_window((1, 2), 0, sigma=0.5)[0, 1] == pytest.approx(math.exp(-2))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("tower", ["tok", "avg"])
def test_an_image_does_not_see_its_batch(towers, tower, head):
    """Seven images at once equal each of them alone, for a square, an oblong and an odd size."""
    backbone = load_backbone(f"local-dir:{towers[tower][0]}", head=head)
    for height, width in SIZES:
        images = random_images(7, 3, height, width) * torch.arange(1, 8).view(7, 1, 1, 1)
        together = backbone.encode_pixels(images)
        alone = torch.cat([backbone.encode_pixels(image[None]) for image in images])
        assert relative_error(together, alone) < 1e-6
        assert (
            relative_error(
                backbone.encode_image(images),
                torch.cat([backbone.encode_image(image[None]) for image in images]),
            )
            < 1e-6
        )


def test_sizes_may_alternate(towers):
    """A size seen before, after another size, still gives the first answer."""
    backbone = load_backbone(f"local-dir:{towers['tok'][0]}", head="naclip")
    images = [random_images(1, 3, h, w) for h, w in ((32, 32), (16, 64), (64, 16), (29, 50))]
    first = [backbone.encode_pixels(image) for image in images]
    for image, want in list(zip(images, first, strict=True))[::-1]:
        assert torch.equal(backbone.encode_pixels(image), want)


@pytest.mark.parametrize("head", HEADS)
def test_tiny_images_have_one_cell(towers, head):
    """A 1 x 1 image is padded to one patch."""
    folder, weights = towers["tok"]
    image = random_images(1, 3, 1, 1)
    got = load_backbone(f"local-dir:{folder}", head=head).encode_pixels(image)
    assert relative_error(got[0], oracle_vit.dense(weights, image[0], 2, head)) < 1e-5


@pytest.mark.parametrize("tower", TOWERS)
def test_pooled_image_equals_open_clip(towers, tower):
    """The pooled embedding is the model's own whatever the dense head does."""
    folder, _ = towers[tower]
    images = random_images(3, 3, 32, 32)
    want = reference_model(folder).encode_image(images)
    for head in ("vanilla", "maskclip", "kk"):
        assert (
            relative_error(
                load_backbone(f"local-dir:{folder}", head=head).encode_image(images), want
            )
            < 1e-5
        )


def test_pooled_image_at_another_size(towers):
    """At another size the position table is resized as for the dense features."""
    folder, weights = towers["tok"]
    p = {name: value.double().numpy() for name, value in weights.items()}
    image = random_images(1, 3, 24, 40)
    want = oracle_vit.tokens(p, image[0].double().numpy(), 2, "vanilla", oracle_vit.gelu)[0][0]
    assert relative_error(load_backbone(f"local-dir:{folder}").encode_image(image)[0], want) < 1e-5


def test_default_head_follows_the_pooling(towers):
    assert load_backbone(f"local-dir:{towers['tok'][0]}").head == "maskclip"
    assert load_backbone(f"local-dir:{towers['avg'][0]}").head == "vanilla"


def test_unknown_head_lists_the_heads(towers):
    with pytest.raises(TTDError) as error:
        load_backbone(f"local-dir:{towers['tok'][0]}", head="gradcam")
    assert "gradcam" in str(error.value)
    assert all(head in str(error.value) for head in HEADS)


def test_registry_names_the_seven_heads():
    assert set(REGISTRY) == set(HEADS)


def end_tokens(lengths: list[int], length: int = 77, vocabulary: int = 128) -> torch.Tensor:
    """Token rows like CLIP's: start, words, end (the highest id), zeros."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.zeros(len(lengths), length, dtype=torch.long)
    for row, n in zip(rows, lengths, strict=True):
        row[:n] = torch.randint(1, vocabulary - 2, (n,), generator=generator)
        row[0], row[n - 1] = vocabulary - 2, vocabulary - 1
    return rows


@pytest.mark.parametrize("lengths", [[2], [3, 9, 5], [77, 3]])
def test_text_cut_to_the_longest_prompt_is_exact(towers, lengths):
    """Rows of 77 tokens, whole or cut behind the last end token, equal open_clip's full forward."""
    folder, _ = towers["tok-quickgelu-4-heads"]
    rows = end_tokens(lengths)
    want = torch.nn.functional.normalize(reference_model(folder).encode_text(rows), dim=-1)
    backbone = load_backbone(f"local-dir:{folder}")
    for tokens in (rows, rows[:, : max(lengths)]):
        got = torch.nn.functional.normalize(backbone.encode_tokens(tokens), dim=-1)
        assert got.shape == want.shape and (got - want).abs().max() < 1e-6


def test_strings_equal_open_clip(small_clip):
    """Unicode, an empty string and one beyond 77 tokens, against open_clip's own functions."""
    import open_clip

    strings = ["dog", "A photo of a CAT, please!", "", "übergrößer 猫 &amp; co", "many words " * 60]
    rows = open_clip.get_tokenizer("ViT-B-16")(strings)
    backbone = load_backbone(f"local-dir:{small_clip}")
    want = reference_model(small_clip).encode_text(rows)
    tokens = backbone.tokenize(strings)
    assert tokens.dtype == torch.long and torch.equal(tokens, rows[:, : tokens.shape[1]])
    assert not rows[:, tokens.shape[1] :].any()
    got = backbone.encode_text(strings)
    assert relative_error(got, want) < 1e-5  # not normalized: the raw embedding
    normalized = torch.nn.functional.normalize
    alone = torch.cat([backbone.encode_text([string]) for string in strings])
    assert (normalized(alone, dim=-1) - normalized(want, dim=-1)).abs().max() < 1e-6
