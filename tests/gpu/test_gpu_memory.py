"""Out of memory: one clear line, and a smaller batch that gives the same result."""

import warnings
from pathlib import Path

import pytest
import torch

from core.backbones import load_backbone
from core.data.records import Record
from core.errors import TTDError
from core.maps.views import Views, prepare
from core.masks.pipeline import Job, Loaded, MasksFromText
from core.masks.protocol import protocol
from core.tags.pipeline import Batch, tag_batch
from core.tags.protocol import TagProtocol
from core.utils.memory import in_smaller_batches, is_out_of_memory
from core.world.sample import make_sample

pytestmark = pytest.mark.gpu

ADVICE = "use a smaller --image"


def limited(backbone, most, monkeypatch):
    """Make `backbone` run out of memory for more than `most` images; the counts it is given."""
    asked = []
    for name in ("encode_pixels", "encode_both"):
        work = getattr(backbone, name)

        def encode(images, work=work):
            asked.append(len(images))
            if len(images) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return work(images)

        monkeypatch.setattr(backbone, name, encode)
    return asked


def test_a_real_allocation_that_is_too_large(gpu):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        torch.empty(2**50, dtype=torch.uint8, device=gpu)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("text", "memory"),
    [
        ("CUDA out of memory. Tried to allocate 2 GiB", True),
        ("DefaultCPUAllocator: not enough memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("shape mismatch", False),
    ],
)
def test_other_errors_that_name_memory_are_told_apart(text, memory):
    assert is_out_of_memory(RuntimeError(text)) == memory
    assert not is_out_of_memory(ValueError(text))


def test_halves_until_it_fits_and_remembers():
    asked = []

    def work(batch):
        asked.append(batch)
        if batch > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "done"

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert in_smaller_batches(work, 8, ADVICE) == ("done", 2)
    assert asked == [8, 4, 2]
    assert [str(one.message)[-34:] for one in said] == [
        "for a batch of 8; continuing with 4"[-34:],
        "for a batch of 4; continuing with 2"[-34:],
    ]


def test_gives_up_in_one_line_and_passes_other_errors_on():
    def out(batch):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def broken(batch):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with (
        warnings.catch_warnings(),
        pytest.raises(TTDError, match="not enough memory.*smaller --image") as caught,
    ):
        warnings.simplefilter("ignore")
        in_smaller_batches(out, 2, ADVICE)
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="illegal"):
        in_smaller_batches(broken, 2, ADVICE)


def test_masks_with_smaller_batches_are_the_same(gpu, monkeypatch):
    backbone = load_backbone("tiny", device=gpu)
    used = protocol("ttd", hflip=True, scales=(1.0, 0.5)).resolve(
        "tiny", backbone.image_size, "threshold", 0.4
    )
    sample = make_sample(0, "val", 0, 96)
    job = Job("one", lambda: sample.image, sample.text)
    picture = Loaded(sample.image, prepare(sample.image, used.views))
    want, _ = MasksFromText(backbone, used, batch=8).make(job, picture)
    asked = limited(backbone, 1, monkeypatch)
    maker = MasksFromText(backbone, used, batch=8)
    with pytest.warns(UserWarning, match="continuing with"):
        got, _ = maker.make(job, picture)
    assert (got == want).mean() > 0.999 and want.any()
    asked.clear()
    maker.make(job, picture)  # the next image starts with what fitted
    assert max(asked) == 1


def test_tags_with_smaller_batches_are_the_same(gpu, monkeypatch):
    backbone, views = load_backbone("tiny", device=gpu), TagProtocol(96)
    samples = [make_sample(0, "val", i, 96) for i in range(4)]
    records = [
        Record(i, f"{i}", Path(f"{i}.png"), f"{i}.png", one.text) for i, one in enumerate(samples)
    ]
    batch = Batch(records, [prepare(one.image, Views(96)) for one in samples], [])
    want = tag_batch(backbone, batch, views)
    limited(backbone, 2, monkeypatch)
    with pytest.warns(UserWarning, match="batch of 4; continuing with 2"):
        got, fitted = in_smaller_batches(lambda n: tag_batch(backbone, batch, views, n), 4, ADVICE)
    assert fitted == 2 and got.keys() == want.keys()
    for scorer, lines in want.items():
        assert [line[:20] for line in lines] == [line[:20] for line in got[scorer]]
        assert len(lines) == 4
