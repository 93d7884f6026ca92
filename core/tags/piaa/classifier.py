"""A linear classifier of patches from unlabelled images, and the scores of an image by it.

    chosen = LowEntropy(text, settings)
    for seen in images:
        chosen.add(seen.patches.numpy())
    classifier = fit(chosen, settings)
    piaa_scores(classifier, seen.patches.numpy(), cosines, settings)         # [C]

Patches that the text is sure of train a Gaussian discriminant analysis: one mean per class, one
covariance for all. Its own sure answers then take the text's place, once. All in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...errors import TTDError

NO_SPREAD = 1e-12  # a mean squared distance, of vectors of unit length

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PiaaSettings:
    """The method's constants.

    temperature: of the text's softmax over patches. keep: K, patches for each class. tau: of the
    classifier's softmax over the kept patches. rounds: how often it fits itself again.
    spread: divides the logits before the softmax of a patch. beta: of the softmax over classes of
    an image's best patches. alpha, share: of the class token's softmax and its part of the score.
    """

    temperature: float = 60.0
    keep: int = 512
    tau: float = 100.0
    rounds: int = 1
    spread: float = 500.0
    beta: float = 200.0
    alpha: float = 80.0
    share: float = 0.1

    def __post_init__(self) -> None:
        if self.keep < 1 or self.rounds < 0 or not 0 <= self.share <= 1:
            raise TTDError("PIAA: keep must be at least 1, rounds at least 0, share in [0, 1]")
        scales = (self.temperature, self.tau, self.spread, self.beta, self.alpha)
        if not all(0 < value < np.inf for value in scales):
            raise TTDError("PIAA: temperatures must be positive numbers")


# By set; others take VOC's.
SETTINGS = {
    "voc07": PiaaSettings(),
    "voc12": PiaaSettings(),
    "coco14": PiaaSettings(tau=0.01, beta=400.0),
    "nus": PiaaSettings(tau=500.0, beta=400.0, alpha=10.0),
}


@dataclass(frozen=True)
class Classifier:
    """Logits of a patch f [D]: weight f + bias. weight [C, D], bias [C].

    patches: how many trained each class in the last round, [C]; 0 where the text stands in.
    """

    weight: Floats
    bias: Floats
    patches: Numbers

    def logits(self, features: npt.ArrayLike) -> Floats:
        """[P, D] -> [P, C]."""
        values: Floats = np.asarray(features, np.float64) @ self.weight.T + self.bias
        return values


@dataclass
class LowEntropy:
    """The `keep` patches of lowest entropy of each class, of all images that were added.

    text [C, D], unit length. Of equal entropies the first ones stay.
    """

    text: Floats
    settings: PiaaSettings
    _features: list[Floats] = field(init=False)
    _entropies: list[Floats] = field(init=False)
    _weights: list[Floats] = field(init=False)

    def __post_init__(self) -> None:
        self.text = np.asarray(self.text, np.float64)
        classes, dim = self.text.shape
        self._features = [np.zeros((0, dim), np.float32) for _ in range(classes)]  # type: ignore[misc]
        self._entropies = [np.zeros(0) for _ in range(classes)]
        self._weights = [np.zeros(0) for _ in range(classes)]

    def add(self, patches: npt.ArrayLike) -> None:
        """Look at one image's patches [P, D], unit length."""
        features = np.asarray(patches, np.float64)
        shares = softmax(self.settings.temperature * features @ self.text.T)  # [P, C]
        entropies = -(shares * np.log(np.maximum(shares, np.finfo(float).tiny))).sum(1)
        best = shares.argmax(1)
        for k in np.unique(best).tolist():
            self._offer(k, features, entropies, shares[:, k], best == k)

    def _offer(
        self,
        k: int,
        features: Floats,
        entropies: Floats,
        weights: Floats,
        own: npt.NDArray[np.bool_],
    ) -> None:
        """Keep the surest of class k, of those there and its own new ones: own bool [P]."""
        known = self._entropies[k]
        if len(known) == self.settings.keep:
            own = own & (entropies < known[-1])
        if not own.any():
            return
        together = np.concatenate([known, entropies[own]])
        order = together.argsort(kind="stable")[: self.settings.keep]
        self._entropies[k] = together[order]
        self._weights[k] = np.concatenate([self._weights[k], weights[own]])[order]
        self._features[k] = np.concatenate([self._features[k], features[own]])[order]

    def gathered(self) -> tuple[Floats, Floats, Numbers]:
        """Features [n, D] of all classes, each one's share of its class [n], and the class [n]."""
        counts = [len(values) for values in self._weights]
        classes = np.repeat(np.arange(len(counts)), counts)
        return np.concatenate(self._features), np.concatenate(self._weights), classes


