"""PIAA's classifier against the method written down as plain loops, with torch's own covariance."""

import math

import numpy as np
import pytest
import torch
from small_multilabel import write_image

from core.errors import TTDError
from core.tags.class_scores import Look, Seen, best_share, centre_crop, nearest_pixel
from core.tags.piaa.classifier import (
    SETTINGS,
    LowEntropy,
    PiaaSettings,
    discriminant,
    fit,
    piaa_scores,
    surest,
)
from core.tags.piaa.fitted import Question, fitted_classifier


def unit(rng, count, dim):
    values = rng.normal(size=(count, dim))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def oracle(images, text, s):
    """Steps 1 to 3 as sentences in the paper's order: lists, loops, torch. -> weight, bias."""
    text = torch.tensor(text)
    rows = []  # (entropy, order, class, p of that class, f)
    for image in images:
        for f in torch.tensor(image):
            p = torch.softmax(s.temperature * (text @ f), 0)
            entropy = -(p * p.log()).sum().item()
            rows.append((entropy, len(rows), int(p.argmax()), p.max().item(), f))
    kept = []
    for c in range(len(text)):
        kept += sorted(row for row in rows if row[2] == c)[: s.keep]
    features = torch.stack([row[4] for row in kept])
    weight, bias = gda(features, [row[3] for row in kept], [row[2] for row in kept], text)
    for _ in range(s.rounds):
        q = torch.softmax(s.tau * (features @ weight.T + bias), 1)
        chosen, shares, classes = [], [], []
        for c in range(len(text)):
            own = [i for i in range(len(q)) if int(q[i].argmax()) == c]
            values = torch.tensor([q[i, c].item() for i in own], dtype=torch.float64)
            for i in own:
                if len(own) > 1 and q[i, c] >= values.mean() + values.std():
                    chosen.append(i), shares.append(q[i, c].item()), classes.append(c)
        weight, bias = gda(features[chosen], shares, classes, text)
    return weight, bias


def gda(features, shares, classes, text):
    dim, count, means = text.shape[1], len(features), []
    for c in range(len(text)):
        own = [i for i in range(count) if classes[i] == c]
        total = sum(shares[i] for i in own)
        means.append(sum(shares[i] * features[i] for i in own) / total if own else text[c])
    means = torch.stack(means)
    centred = features - means[classes]
    cov = torch.cov(centred.T)
    inverse = dim * torch.linalg.pinv((count - 1) * cov + cov.trace() * torch.eye(dim))
    weight = means @ inverse
    bias = torch.stack(
        [math.log(1 / len(text)) - 0.5 * means[c] @ inverse @ means[c] for c in range(len(text))]
    )
    return weight, bias


@pytest.mark.parametrize(("keep", "tau", "rounds"), [(512, 0.05, 2), (512, 0.5, 1), (16, 0.05, 1)])
def test_equals_the_method_written_down(keep, tau, rounds):
    rng = np.random.default_rng(3)
    text, images = unit(rng, 5, 8), [unit(rng, 12, 8) for _ in range(9)]
    settings = PiaaSettings(keep=keep, tau=tau, temperature=6, rounds=rounds)
    chosen = LowEntropy(text, settings)
    for image in images:
        chosen.add(image)
    found = fit(chosen, settings)
    weight, bias = oracle(images, text, settings)
    assert np.allclose(found.weight, weight.numpy(), rtol=1e-4, atol=1e-5)
    assert np.allclose(found.bias, bias.numpy(), rtol=1e-4, atol=1e-5)


def test_scores_of_an_image_by_hand():
    rng = np.random.default_rng(5)
    text, patches = unit(rng, 3, 4), unit(rng, 6, 4)
    s = PiaaSettings(beta=7.0, alpha=11.0)
    classifier = discriminant(patches, np.ones(6), np.array([0, 0, 1, 1, 0, 1]), text)
    cosines = [0.2, 0.1, 0.4]
    best = [0.0] * 3
    for f in patches:
        logits = [classifier.weight[c] @ f + classifier.bias[c] for c in range(3)]
        powers = [math.exp(v / 500) for v in logits]
        best = [max(b, p / sum(powers)) for b, p in zip(best, powers, strict=True)]
    local, whole = [math.exp(7 * b) for b in best], [math.exp(11 * c) for c in cosines]
    wanted = [
        0.1 * u / sum(whole) + 0.9 * v / sum(local) for u, v in zip(whole, local, strict=True)
    ]
    assert piaa_scores(classifier, patches, cosines, s) == pytest.approx(wanted)


