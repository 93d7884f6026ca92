"""DenseCRF against mean field with full kernel matrices; skipped without the optional package."""

import sys

import numpy as np
import pytest
import torch

from core.errors import TTDError
from core.refine.crf import CRFSettings, dense_crf, refine_soft_masks


@pytest.fixture
def library():
    return pytest.importorskip("pydensecrf.densecrf", reason="optional: pip install pydensecrf2")


def _brute_force(image, probabilities, settings):
    """Exact mean field: [N, H, W] -> [N, H, W], all pixel pairs, no lattice."""
    labels, height, width = probabilities.shape
    y, x = np.mgrid[:height, :width]
    position = np.stack([x, y], axis=-1).reshape(-1, 2).astype(float)
    colour = image.reshape(-1, 3).astype(float)

    def kernel(features):
        k = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))
        scale = 1 / np.sqrt(k.sum(1))
        return scale[:, None] * k * scale[None]

    bilateral = np.concatenate(
        [position / settings.bilateral_sxy, colour / settings.bilateral_srgb], axis=1
    )
    message = settings.gaussian_compat * kernel(position / settings.gaussian_sxy)
    message += settings.bilateral_compat * kernel(bilateral)
    unary = np.log(probabilities).reshape(labels, -1)

    def softmax(logits):
        e = np.exp(logits - logits.max(0))
        return e / e.sum(0)

    q = softmax(unary)
    for _ in range(settings.iterations):
        q = softmax(unary + q @ message)
    return q.reshape(labels, height, width)


def _two_halves(height, width, seed=0):
    """A dark left and a light right half, a little noise; noisy probabilities of three labels."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 30, (height, width, 3)).astype(np.uint8)
    image[:, width // 2 :] += 200
    probabilities = (rng.random((3, height, width)) + 0.3).astype(np.float32)
    return image, probabilities / probabilities.sum(0)


# Wide kernels: the library's lattice approximates narrow ones (the defaults' 3 grey levels) too
# coarsely to compare.
WIDE = {"gaussian_sxy": 3.0, "bilateral_sxy": 80.0, "bilateral_srgb": 13.0}


@pytest.mark.parametrize("size", [(6, 6), (5, 13), (20, 9)])
@pytest.mark.parametrize(
    "settings",
    [
        CRFSettings(bilateral_compat=10, **WIDE),
        CRFSettings(bilateral_compat=10, iterations=1, **WIDE),
        CRFSettings(bilateral_compat=0, **WIDE),
        CRFSettings(
            iterations=3, gaussian_compat=1, bilateral_compat=2, bilateral_sxy=5, bilateral_srgb=40
        ),
    ],
)
def test_near_exact_mean_field(library, size, settings):
    """The library's lattice is approximate: 0.05 apart at most, where the CRF moves more."""
    image, probabilities = _two_halves(*size)
    got = dense_crf(image, probabilities, settings)
    want = _brute_force(image, probabilities, settings)
    np.testing.assert_allclose(got, want, atol=0.05)
    assert np.abs(want - probabilities).max() > 2 * np.abs(got - want).max()


def test_a_noisy_mask_snaps_to_the_colour_edge(library):
    rng = np.random.default_rng(1)
    image = np.full((40, 60, 3), (30, 90, 40), np.uint8)
    image[:, 25:] = (220, 60, 50)
    truth = np.zeros((40, 60), bool)
    truth[:, 25:] = True
    mask = np.clip(0.35 + 0.3 * truth + rng.normal(0, 0.2, truth.shape), 0, 1).astype(np.float32)
    assert ((mask > 0.5) != truth).mean() > 0.15
    refined = refine_soft_masks(image, mask[None])[0]
    assert ((refined > 0.5) != truth).mean() < 0.01


def test_masks_are_refined_one_by_one_and_stay_in_range(library):
    image, probabilities = _two_halves(12, 10)
    refined = refine_soft_masks(image, probabilities)
    assert refined.shape == (3, 12, 10) and refined.dtype == np.float32
    assert refined.min() >= 0 and refined.max() <= 1
    for n in range(3):
        pair = np.stack([probabilities[n], 1 - probabilities[n]])
        np.testing.assert_array_equal(refined[n], dense_crf(image, pair)[0])
        np.testing.assert_array_equal(
            refined[n], refine_soft_masks(image, probabilities[n : n + 1])[0]
        )


def test_without_pairwise_terms_nothing_changes_but_the_scale(library):
    image, probabilities = _two_halves(7, 5)
    off = CRFSettings(gaussian_compat=0, bilateral_compat=0)
    np.testing.assert_allclose(dense_crf(image, probabilities * 7, off), probabilities, atol=1e-5)
    np.testing.assert_allclose(
        refine_soft_masks(image, probabilities, off), probabilities, atol=2e-5
    )
    np.testing.assert_allclose(dense_crf(image, np.zeros((4, 7, 5)), off), 0.25, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1)])
