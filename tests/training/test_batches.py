"""The order of samples, how batches are shared, and how pairs arrive in a batch."""

import itertools
from dataclasses import replace

import pytest
import torch
from small_pairs import caption, write_set

from core.backbones import load_backbone
from core.data.pairs import open_pairs
from core.errors import TTDError
from core.training.batches import BatchSharding, EpochShuffle, batches
from core.ttd.config import LoraConfig, TTDConfig
from core.ttd.task import TTDTask


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))


def test_every_epoch_is_another_shuffle_of_everything():
    order = EpochShuffle(10, seed=3)
    drawn = [order[position] for position in range(30)]
    epochs = [drawn[:10], drawn[10:20], drawn[20:]]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    fresh = EpochShuffle(10, 3)  # without the epochs before
    assert [fresh[position] for position in range(20, 30)] == epochs[2]
    other = EpochShuffle(10, 4)
    assert [other[position] for position in range(10)] != epochs[0]


def test_reading_ahead_across_epochs_forgets_none_of_the_two():
    order, wanted = EpochShuffle(4, 0), EpochShuffle(4, 0)
    ahead = [wanted[position] for position in range(8)]
    assert [order[position] for position in (3, 4, 2, 5, 0, 7)] == [
        ahead[position] for position in (3, 4, 2, 5, 0, 7)
    ]


@pytest.mark.parametrize("world, micros", [(1, 1), (1, 4), (2, 2), (4, 1), (3, 2)])
def test_every_sharding_shares_out_the_same_batch(world, micros):
    shards = [BatchSharding(12, rank, world, micros) for rank in range(world)]
    seen = []
    for micro in range(micros):
        for shard in shards:
            seen += shard.positions(5, micro)
    assert seen == list(range(60, 72))
    with pytest.raises(
        TTDError, match="a batch of 10 cannot be shared by 3 processes x 2.*multiple of 6"
    ):
        BatchSharding(10, 0, 3, 2)


@pytest.fixture
def task_of(small_clip):
    config = TTDConfig(
        arch=f"local-dir:{small_clip}", image=16, batch=6, device="cpu", lora=LoraConfig(rank=2)
    )

    def make(root, **changes):
        backbone = load_backbone(config.arch, device="cpu")
        return TTDTask(replace(config, **changes), backbone, open_pairs("cc3m", root))

    return make


def stream(task, start, stop, **sharding):
    return list(batches(task, BatchSharding(6, **sharding), start, stop))


def test_a_resumed_run_and_any_sharding_see_the_same(task_of, tmp_path):
    root = write_set(tmp_path, 8)
    task = task_of(root)
    whole = stream(task, 0, 5)
    for a, b in zip(whole[3:], stream(task, 3, 5), strict=True):
        assert torch.equal(a.batch.images, b.batch.images) and a.batch.captions == b.batch.captions
    ranks = [stream(task, 0, 5, rank=r, world=3, grad_accum_steps=2) for r in range(3)]
    for step in range(5):
        order = itertools.product(range(2), range(3))
        parts = [ranks[r][2 * step + micro].batch for micro, r in order]
        assert torch.equal(torch.cat([part.images for part in parts]), whole[step].batch.images)
        captions = list(itertools.chain(*(part.captions for part in parts)))
        assert captions == whole[step].batch.captions
    other = stream(task_of(root, seed=1), 0, 1)[0].batch
    assert not torch.equal(whole[0].batch.images, other.images)


def test_every_pair_has_a_crop_and_a_mirror_of_its_own(task_of, tmp_path):
    """One image many times: it is seen in many ways within one batch, in others in the next."""
    root = write_set(tmp_path, 1)
    first, second = (loaded.batch.images for loaded in stream(task_of(root, crop=0.5), 0, 2))
    every = {image.numpy().tobytes() for image in [*first, *second]}
    assert len(every) == 12
    plain = [loaded.batch.images for loaded in stream(task_of(root), 0, 4)]
    images = torch.cat(plain)
    mirrored = [torch.allclose(image, images[0].flip(-1), atol=1e-5) for image in images]
    same = [torch.allclose(image, images[0], atol=1e-5) for image in images]
    assert all(a != b for a, b in zip(mirrored, same, strict=True)) and 4 < sum(mirrored) < 20


def test_a_broken_image_is_replaced_by_the_next_and_listed(task_of, tmp_path):
    root = write_set(tmp_path, 6)
    for number in (2, 3):
        (root / f"cc3m/train/image/cc3m_{number:04d}.jpg").write_bytes(b"\xff\xd8 no picture")
    order = EpochShuffle(6, 0)
    seen = stream(task_of(root), 0, 1)[0]
    wanted = [caption(4 if order[i] in (2, 3) else order[i]) for i in range(6)]
    assert seen.batch.captions == wanted
    assert {item.id for item in seen.skipped} == {"cc3m_0002", "cc3m_0003"}
    assert torch.equal(seen.batch.images, stream(task_of(root), 0, 1)[0].batch.images)


def test_images_that_are_all_broken_are_the_datas_fault(task_of, tmp_path):
    root = write_set(tmp_path, 3)
    for path in (root / "cc3m/train/image").iterdir():
        path.write_bytes(b"")
    with pytest.raises(TTDError, match="3 pairs in a row cannot be read"):
        stream(task_of(root), 0, 1)
