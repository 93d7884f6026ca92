"""Hidden states of both towers against forward hooks on open_clip's and timm's own modules."""

import math

import pytest
import torch
from small_clip import model_config, random_images, reference_model, token_rows, write_clip
from small_siglip import CONTEXT, write_siglip

from core.backbones import load_backbone
from core.errors import TTDError

LAYERS = 4
# A ViT-B/16 in small: patch 16, 14 x 14 tokens at 224 pixels would be 197; here 5 x 5.
VISION = {"image_size": 80, "patch_size": 16, "layers": LAYERS}
CONFIGS = {
    "openai's form": model_config(VISION, quick_gelu=True),
    "own text tower": model_config(VISION, custom_text=True),
    "average": model_config({**VISION, "pool_type": "avg"}),
    "average, no ln_pre": model_config({**VISION, "pool_type": "avg", "no_ln_pre": True}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("hidden")
    for seed, (name, config) in enumerate(CONFIGS.items()):
        write_clip(root / name, config, seed=seed)
    return root


def outputs_of(modules, run) -> list[torch.Tensor]:
    """What each module returns while `run` runs."""
    seen = {}
    handles = []
    for i, module in enumerate(modules):
        hook = lambda _, __, output, i=i: seen.__setitem__(i, output)  # noqa: E731
        handles.append(module.register_forward_hook(hook))
    run()
    for handle in handles:
        handle.remove()
    return [seen[i] for i in range(len(modules))]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("blocks", [(0, 1, 3), (-1, 0, -2), (2,), (1, 1)])
def test_image_blocks_equal_open_clips(folders, name, blocks):
    backbone, reference = (
        load_backbone(f"local-dir:{folders / name}"),
        reference_model(folders / name),
    )
    images = random_images(2, 3, 80, 80)
    want = outputs_of(
        reference.visual.transformer.resblocks, lambda: reference.encode_image(images)
    )
    got = backbone.visual.hidden_states(images, blocks)
    assert len(got) == len(blocks)
    for state, index in zip(got, blocks, strict=True):
        assert state.shape == (2, 26, 64)  # class token and 5 x 5 patches
        torch.testing.assert_close(state, want[index], atol=2e-5, rtol=1e-5)


def test_image_blocks_of_siglip_equal_timms(tmp_path):
    """No class token: sixteen patches are all tokens."""
    folder = write_siglip(tmp_path)
    backbone, reference = load_backbone(f"local-dir:{folder}"), reference_model(folder)
    images = random_images(2, 3, 32, 32)
    want = outputs_of(reference.visual.trunk.blocks, lambda: reference.encode_image(images))
    for state, block in zip(backbone.visual.hidden_states(images, (0, 1)), want, strict=True):
        assert state.shape == (2, 16, 48)
        torch.testing.assert_close(state, block, atol=2e-5, rtol=1e-5)


def test_another_grid_has_the_class_token_first_and_the_patches_row_major(folders):
    """Changing the last patch of a 2 x 3 grid changes its own embedding most: token 6 of 7."""
    backbone = load_backbone(f"local-dir:{folders / 'own text tower'}")
    images = random_images(1, 3, 32, 48)
    changed = images.clone()
    changed[..., 16:, 32:] += 3
    embedded = [backbone.visual.embed(x)[0] for x in (images, changed)]
    assert (embedded[0] - embedded[1]).abs().amax((0, 2)).nonzero().flatten().tolist() == [6]
    states = [backbone.visual.hidden_states(x, (0,))[0] for x in (images, changed)]
    assert states[0].shape == (1, 7, 64)
    assert int((states[0] - states[1]).abs().mean(2).argmax()) == 6


def test_gradients_of_hidden_states_equal_open_clips(folders):
    """CLIP-VG trains the position table through frozen blocks."""
    folder = folders / "openai's form"
    backbone, reference = load_backbone(f"local-dir:{folder}"), reference_model(folder)
    reference.requires_grad_(False)
    table, theirs = backbone.visual.positional_embedding, reference.visual.positional_embedding
    table.requires_grad_(True), theirs.requires_grad_(True)
    images, blocks = random_images(2, 3, 80, 80), (0, 2, 3)
    weights = random_images(3, 2, 26, 64, seed=3)
    got = torch.stack(backbone.visual.hidden_states(images, blocks))
    (got * weights).sum().backward()
    every = outputs_of(
        reference.visual.transformer.resblocks, lambda: reference.encode_image(images)
    )
    (torch.stack([every[i] for i in blocks]) * weights).sum().backward()
    assert table.grad.abs().min() > 0
    torch.testing.assert_close(table.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_no_more_blocks_than_needed_are_run_and_each_once(folders):
    backbone = load_backbone(f"local-dir:{folders / 'average'}")
    runs = []
    for i, block in enumerate(backbone.visual.blocks):
        block.register_forward_hook(lambda *_, i=i: runs.append(i))
    backbone.visual.hidden_states(random_images(1, 3, 32, 32), (2, 0, -3, 2))
    assert runs == [0, 1, 2]
    assert backbone.visual.hidden_states(random_images(1, 3, 32, 32), ()) == []
    assert runs == [0, 1, 2]


@pytest.mark.parametrize("index", [LAYERS, -LAYERS - 1, 99])
def test_blocks_that_are_not_there_are_named(folders, index):
    backbone = load_backbone(f"local-dir:{folders / 'average'}")
    with pytest.raises(TTDError, match=f"no block {index} .* 4 blocks: choose from -4 to 3"):
        backbone.visual.hidden_states(random_images(1, 3, 32, 32), (0, index))


def test_images_that_are_no_whole_patches_are_refused(folders):
    """The patch convolution would drop the last rows without a word."""
    backbone = load_backbone(f"local-dir:{folders / 'average'}")
    for size in ((32, 33), (47, 32)):
        with pytest.raises(TTDError, match="patches of 16"):
            backbone.visual.hidden_states(random_images(1, 3, *size), (0,))


@pytest.mark.parametrize("name", ["openai's form", "own text tower"])
def test_token_states_are_after_the_final_norm(folders, name):
    backbone, reference = (
        load_backbone(f"local-dir:{folders / name}"),
        reference_model(folders / name),
    )
    rows = token_rows()
    text = getattr(reference, "text", reference)
    (want,) = outputs_of([text.ln_final], lambda: reference.encode_text(rows))
    got = backbone.text.token_states(rows)
    assert got.shape == (3, 77, 32)  # padding too: nothing is cut
    torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-5)
    projected = backbone.text.projection(got)
    torch.testing.assert_close(projected, want @ text.text_projection, atol=2e-5, rtol=1e-5)
    ends = backbone.text.end_positions(rows)
    assert ends.tolist() == [2, 4, 6]
    embeddings = projected[torch.arange(3), ends]
    torch.testing.assert_close(embeddings, backbone.encode_tokens(rows), atol=2e-5, rtol=1e-5)


def test_token_states_of_a_tower_that_sees_all(tmp_path):
    folder = write_siglip(tmp_path)
    backbone, reference = load_backbone(f"local-dir:{folder}"), reference_model(folder)
    rows = token_rows(CONTEXT)
    (want,) = outputs_of([reference.text.ln_final], lambda: reference.encode_text(rows))
    torch.testing.assert_close(backbone.text.token_states(rows), want, atol=2e-5, rtol=1e-5)


def test_gradients_of_token_states_equal_open_clips(folders):
    folder = folders / "own text tower"
    backbone, reference = load_backbone(f"local-dir:{folder}"), reference_model(folder)
    ours, theirs = backbone.text.token_embedding, reference.text.token_embedding
    ours.requires_grad_(True)
    rows, weights = token_rows(), random_images(3, 77, 32, seed=3)
    (backbone.text.token_states(rows) * weights).sum().backward()
    (want,) = outputs_of([reference.text.ln_final], lambda: reference.encode_text(rows))
    (want * weights).sum().backward()
    used = rows.unique()
    assert (ours.weight.grad[used].abs().amax(1) > 0).all()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-4, rtol=1e-4)


def test_token_states_refuse_ids_outside_the_vocabulary(folders):
    backbone = load_backbone(f"local-dir:{folders / 'average'}")
    for wrong in (128, -1):
        with pytest.raises(TTDError, match="vocabulary has 128 entries"):
            backbone.text.token_states(torch.tensor([[126, wrong, 127]]))


def test_the_pad_mask_hides_padding():
    """A tower whose attention is uniform averages the tokens it sees: worked out by hand.

    One block, q and k zero, v and out the identity, no MLP: token i becomes x_i + mean over the
    seen x_j of ln(x_j). With the pad mask padding is not among them; without it, it is.
    """
    from core.backbones.layers import Attention, Block
    from core.backbones.towers import TextTower

    def tower(pad_id):
        attn, embedding = Attention(2, 1, bias=False), torch.nn.Embedding(5, 2)
        values = torch.tensor([[9.0, -9], [1, 0], [0, 1], [3, 1], [2, 2]])
        with torch.no_grad():
            embedding.weight.copy_(values)
            attn.q_proj.weight.zero_(), attn.k_proj.weight.zero_(), attn.out_proj.bias.zero_()
            attn.v_proj.weight.copy_(torch.eye(2)), attn.out_proj.weight.copy_(torch.eye(2))
        nothing = torch.nn.Linear(2, 2)
        torch.nn.init.zeros_(nothing.weight), torch.nn.init.zeros_(nothing.bias)
        one = torch.nn.Identity()
        block = Block(one, attn, one, nothing)
        positions = torch.nn.Parameter(torch.zeros(6, 2))
        return TextTower(
            embedding, positions, [block], one, one, pool="first", causal=False, pad_id=pad_id
        ).requires_grad_(False)

    rows = torch.tensor([[1, 2, 3, 0, 0], [4, 3, 2, 1, 0]])
    seen = torch.tensor([[4 / 3, 2 / 3], [6 / 4, 4 / 4]])  # means without padding
    first = torch.tensor([[1.0, 0], [2, 2]])
    torch.testing.assert_close(tower(0)(rows), first + seen)
    torch.testing.assert_close(tower(0)(rows[:1, :3]), first[:1] + seen[:1])  # no padding at all
    leaks = torch.tensor([[22 / 5, -16 / 5], [15 / 5, -5 / 5]])
    torch.testing.assert_close(tower(None)(rows), first + leaks)
    torch.testing.assert_close(tower(0).token_states(rows)[:, 0], first + seen)


@pytest.mark.parametrize(
    "text",
    [
        {"no_causal_mask": True, "use_pad_mask": True, "pool_type": "first", "pad_id": 0},
        {"no_causal_mask": True, "use_pad_mask": True, "pool_type": "first", "pad_id": 3},
    ],
)
def test_the_pad_mask_equals_open_clips(tmp_path, text):
    """open_clip's configs cannot switch it on, its module can: taken apart by `text_tower`."""
    from functools import partial

    from open_clip.transformer import TextTransformer

    from core.backbones.openclip import text_tower

    torch.manual_seed(0)
    module = TextTransformer(
        16, 128, 32, 2, 2, output_dim=24, norm_layer=partial(torch.nn.LayerNorm, eps=1e-5), **text
    ).eval()
    with torch.no_grad():
        module.positional_embedding.normal_()
        module.token_embedding.weight.normal_()
        module.text_projection.normal_()
        for name, parameter in module.named_parameters():
            if "attn" in name:
                parameter.normal_(std=1 / math.sqrt(8))
    holder = torch.nn.Module()
    holder.text = module
    rows = token_rows(16)
    tower = text_tower(holder, "test")
    torch.testing.assert_close(tower(rows), module(rows), atol=1e-4, rtol=1e-4)
