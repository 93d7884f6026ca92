"""What every backbone promises: constants from the model's own files, soft masks, checksums."""

import json
import shutil

import oracle_tcl
import pytest
import torch
import torch.nn.functional as F
from small_clip import PREPROCESS, model_config, random_images, random_texts, token_rows, write_clip

from core.backbones import load_backbone
from core.backbones.heads import HEADS
from core.errors import TTDError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small class-token CLIP with its own mean and std."""
    path = tmp_path_factory.mktemp("clip")
    write_clip(path, model_config(), seed=1)
    return path


@pytest.fixture(scope="module")
def backbone(folder):
    return load_backbone(f"local-dir:{folder}")


# --- attributes


def test_attributes_come_from_the_model(folder, backbone):
    from safetensors.torch import load_file

    scale = load_file(folder / "open_clip_model.safetensors")["logit_scale"]
    assert (backbone.patch, backbone.stride, backbone.image_size) == (8, 8, 32)
    assert backbone.logit_scale == pytest.approx(float(scale.exp()))
    assert (backbone.mask_scale, backbone.mask_bias) == (10.0, 0.25)
    assert backbone.arch == f"local-dir:{folder}" and backbone.dtype == torch.float32
    assert torch.device(backbone.device).type in ("cpu", "cuda", "mps")
    assert not backbone.training and not any(p.requires_grad for p in backbone.parameters())


def test_normalize_uses_the_models_own_constants(backbone):
    images = torch.rand(2, 3, 5, 9, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
    assert torch.allclose(backbone.normalize(images), (images - mean) / std, atol=1e-6)


def test_single_numbers_survive_a_narrow_type(tmp_path):
    """bfloat16 is for the towers: temperature and mask mapping decide thresholds and stay exact."""
    weights = oracle_tcl.random_checkpoint(
        oracle_tcl.tcl_shapes(
            width=64, layers=2, text_width=64, text_layers=1, grid=2, embed=16, vocab=100
        )
    )
    weights["masker.sim2mask.w"], weights["masker.sim2mask.b"] = (
        torch.tensor(11.37),
        torch.tensor(-3.11),
    )
    torch.save({"model": weights}, tmp_path / "t.pth")
    narrow = load_backbone("TCL", weights=tmp_path / "t.pth", dtype=torch.bfloat16)
    assert narrow.dtype == torch.bfloat16
    assert narrow.logit_scale == pytest.approx(100, rel=1e-5)
    assert narrow.mask_scale == pytest.approx(11.37, rel=1e-5)
    assert narrow.mask_bias == pytest.approx(3.11 / 11.37, rel=1e-5)
    images, text = narrow.normalize(torch.rand(1, 3, 32, 32)), random_texts(2, 16)
    similarity = narrow.similarity(narrow.encode_pixels(images), text)
    masks = narrow.masks(images, text)
    assert similarity.dtype == masks.dtype == torch.float32
    want = F.interpolate(torch.sigmoid(11.37 * similarity - 3.11), size=(32, 32), mode="bilinear")
    assert (masks - want).abs().max() < 1e-5


# --- similarity and masks


def test_similarity_is_the_cosine(backbone):
    pixels, text = random_images(2, 24, 3, 5), random_texts(4)
    want = F.cosine_similarity(
        pixels[:, None].double(), text[None, :, :, None, None].double(), dim=2
    )
    got = backbone.similarity(pixels, text)
    assert got.shape == (2, 4, 3, 5) and got.dtype == torch.float32
    assert (got - want).abs().max() < 1e-6 and got.abs().max() <= 1 + 1e-6
    assert (backbone.similarity(40 * pixels, 0.01 * text) - got).abs().max() < 1e-6
    assert torch.isfinite(backbone.similarity(torch.zeros(1, 24, 1, 1), text)).all()


def test_each_image_may_have_texts_of_its_own(backbone):
    pixels, texts = random_images(2, 24, 3, 5), random_texts(8).view(2, 4, 24)
    got = backbone.similarity(pixels, texts)
    assert got.shape == (2, 4, 3, 5)
    for i in (0, 1):
        want = backbone.similarity(pixels[i : i + 1], texts[i])
        assert torch.allclose(got[i : i + 1], want, atol=1e-6)


def test_both_embeddings_at_once_equal_each_alone(folder, tcl):
    """Whatever the dense head, the pooled embedding is the model's own."""
    models = [load_backbone(f"local-dir:{folder}", head=head) for head in HEADS]
    for model in (*models, tcl):
        images = random_images(2, 3, 29, 50)
        pixels, pooled = model.encode_both(images)
        assert torch.allclose(pixels, model.encode_pixels(images), atol=1e-5), model.head
        assert torch.allclose(pooled, model.encode_image(images), atol=1e-5), model.head


