"""Masks and tags made on the GPU against their literal definitions on the CPU."""

import bench_tags
import numpy as np
import pytest
import reference_masks
import torch

from core.backbones import load_backbone
from core.maps.views import Views, prepare
from core.masks.labels import decide
from core.masks.merge import merge
from core.masks.protocol import protocol
from core.refine.pamr import PAMR
from core.tags.scoring import score_batch
from core.tags.selection import select
from core.text.prompts import embed_classes
from core.world.objects import NOUNS
from core.world.sample import make_sample

pytestmark = pytest.mark.gpu

VIEWS = {"scales": (1.0, 0.5), "hflip": True, "pamr": True}


def sample(index, size):
    return make_sample(0, "val", index, size)


@pytest.fixture(scope="module")
def literal():
    """Images of the world, their labels by the definition on the CPU, and the protocol."""
    backbone = load_backbone("tiny", device="cpu")
    used = protocol("ttd", **VIEWS).resolve("tiny", backbone.image_size, "threshold", 0.6)
    text = embed_classes(backbone, NOUNS, "OpenAI", use_cache=False)
    pictures = [np.ascontiguousarray(sample(i, 128).image[:96]) for i in range(2)]
    labels = [
        reference_masks.masks_from_tags(backbone, pixels, text, used).numpy() for pixels in pictures
    ]
    assert all(len(set(one[one >= 0].tolist())) >= 2 and (one < 0).any() for one in labels)
    return pictures, labels, used, text


@pytest.mark.parametrize("pictures", [1, 10**6])
@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.999), ("bfloat16", 0.97)])
def test_labels_equal_the_definition(gpu, literal, dtype, least, pictures):
    backbone = load_backbone("tiny", device=gpu, dtype=dtype)
    text = literal[3].to(gpu)
    for pixels, want in zip(*literal[:2], strict=True):
        merged = merge(backbone, prepare(pixels, literal[2].views), text, literal[2])
        got, scores = decide(merged, pixels, literal[2], scores=True, pamr=PAMR(pictures=pictures))
        assert got.dtype == np.int16 and scores.maps.dtype == np.float16
        assert (got == want).mean() > least


def test_prompts_are_encoded_alike(gpu, literal):
    got = embed_classes(load_backbone("tiny", device=gpu), NOUNS, "OpenAI", use_cache=False)
    assert got.device.type == gpu
    torch.testing.assert_close(got.cpu(), literal[3], atol=2e-5, rtol=0)


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 2e-5), ("bfloat16", 0.03)])
def test_tags_equal_the_definition(gpu, dtype, allowed):
    samples = [sample(i, 96) for i in range(6)]
    images, captions = [one.image for one in samples], [one.text for one in samples]
    slow = bench_tags.literal(load_backbone("tiny", device="cpu"), images, captions)
    backbone = load_backbone("tiny", device=gpu, dtype=dtype)
    fast = score_batch(backbone, images, captions, views=Views(96))
    assert bench_tags.compare("tiny", [one.scores for one in fast], slow, allowed)
    if dtype == "float32":
        for one, want in zip(fast, slow, strict=True):
            assert select(one.scores["pixel"])[0].tolist() == select(want["pixel"])[0].tolist()
            assert (one.xy >= 0).all() and (one.xy < 96).all()