def test_kept_patches_do_not_depend_on_how_images_come():
    rng = np.random.default_rng(7)
    text, patches = unit(rng, 4, 6), unit(rng, 60, 6)
    settings = PiaaSettings(keep=5)
    together, apart = LowEntropy(text, settings), LowEntropy(text, settings)
    together.add(patches)
    for patch in patches:
        apart.add(patch[None])
    for first, second in zip(together.gathered(), apart.gathered(), strict=True):
        assert np.allclose(first, second)


def test_a_class_with_one_patch_keeps_none():
    kept = surest(np.array([0.5, 0.9, 0.4, 0.7]), np.array([0, 0, 0, 1]))
    assert kept.tolist() == [False, True, False, False]  # 0.6 + 0.2646 < 0.9
    text = np.eye(3)
    corners = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0]])
    found = discriminant(corners, np.ones(3), np.array([0, 1, 1]), text)
    assert found.patches.tolist() == [1, 2, 0]


def test_patches_without_spread_are_not_fitted_to():
    text = np.eye(3)
    assert discriminant(np.eye(3)[:2], np.ones(2), np.array([0, 1]), text) is None
    chosen = LowEntropy(text, PiaaSettings())
    chosen.add(np.eye(3))
    with pytest.raises(TTDError, match="more training images"):
        fit(chosen, PiaaSettings())
    chosen.add([[0.6, 0.8, 0.0]])  # now one class has two; of them one is surest: no second fit
    first = fit(chosen, PiaaSettings(tau=0.01, rounds=0))
    assert np.array_equal(first.weight, fit(chosen, PiaaSettings(tau=0.01)).weight)


def test_constants_of_the_sets():
    found = {key: (s.tau, s.beta, s.alpha) for key, s in SETTINGS.items()}
    assert found["voc07"] == found["voc12"] == (100, 200, 80)
    assert {(s.temperature, s.keep, s.rounds, s.share) for s in SETTINGS.values()} == {
        (60, 512, 1, 0.1)
    }
    assert found["coco14"] == (0.01, 400, 80) and found["nus"] == (500, 400, 10)


def test_the_nearest_pixel_and_the_background():
    seen = Seen(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([0.0, 1.0]))
    text = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert nearest_pixel(seen, text).tolist() == pytest.approx([0.8, 1.0])
    alone = best_share(seen, text, text[:0], 2.0)
    assert alone[1] == pytest.approx(math.e**2 / (math.e**2 + 1))
    shared = best_share(seen, text, text[1:], 2.0)  # the class's own word as background: half
    assert shared[1] == pytest.approx(math.e**2 / (2 * math.e**2 + 1))
    assert centre_crop(torch.arange(12.0).view(1, 3, 4))[0].tolist()[0] == [0, 1, 2]


@pytest.fixture
def question(tmp_path):
    paths = [tmp_path / f"{k}.png" for k in range(4)]
    for seed, path in enumerate(paths):
        write_image(path, seed)
    text = torch.nn.functional.normalize(
        torch.randn(3, 256, generator=torch.Generator().manual_seed(0)), dim=1
    )
    return Question((("a", "b", "c"), ("{}",)), text, paths, Look(32), PiaaSettings(keep=6))


def test_a_classifier_is_fitted_once(question, tmp_path):
    from core.backbones import load_backbone

    model, cache = load_backbone("tiny", device="cpu"), tmp_path / "cache"
    first = fitted_classifier(model, question, cache, batch=1)
    again = fitted_classifier(model, question, cache)
    assert not first.found and again.found and again.path == first.path
    assert np.array_equal(first.classifier.weight, again.classifier.weight)
    assert again.provenance["images"] == 4 and "torch" in again.provenance["versions"]
    write_image(question.images[0], 99)
    question.images[1].write_bytes(b"no image")
    other = fitted_classifier(model, question, cache, batch=3)
    assert not other.found and other.path != first.path and other.provenance["damaged"] == 1
    other.path.write_bytes(other.path.read_bytes()[:-40])
    assert not fitted_classifier(model, question, cache).found
    together = fitted_classifier(model, question, None, batch=4).classifier
    assert np.allclose(together.weight, other.classifier.weight, rtol=1e-3, atol=1e-3)


def test_no_images_is_one_line(question):
    from dataclasses import replace

    with pytest.raises(TTDError, match="--train"):
        fitted_classifier(None, replace(question, images=()), None)
