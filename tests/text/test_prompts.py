"""Prompt templates and class embeddings, with a backbone that embeds by a closed form."""

import itertools
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import TTDError
from core.text import prompts
from core.text.prompts import TEMPLATES, embed_classes


def _closed_form(text):
    """A vector of length 4 that depends on every character and its place."""
    codes = np.array([ord(c) for c in text], dtype=np.float64)
    place = np.arange(1, len(text) + 1)
    return np.array(
        [len(text), np.sin(codes * place).sum(), np.cos(codes + place).sum(), codes.sum() / 100]
    )


class FakeBackbone:
    """Counts the strings it encodes; raw embeddings of very different lengths."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, checksum="abc", tokenizer_key="bpe"):
        self.checksum, self.tokenizer_key = checksum, tokenizer_key
        self.batches = []

    def encode_text(self, texts):
        self.batches.append(list(texts))
        return torch.tensor(np.stack([_closed_form(t) for t in texts]), dtype=torch.float32)

    @property
    def encoded(self):
        return list(itertools.chain(*self.batches))


def _expected(classes, templates):
    """classes: lists of synonyms -> [N,4]: raw mean over synonyms and templates, then length 1."""
    rows = []
    for synonyms in classes:
        pairs = itertools.product(synonyms, templates)
        raw = np.mean([_closed_form(t.replace("{}", s)) for s, t in pairs], axis=0)
        rows.append(raw / np.linalg.norm(raw))
    return torch.tensor(np.stack(rows), dtype=torch.float32)


def test_openai_templates_are_open_clips_in_their_order():
    open_clip = pytest.importorskip("open_clip")
    assert TEMPLATES["OpenAI"] == tuple(t("{}") for t in open_clip.OPENAI_IMAGENET_TEMPLATES)


def test_template_sets_have_their_published_sizes_and_strings():
    sizes = {name: len(templates) for name, templates in TEMPLATES.items()}
    assert sizes == {"OpenAI": 80, "simple": 1, "identity": 1, "maskclip": 5, "custom": 9}
    assert TEMPLATES["simple"] == ("a photo of a {}.",) and TEMPLATES["identity"] == ("{}",)
    assert TEMPLATES["maskclip"][::4] == (
        "there is a {} in the scene.",
        "this is one {} in the scene.",
    )
    assert set(TEMPLATES["custom"][:8]) < set(TEMPLATES["OpenAI"])
    assert TEMPLATES["custom"][8] == "a photo of {}s." and TEMPLATES["custom"][0] == "itap of a {}."
    assert all(t.count("{}") == 1 for t in itertools.chain(*TEMPLATES.values()))
    assert all(len(set(templates)) == len(templates) for templates in TEMPLATES.values())


@pytest.mark.parametrize(
    "templates", ["OpenAI", "custom", "identity", ("{}!", "the {} and the {}")]
)
def test_raw_mean_over_templates_then_length_one(templates, tmp_path):
    got = embed_classes(
        FakeBackbone(), ["cat", "traffic light", "bed "], templates, cache_dir=tmp_path
    )
    strings = TEMPLATES[templates] if isinstance(templates, str) else templates
    torch.testing.assert_close(
        got, _expected([["cat"], ["traffic light"], ["bed "]], strings), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(got.norm(dim=-1), torch.ones(3))
    assert got.dtype == torch.float32


def test_synonyms_are_averaged_before_normalizing(tmp_path):
    expected = _expected([["person", "human", "man"], ["dog"]], TEMPLATES["custom"])
    for names in (
        ["person|human|man", "dog"],
        ["person | human| man", "dog"],
        [("person", "human", "man"), ["dog"]],
    ):
        backbone = FakeBackbone()
        torch.testing.assert_close(
            embed_classes(backbone, names, "custom", cache_dir=tmp_path / str(names)),
            expected,
            atol=1e-5,
            rtol=0,
        )
        assert len(backbone.encoded) == 4 * 9


def test_braces_in_names_are_only_text(tmp_path):
    backbone = FakeBackbone()
    embed_classes(backbone, ["{0} {x}", "{"], "simple", cache_dir=tmp_path)
    assert set(backbone.encoded) == {"a photo of a {0} {x}.", "a photo of a {."}


def test_each_distinct_prompt_is_encoded_once_in_bounded_batches_short_ones_together(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(prompts, "ENCODE_BATCH", 7)
    backbone = FakeBackbone()
    got = embed_classes(
        backbone, ["cat", "dog|cat", "cat", "hippopotamus"], "custom", cache_dir=tmp_path
    )
    assert len(backbone.encoded) == len(set(backbone.encoded)) == 3 * 9
    assert max(map(len, backbone.batches)) == 7
    lengths = [len(t) for t in backbone.encoded]
    assert lengths == sorted(lengths)
    expected = _expected([["cat"], ["dog", "cat"], ["cat"], ["hippopotamus"]], TEMPLATES["custom"])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_the_order_of_the_names_changes_no_bit():
    class BatchDependent(FakeBackbone):
        """Answers depend on what else is in the batch, as real kernels' last bits do, only more."""

        def encode_text(self, texts):
            return (
                super().encode_text(texts)
                + 0.01 * sum(map(len, texts))
                + 0.1 * torch.arange(len(texts))[:, None]
            )

    names = ["cat", "traffic light", "dog|puppy", "bus", "sky"]
    order = [3, 0, 4, 2, 1]
    first = embed_classes(BatchDependent(), names, use_cache=False)
    second = embed_classes(BatchDependent(), [names[i] for i in order], use_cache=False)
    assert torch.equal(second, first[order])


