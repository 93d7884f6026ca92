"""Scores of words in images, against open_clip's own model, brute force and planted squares."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from colour_backbone import ColourBackbone, planted
from paths import ROOT
from small_clip import PREPROCESS, reference_model

from core.backbones import load_backbone
from core.errors import TTDError
from core.maps.views import Views
from core.tags.protocol import SCORERS, TagProtocol
from core.tags.scoring import WORDS, score_batch
from core.tags.selection import select
from core.text.encode import TEXTS, encode_texts

FACTS = ROOT / "tests/support/facts/coco_captions.jsonl"
CAPTIONS = [
    "a red dog and a cat",
    "dog",
    "Two dogs, one cat (asleep) beside the dog!",
    "강아지가 뛴다 고양이",
    "x y",
]


@pytest.fixture(scope="module")
def clip(small_clip):
    return load_backbone(f"local-dir:{small_clip}", device="cpu")


def pictures(*sizes, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


SIZES = ((32, 32), (40, 64), (64, 40), (32, 32), (97, 33))


class ColourWords(ColourBackbone):
    """`ColourBackbone` with token ids: words are colours, any other word is grey."""

    def tokenize(self, texts):
        self.seen = list(texts)
        return torch.arange(1, len(texts) + 1)[:, None]

    def encode_tokens(self, tokens):
        return torch.tensor(
            [self.words.get(self.seen[int(t) - 1], (1, 1, 1, 0)) for t in tokens],
            dtype=torch.float32,
        )

    def encode_both(self, images):
        return self.encode_pixels(images), images.new_ones(len(images), 4)

    def similarity(self, pixels, text):
        return torch.cat(
            [
                super(ColourWords, self).similarity(*row)
                for row in zip(pixels.split(1), text, strict=True)
            ]
        )


@pytest.mark.parametrize(("patch", "stride"), [(8, 8), (16, 4)])
@pytest.mark.parametrize("hflip", [False, True])
def test_the_nearest_pixel_is_on_the_planted_square(patch, stride, hflip):
    places = [
        (48, 64, 0, 0),
        (61, 45, 50, 41),
        (45, 61, 20, 30),
        (48, 64, 44, 33),
        (33, 97, 29, 93),
    ]
    images = [planted(*place) for place in places]
    result = score_batch(
        ColourWords(patch, stride),
        images,
        ["a red square on blue"] * 5,
        views=Views(48, (1.0, 1.7), hflip),
    )
    for (height, width, y, x), one in zip(places, result, strict=True):
        cell = stride * min(height, width) / (1.7 * 48)
        px, py = one.xy[1].tolist()
        assert abs(px - (x + 1.5)) <= 2 + cell / 2 and abs(py - (y + 1.5)) <= 2 + cell / 2
        assert 0 <= px < width and 0 <= py < height


def test_padded_cells_are_never_the_nearest():
    image = np.full((17, 40, 3), 255, np.uint8)
    one = score_batch(ColourWords(16, 4), [image], ["padding red"], ["pixel"], Views(17))[0]
    assert one.scores["pixel"][0] < 0.95
    assert (
        ColourWords(16, 4).encode_pixels(torch.ones(1, 3, 17, 40))[:, 3].max() == 1
    )  # the trap is there


def by_hand(folder, backbone, image, words, caption):
    """Raw scores and best cell, one word at a time, by open_clip's own model, image of its size."""
    model = reference_model(folder)
    mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
    pixels = ((torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std)[None]
    dense = F.normalize(backbone.encode_pixels(pixels)[0], dim=0)
    rows = []
    for word in words:
        encode = lambda text: F.normalize(model.encode_text(backbone.tokenize([text]))[0], dim=0)  # noqa: E731
        similarity = torch.einsum("dhw,d->hw", dense, encode(word))
        cell = divmod(int(similarity.argmax()), similarity.shape[1])
        rows.append(
            (
                float(similarity.max()),
                float(F.normalize(model.encode_image(pixels)[0], dim=0) @ encode(word)),
                float(encode(caption) @ encode(word)),
                [8 * cell[1] + 4, 8 * cell[0] + 4],
            )
        )
    return rows


@torch.no_grad()
def test_all_scorers_equal_open_clip_word_by_word(small_clip, clip):
    for image, caption in zip(pictures((32, 32), (32, 32)), CAPTIONS[:4:2], strict=True):
        one = score_batch(clip, [image], [caption])[0]
        rows = by_hand(small_clip, clip, image, [word.text for word in one.words], caption)
        for k, row in enumerate(rows):
            assert [float(one.scores[name][k]) for name in SCORERS] == pytest.approx(
                row[:3], abs=1e-5
            )
            assert one.xy[k].tolist() == row[3]


@pytest.mark.parametrize("options", [{}, {"views": Views(40, (1.0, 0.5, 2.0), hflip=True)}])
def test_neighbours_and_order_change_scores_by_rounding_only(clip, options):
    images = pictures(*SIZES)
    together = score_batch(clip, images, CAPTIONS, **options)
    order = [3, 0, 4, 2, 1]
    shuffled = score_batch(
        clip, [images[i] for i in order], [CAPTIONS[i] for i in order], **options
    )
    for place, i in enumerate(order):
        alone = score_batch(clip, [images[i]], [CAPTIONS[i]], **options)[0]
        for other in (together[i], shuffled[place]):
            assert other.words == alone.words
            for name in SCORERS:
                torch.testing.assert_close(
                    other.scores[name], alone.scores[name], atol=1e-6, rtol=0
                )
            assert torch.equal(other.xy, alone.xy)


def test_a_scorer_gives_the_same_alone(clip):
    images = pictures(*SIZES)
    every = score_batch(clip, images, CAPTIONS)
    for name in SCORERS:
        for one, among in zip(score_batch(clip, images, CAPTIONS, [name]), every, strict=True):
            assert list(one.scores) == [name] and torch.equal(one.scores[name], among.scores[name])
            assert torch.equal(one.xy, among.xy)


def test_every_distinct_word_is_encoded_once(clip, monkeypatch):
    seen, encode = [], clip.encode_tokens
    monkeypatch.setattr(
        clip, "encode_tokens", lambda tokens: seen.append(len(tokens)) or encode(tokens)
    )
    score_batch(clip, pictures(*SIZES), ["a cat a Cat a cat"] * 5, ["pixel", "image"])
    assert seen == [3]  # a, cat, Cat
    score_batch(clip, pictures((32, 32)), ["a cat a cat"], ["text"])
    assert seen == [3, 2, 1]


@pytest.mark.parametrize(
    "caption",
    [
        "word",
        "🙂",
        "",
        "🙂 dog 🙂🙂",
        "강아지",
        "한국어 문장도 됩니다",
        "a " + "very " * 100 + "long story",
        "antidisestablishmentarianism" * 30,
    ],
)
def test_odd_captions(clip, caption):
    neighbour = "a cat"
    first, second = score_batch(clip, pictures((32, 32), (32, 32)), [caption, neighbour])
    expected = [word for word in caption.split() if word.isalpha()]
    assert [word.text for word in first.words] == expected
    assert first.xy.shape == (len(expected), 2)
    assert all(
        first.scores[name].shape == (len(expected),) and first.scores[name].isfinite().all()
        for name in SCORERS
    )
    assert [word.text for word in second.words] == ["a", "cat"]


def test_three_thousand_words_in_pieces(clip):
    assert 3000 > TEXTS > WORDS
    words = [f"w{i % 1700}" for i in range(3000)]
    image = pictures((40, 64))[0]
    long, short = score_batch(clip, [image, image], [" ".join(words), "w5 w1699 w17"])
    assert len(long.words) == 3000
    for k, word in enumerate(("w5", "w1699", "w17")):
        for name in ("pixel", "image"):
            same = [float(long.scores[name][i]) for i, other in enumerate(words) if other == word]
            assert same == pytest.approx([float(short.scores[name][k])] * len(same), abs=1e-6)
    assert select(long.scores["pixel"])[1].max() == 1


def test_texts_have_unit_length_and_keep_their_order(clip):
    texts = ["a", "three long words here", "two words", "b"]
    together = encode_texts(clip, texts)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    for i, text in enumerate(texts):
        torch.testing.assert_close(
            together[i], F.normalize(clip.encode_text([text])[0], dim=0), atol=1e-6, rtol=0
        )
    assert encode_texts(clip, []).shape[0] == 0


@pytest.mark.parametrize("head", [None, "naclip", "vanilla"])
def test_encoding_both_is_encoding_each(small_clip, head):
    backbone = load_backbone(f"local-dir:{small_clip}", head=head, device="cpu")
    images = torch.randn(2, 3, 40, 30, generator=torch.Generator().manual_seed(0))
    pixels, pooled = backbone.encode_both(images)
    assert torch.equal(pixels, backbone.encode_pixels(images)) and torch.equal(
        pooled, backbone.encode_image(images)
    )


def test_encoding_both_of_tcl(tcl):
    images = torch.randn(2, 3, 40, 70, generator=torch.Generator().manual_seed(0))
    pixels, pooled = tcl.encode_both(images)
    assert torch.equal(pixels, tcl.encode_pixels(images)) and torch.equal(
        pooled, tcl.encode_image(images)
    )


def test_bfloat16_towers_give_float32_scores_nearby(small_clip, clip):
    images = pictures(*SIZES)
    rough = score_batch(
        load_backbone(f"local-dir:{small_clip}", device="cpu", dtype="bfloat16"), images, CAPTIONS
    )
    for one, exact in zip(rough, score_batch(clip, images, CAPTIONS), strict=True):
        for name in SCORERS:
            assert one.scores[name].dtype == torch.float32
            torch.testing.assert_close(one.scores[name], exact.scores[name], atol=0.05, rtol=0)


def test_ten_images_of_the_sizes_of_photographs_with_all_five_captions(clip):
    rows = [json.loads(line) for line in FACTS.read_text(encoding="utf-8").splitlines()]
    random = np.random.default_rng(0)
    assert len(rows) == 10 and all(len(row["captions"]) == 5 for row in rows)
    for row in rows:
        image = random.integers(0, 256, (row["height"], row["width"], 3), dtype=np.uint8)
        for caption, one in zip(
            row["captions"], score_batch(clip, [image] * 5, row["captions"]), strict=True
        ):
            assert (
                all(caption[word.start : word.end] == word.text for word in one.words) and one.words
            )
            assert (
                one.scores["pixel"].isfinite().all() and one.scores["pixel"].abs().max() <= 1 + 1e-5
            )
            assert (one.xy >= 0).all() and (
                one.xy < torch.tensor([image.shape[1], image.shape[0]])
            ).all()


@pytest.mark.parametrize("scorers", [["magic"], []])
def test_unknown_scorers_are_one_line(clip, scorers):
    with pytest.raises(TTDError, match="choose from pixel, image, text"):
        score_batch(clip, pictures((32, 32)), ["a dog"], scorers)
    with pytest.raises(TTDError, match="choose from pixel, image, text"):
        TagProtocol(32, scorers=tuple(scorers))


def test_a_picture_with_several_captions_is_encoded_once(clip, monkeypatch):
    seen, encode = [], clip.encode_both
    first, second = pictures((32, 32), (40, 64))
    separate = score_batch(
        clip, [first, second.copy(), first.copy(), second], ["a dog", "cat", "", "two dogs"]
    )
    monkeypatch.setattr(
        clip, "encode_both", lambda images: seen.append(len(images)) or encode(images)
    )
    together = score_batch(clip, [first, second, first, second], ["a dog", "cat", "", "two dogs"])
    assert seen == [1, 1]
    for one, other in zip(together, separate, strict=True):
        assert one.words == other.words and torch.equal(one.xy, other.xy)
        for name in SCORERS:
            torch.testing.assert_close(one.scores[name], other.scores[name], atol=1e-6, rtol=0)


def test_tcl_at_its_stride_of_four_equals_the_predictor(tcl):
    from core.predictor import Predictor

    images = pictures((40, 70), (64, 64), (40, 70))
    scored = score_batch(tcl, images, CAPTIONS[:3], views=Views(48, (1.0, 0.5, 1.5), hflip=True))
    predictor = Predictor(tcl, 48, scales=(1.0, 0.5, 1.5), hflip=True)
    for image, one in zip(images, scored, strict=True):
        predictor.set_image(image)
        words = [word.text for word in one.words]
        torch.testing.assert_close(one.scores["pixel"], predictor.scores(words), atol=1e-5, rtol=0)
        assert torch.equal(one.xy, predictor.peaks(words))


@torch.no_grad()
@pytest.mark.parametrize("scales", [(0.5, 1.0, 2.0), (2.0, 1.0, 0.5), (1.4, 1.0)])
def test_the_image_scorer_looks_at_scale_one_and_its_mirror(small_clip, clip, scales):
    """By open_clip's own model: the mean over image and mirrored image, at the scale nearest 1."""
    model = reference_model(small_clip)
    mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
    (image,) = pictures((32, 32), seed=3)
    pixels = ((torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std)[None]
    both = torch.cat([pixels, pixels.flip(-1)])
    whole = F.normalize(model.encode_image(both), dim=-1)  # [2, D]
    words = F.normalize(model.encode_text(clip.tokenize(["red", "dog"])), dim=-1)
    views = Views(32, scales, hflip=True)
    found = score_batch(clip, [image], ["red dog"], ["image"], views)[0].scores["image"]
    torch.testing.assert_close(found, (words @ whole.T).mean(1), atol=1e-5, rtol=0)
    assert float((words @ (whole[0] - whole[1])).abs().max()) > 1e-3  # the mirror matters