def test_tiny_vectors_are_divided_by_a_millionth(backbone, tcl):
    """TCL's normalization x / max(|x|, 1e-6): empty pixels have similarity 0."""
    direction = torch.zeros(1, 24, 1, 1)
    direction[0, 3] = 1e-8
    for model in (backbone, tcl):
        assert float(
            model.similarity(direction, 5 * direction[:, :, 0, 0] / 1e-8)
        ) == pytest.approx(0.01, rel=1e-4)
        assert float(model.similarity(direction / 1e-8, direction[:, :, 0, 0])) == pytest.approx(
            0.01, rel=1e-4
        )


@pytest.mark.parametrize("mapping", [None, {"mask_scale": 23.0, "mask_bias": 0.11}])
@pytest.mark.parametrize("size", [(32, 32), (29, 50), (5, 5)])
def test_masks_are_sigmoids_resized_and_cropped(tmp_path, size, mapping):
    """sigmoid(a (S - b)) on the grid, bilinear to the padded size, padding cut off.

    a and b are the config's, under `ttd`.
    """
    write_clip(tmp_path, model_config(), seed=1, **({"ttd": mapping} if mapping else {}))
    backbone = load_backbone(f"local-dir:{tmp_path}")
    a, b = (mapping["mask_scale"], mapping["mask_bias"]) if mapping else (10.0, 0.25)
    assert (backbone.mask_scale, backbone.mask_bias) == (a, b)
    images, text = random_images(2, 3, *size), random_texts(3)
    s = F.cosine_similarity(
        backbone.encode_pixels(images)[:, None], text[None, :, :, None, None], dim=2
    )
    grid, padded = 1 / (1 + torch.exp(-a * (s - b))), [-(-side // 8) * 8 for side in size]
    want = F.interpolate(grid, size=padded, mode="bilinear", align_corners=False)
    top, left = (padded[0] - size[0]) // 2, (padded[1] - size[1]) // 2
    want = want[:, :, top : top + size[0], left : left + size[1]]
    got = backbone.masks(images, text)
    assert got.shape == (2, 3, *size) and (got - want).abs().max() < 1e-5
    assert got.min() >= 0 and got.max() <= 1


def test_pamr_works_at_the_images_size(backbone):
    """Not TCL: refinement comes last, on the cropped map, guided by the image at its own size."""
    images, text = random_images(2, 3, 21, 27), random_texts(3)
    plain = backbone.masks(images, text).double()
    want = torch.stack(
        [oracle_tcl.pamr(image, maps) for image, maps in zip(images.double(), plain, strict=True)]
    )
    got = backbone.masks(images, text, pamr=True)
    assert (got - want).abs().max() < 2e-5 and (got - plain).abs().max() > 1e-3


def test_masks_do_not_see_their_batch(backbone):
    images, text = random_images(7, 3, 29, 50), random_texts(2)
    for pamr in (False, True):
        alone = torch.cat([backbone.masks(image[None], text, pamr=pamr) for image in images])
        assert (backbone.masks(images, text, pamr=pamr) - alone).abs().max() < 2e-6
    assert (
        backbone.masks(images, text)[:, 1:] - backbone.masks(images, text[1:])
    ).abs().max() < 1e-6


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 32, 32), torch.zeros(1, 1, 32, 32), torch.zeros(1, 3, 0, 8)]
)
def test_images_of_a_wrong_shape_are_named(backbone, images):
    for call in (backbone.encode_pixels, backbone.encode_image):
        with pytest.raises(TTDError):
            call(images)


def test_texts_of_another_model_are_named(backbone, tcl):
    """Embeddings of another width come from another model: one line with both shapes."""
    for model in (backbone, tcl):
        with pytest.raises(TTDError, match="25"):
            model.masks(random_images(1, 3, 32, 32), random_texts(2, 25))


# --- checksum