def test_the_second_call_reads_the_disk_and_every_part_of_the_key_counts(tmp_path):
    def encodes(backbone=None, names=("cat", "dog"), templates="simple"):
        backbone = backbone or FakeBackbone()
        embed_classes(backbone, names, templates, cache_dir=tmp_path)
        return len(backbone.encoded) > 0

    assert encodes() and not encodes()
    assert encodes(FakeBackbone(checksum="with adapter"))
    assert encodes(FakeBackbone(tokenizer_key="other words"))
    half = FakeBackbone()
    half.dtype = torch.bfloat16
    assert encodes(half)
    assert encodes(names=("dog", "cat"))
    assert (
        encodes(names=("cat|dog",))
        and encodes(names=("catdog",))
        and encodes(names=("cat", "dog "))
    )
    assert encodes(templates="identity") and encodes(templates=("a photo of a {}!",))
    assert not encodes(templates=("a photo of a {}.",))  # the same strings under no name
    assert not encodes()
    first = embed_classes(FakeBackbone(), ["cat", "dog"], "simple", cache_dir=tmp_path)
    assert torch.equal(
        first, embed_classes(FakeBackbone(), ["cat", "dog"], "simple", use_cache=False)
    )


def test_cache_folder_follows_the_environment_and_can_be_switched_off(tmp_path, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "env"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    embed_classes(FakeBackbone(), ["cat"], "simple", use_cache=False)
    assert not (tmp_path / "env").exists()
    embed_classes(FakeBackbone(), ["cat"], "simple")
    assert len(list((tmp_path / "env").glob("*.npz"))) == 1
    monkeypatch.delenv("TTD_CACHE")
    embed_classes(FakeBackbone(), ["cat"], "simple")
    assert len(list((tmp_path / "home" / ".cache" / "ttd").glob("*.npz"))) == 1


def _damage_cut(data):
    return data[: len(data) // 2]


def _damage_flip(data):
    at = len(data) // 2  # inside the numbers of a file with enough classes
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage", [_damage_cut, _damage_flip, lambda _: b"", lambda _: b"not an archive"]
)
def test_a_damaged_file_is_computed_again_and_replaced(damage, tmp_path):
    names = [f"name {i}" for i in range(60)]
    good = embed_classes(FakeBackbone(), names, "simple", cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    backbone = FakeBackbone()
    assert torch.equal(embed_classes(backbone, names, "simple", cache_dir=tmp_path), good)
    assert backbone.encoded
    again = FakeBackbone()
    assert torch.equal(embed_classes(again, names, "simple", cache_dir=tmp_path), good)
    assert not again.encoded


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 4), np.float32), np.zeros((2, 4)), np.full((2, 4), np.nan, np.float32)]
)
def test_a_file_with_other_contents_is_not_believed(wrong, tmp_path):
    embed_classes(FakeBackbone(), ["cat", "dog"], "simple", cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    np.savez(file, embeddings=wrong)
    backbone = FakeBackbone()
    embed_classes(backbone, ["cat", "dog"], "simple", cache_dir=tmp_path)
    assert backbone.encoded


def test_without_a_writable_cache_it_still_works(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("a file where the folder should be")
    expected = _expected([["cat"]], TEMPLATES["simple"])
    for folder in (blocker, blocker / "below"):
        torch.testing.assert_close(
            embed_classes(FakeBackbone(), ["cat"], "simple", cache_dir=folder), expected
        )
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_rename_leaves_no_part_behind(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no")

    monkeypatch.setattr("core.utils.files.os.replace", refuse)
    embed_classes(FakeBackbone(), ["cat"], "simple", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def _write_many(folder):
    names = [f"class {i}" for i in range(40)]
    wanted = embed_classes(FakeBackbone(), names, "custom", use_cache=False)
    for _ in range(20):
        for file in Path(folder).glob("*.npz"):
            file.unlink(missing_ok=True)  # make the others write again while somebody reads
        if not torch.equal(
            embed_classes(FakeBackbone(), names, "custom", cache_dir=folder), wanted
        ):
            return False
    return True


def test_several_threads_may_write_the_same_key(tmp_path):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(_write_many(tmp_path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
    assert not list(tmp_path.glob("*.part"))


def test_two_processes_may_write_the_same_key(tmp_path):
    import multiprocessing

    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_write_many, [str(tmp_path)] * 2)) == [True, True]
    assert len(list(tmp_path.glob("*.npz"))) == 1 and not list(tmp_path.glob("*.part"))


def test_a_zero_embedding_does_not_divide_by_zero(tmp_path):
    class Zero(FakeBackbone):
        def encode_text(self, texts):
            return torch.zeros(len(texts), 4)

    assert torch.equal(
        embed_classes(Zero(), ["cat"], "simple", cache_dir=tmp_path), torch.zeros(1, 4)
    )


@pytest.mark.parametrize(
    ("names", "templates", "said"),
    [
        (["cat"], "openai", "OpenAI, simple, identity, maskclip, custom"),
        (["cat"], ("a photo",), "no place for the class name"),
        (["cat"], (), "empty"),
        ("cat", "simple", "pass a list"),
        ([], "simple", "no class names"),
        (["cat", " "], "simple", "empty"),
        (["cat|"], "simple", "empty synonym"),
        ([()], "simple", "empty"),
        ([3], "simple", "empty"),
    ],
)
def test_bad_input_is_said_in_one_line(names, templates, said, tmp_path):
    with pytest.raises(TTDError, match=said) as error:
        embed_classes(FakeBackbone(), names, templates, cache_dir=tmp_path)
    assert "\n" not in str(error.value)