def fit(chosen: LowEntropy, settings: PiaaSettings) -> Classifier:
    """Steps 2 and 3: the analysis of the kept patches, then of what it is itself sure of.

    TTDError where no class has two patches that differ: there is no covariance.
    """
    features, weights, classes = chosen.gathered()
    classifier = discriminant(features, weights, classes, chosen.text)
    if classifier is None:
        raise TTDError("PIAA: no class has two patches that differ; give it more training images")
    for _ in range(settings.rounds):
        shares = softmax(settings.tau * classifier.logits(features))
        best = shares.argmax(1)
        own = shares[np.arange(len(best)), best]  # of the best class, [n]
        sure = surest(own, best)
        again = discriminant(features[sure], own[sure], best[sure], chosen.text)
        if again is None:
            break  # too few to fit to: what was fitted before stays
        classifier = again
    return classifier


def surest(shares: Floats, classes: Numbers) -> npt.NDArray[np.bool_]:
    """Which patches have a share of at least mean + standard deviation within their class: [n].

    The deviation is that of a sample (n - 1), so a class with one patch keeps none.
    """
    kept = np.zeros(len(shares), bool)
    for k in np.unique(classes).tolist():
        rows = np.flatnonzero(classes == k)
        values = shares[rows]
        if len(rows) > 1:
            kept[rows] = values >= values.mean() + values.std(ddof=1)
    return kept


def discriminant(
    features: npt.ArrayLike, weights: Floats, classes: Numbers, text: Floats
) -> Classifier | None:
    """Gaussian discriminant analysis with equal priors; None where no class has any spread.

    Args:
        features: f, [n, D], unit length. weights: p, of each patch in its class's mean, [n].
        classes: of each patch, int [n]. text: [C, D], the mean of a class without patches.

    m_c = sum p f / sum p; S: covariance (n - 1) of f - m_class, D x D;
    L = D pinv((n - 1) S + tr(S) I); weight = L m, bias = ln(1 / C) - m' L m / 2.
    """
    values = np.asarray(features, np.float64)
    means, counts = np.array(text, np.float64), np.bincount(classes, minlength=len(text))
    for k in np.flatnonzero(counts).tolist():
        own = classes == k
        means[k] = weights[own] @ values[own] / weights[own].sum()
    dim, count = values.shape[1], len(values)
    if count < 2 or np.square(values - means[classes]).mean(0).sum() < NO_SPREAD:
        return None  # its inverse would be rounding errors
    covariance = np.cov(values - means[classes], rowvar=False).reshape(dim, dim)
    scatter = (count - 1) * covariance + np.trace(covariance) * np.eye(dim)
    inverse = dim * np.linalg.pinv(scatter, hermitian=True)
    weight = means @ inverse
    bias = np.log(1 / len(text)) - (weight * means).sum(1) / 2
    return Classifier(weight, bias, counts.astype(np.int64))


def piaa_scores(
    classifier: Classifier, patches: npt.ArrayLike, cosines: npt.ArrayLike, settings: PiaaSettings
) -> Floats:
    """Step 4, the scores [C] of one image.

    patches: [P, D], unit length; cosines: of the classes with the class token, [C].
    s = max over patches of softmax(logits / spread); score = share softmax(alpha cos) +
    (1 - share) softmax(beta s).
    """
    best = softmax(classifier.logits(patches) / settings.spread).max(0)
    local = softmax(settings.beta * best)
    whole = softmax(settings.alpha * np.asarray(cosines, np.float64))
    scores: Floats = settings.share * whole + (1 - settings.share) * local
    return scores


def softmax(values: Floats) -> Floats:
    """Over the last axis of [..., C]; finite however large the values."""
    powers = np.exp(values - values.max(-1, keepdims=True))
    shares: Floats = powers / powers.sum(-1, keepdims=True)
    return shares