def test_checksum_is_of_the_weights(folder):
    one, two = (load_backbone(f"local-dir:{folder}") for _ in range(2))
    assert isinstance(one.checksum, str) and one.checksum == two.checksum
    assert (
        load_backbone(f"local-dir:{folder}", head="sclip").checksum == one.checksum
    )  # a head is no weight
    before = two.checksum
    for part in ("v_proj.weight", "positional_embedding", "token_embedding.weight"):
        parameter = [p for name, p in two.named_parameters() if name.endswith(part)][-1]
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-3
        assert two.checksum != before, part
        before = two.checksum
    assert one.checksum != two.checksum


def test_checksum_sees_both_files_weights(tmp_path, folder):
    write_clip(tmp_path, model_config(), seed=2)
    other = load_backbone(f"local-dir:{tmp_path}")
    mine = load_backbone(f"local-dir:{folder}")
    assert other.checksum != mine.checksum
    swapped = load_backbone(f"local-dir:{folder}", weights=tmp_path / "open_clip_model.safetensors")
    assert swapped.checksum == other.checksum  # weights= wins over the folder's own


# --- weights= and the tokenizer


def test_weights_win_over_the_name(tmp_path, folder):
    write_clip(tmp_path / "other", model_config(), seed=2)
    wanted = load_backbone(f"local-dir:{tmp_path / 'other'}")
    got = load_backbone(
        f"local-dir:{folder}", weights=str(tmp_path / "other" / "open_clip_model.safetensors")
    )
    images = random_images(1, 3, 32, 32)
    assert torch.equal(got.encode_pixels(images), wanted.encode_pixels(images))
    assert torch.equal(got.encode_tokens(token_rows()), wanted.encode_tokens(token_rows()))


def test_a_torch_file_is_read_too(tmp_path, folder, backbone):
    from safetensors.torch import load_file

    state = load_file(folder / "open_clip_model.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "epoch_3.pt")
    got = load_backbone(f"local-dir:{folder}", weights=tmp_path / "epoch_3.pt")
    assert got.checksum == backbone.checksum


def test_own_vocabulary_of_a_folder(tmp_path):
    """A folder's bpe.txt.gz, in open_clip's format, replaces CLIP's vocabulary.

    Its ids: 256 bytes twice, the merges, start and end.
    """
    import gzip

    import open_clip

    # no end of line: open_clip counts an empty last merge
    merges = "#version: 0.2\nd o\ndo g</w>\nc a\nca t</w>"
    with gzip.open(tmp_path / "bpe.txt.gz", "wt", encoding="utf-8") as file:
        file.write(merges)
    write_clip(tmp_path, model_config(text={"vocab_size": 2 * 256 + 4 + 2, "context_length": 16}))
    reference = open_clip.SimpleTokenizer(bpe_path=str(tmp_path / "bpe.txt.gz"), context_length=16)
    backbone = load_backbone(f"local-dir:{tmp_path}")
    strings = ["dog", "a dog and a cat", "dogs " * 30]
    got, want = backbone.tokenize(strings), reference(strings)
    assert torch.equal(got, want[:, : got.shape[1]]) and not want[:, got.shape[1] :].any()
    assert int(got.max()) == 517 and got[0, 2] == 517  # start, dog, end
    assert backbone.encode_text(strings).shape == (3, 24)


def test_a_single_string_is_no_list(backbone):
    with pytest.raises(TTDError, match="list"):
        backbone.encode_text("dog")


def test_no_graph_is_kept_when_nothing_asks(backbone):
    assert not backbone.encode_pixels(random_images(1, 3, 32, 32)).requires_grad


def test_config_file_is_not_changed_by_loading(folder):
    before = (folder / "open_clip_config.json").read_bytes()
    load_backbone(f"local-dir:{folder}")
    assert (folder / "open_clip_config.json").read_bytes() == before and json.loads(before)


def test_no_texts_give_no_masks(backbone):
    assert backbone.masks(random_images(2, 3, 21, 50), torch.zeros(0, 24)).shape == (2, 0, 21, 50)


def test_checksum_under_inference_mode(small_clip):
    with torch.inference_mode():
        inside = load_backbone(f"local-dir:{small_clip}").checksum
    assert inside == load_backbone(f"local-dir:{small_clip}").checksum


def test_tokenizer_key_is_of_the_vocabulary_not_of_the_place(small_clip, tmp_path):
    one = load_backbone(f"local-dir:{small_clip}").tokenizer_key
    moved = tmp_path / "moved"
    shutil.copytree(small_clip, moved)
    assert load_backbone(f"local-dir:{moved}").tokenizer_key == one
    (moved / "tokenizer.json").write_text("{}")
    assert load_backbone(f"local-dir:{moved}").tokenizer_key != one