def test_tiny_pictures(library, size):
    image, probabilities = _two_halves(*size)
    np.testing.assert_allclose(
        dense_crf(image, probabilities),
        _brute_force(image, probabilities, CRFSettings()),
        atol=0.05,
    )


def test_tensors_come_back_as_tensors_and_read_only_pictures_are_fine(library):
    image, probabilities = _two_halves(6, 8)
    image.setflags(write=False)
    got = refine_soft_masks(image, torch.from_numpy(probabilities).bfloat16().requires_grad_())
    assert isinstance(got, torch.Tensor) and got.dtype == torch.float32 and not got.requires_grad
    rounded = torch.from_numpy(probabilities).bfloat16().float().numpy()
    np.testing.assert_array_equal(got.numpy(), refine_soft_masks(image, rounded))
    assert refine_soft_masks(image, np.zeros((0, 6, 8))).shape == (0, 6, 8)


@pytest.mark.parametrize(
    ("image", "maps", "said"),
    [
        (np.zeros((4, 5, 3)), np.ones((2, 4, 5)), "uint8"),
        (np.zeros((4, 5), np.uint8), np.ones((2, 4, 5)), "uint8"),
        (np.zeros((4, 5, 3), np.uint8), np.ones((2, 5, 4)), r"\[N, H, W\]"),
        (np.zeros((4, 5, 3), np.uint8), -np.ones((2, 4, 5)), "negative"),
        (np.zeros((4, 5, 3), np.uint8), np.full((2, 4, 5), np.nan), "non-finite"),
        (np.zeros((4, 5, 3), np.uint8), np.ones((1, 4, 5)), "one label"),
    ],
)
def test_bad_input_is_said_in_one_line(monkeypatch, image, maps, said):
    monkeypatch.setattr(
        "core.refine.crf._import_library", lambda: None
    )  # the checks come before the library is used
    with pytest.raises(TTDError, match=said) as error:
        dense_crf(image, maps)
    assert "\n" not in str(error.value)


def test_masks_above_one_are_refused(monkeypatch):
    monkeypatch.setattr("core.refine.crf._import_library", lambda: None)
    with pytest.raises(TTDError, match=r"\[0, 1\]"):
        refine_soft_masks(np.zeros((4, 5, 3), np.uint8), np.full((1, 4, 5), 2.0))


@pytest.mark.parametrize("function", [dense_crf, refine_soft_masks])
def test_without_the_package_the_message_says_what_to_do(monkeypatch, function):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(TTDError, match=r"pip install pydensecrf2.*compiler.*--pamr") as error:
        function(np.zeros((4, 5, 3), np.uint8), np.ones((2, 4, 5)))
    assert "\n" not in str(error.value)


class Recorder:
    """Stands for pydensecrf: notes what it is given; its result is the softmax of the unary."""

    def __init__(self):
        self.pairwise = []

    def DenseCRF2D(self, width, height, labels):
        self.size = (width, height, labels)
        return self

    def setUnaryEnergy(self, energy):
        self.energy = energy

    def addPairwiseGaussian(self, sxy, compat):
        self.pairwise.append(("gaussian", sxy, compat))

    def addPairwiseBilateral(self, sxy, srgb, rgbim, compat):
        self.pairwise.append(("bilateral", sxy, srgb, compat))
        self.image = rgbim

    def inference(self, iterations):
        self.iterations = iterations
        return np.exp(-self.energy) / np.exp(-self.energy).sum(0)


def test_what_the_library_is_given(monkeypatch):
    """Width before height, energies -log p row by row, the image as it is, widths and strengths."""
    recorder = Recorder()
    monkeypatch.setattr("core.refine.crf._import_library", lambda: recorder)
    image, probabilities = _two_halves(5, 13)
    settings = CRFSettings(7, 1.5, 2.5, 60.0, 4.0, 5.0)
    found = dense_crf(image, probabilities, settings)
    np.testing.assert_allclose(found, probabilities, atol=1e-5)
    assert recorder.size == (13, 5, 3) and recorder.iterations == 7
    assert recorder.energy.shape == (3, 65) and recorder.energy.dtype == np.float32
    assert recorder.energy[2, 1 * 13 + 4] == pytest.approx(-np.log(probabilities[2, 1, 4]))
    np.testing.assert_array_equal(recorder.image, image)
    assert recorder.pairwise == [("gaussian", 1.5, 2.5), ("bilateral", 60.0, 4.0, 5.0)]


def test_certain_labels_stay_finite_and_masks_are_two_labels(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr("core.refine.crf._import_library", lambda: recorder)
    image = np.zeros((1, 2, 3), np.uint8)
    refined = refine_soft_masks(image, np.array([[[1.0, 0.25]]]))
    np.testing.assert_allclose(refined, [[[1.0, 0.25]]], atol=1e-4)
    want = -np.log([[1.0, 0.25], [1e-5, 0.75]])  # mask against 1 - mask, at least 1e-5
    np.testing.assert_allclose(recorder.energy, want, rtol=1e-5, atol=1e-6)
    assert recorder.size == (2, 1, 2)
