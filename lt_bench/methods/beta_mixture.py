"""Two beta laws fitted to the losses of training images: of right labels, which are small, and of wrong ones.

Paper: Arazo et al., Unsupervised Label Noise Modeling and Loss Correction, ICML 2019, arXiv 1904.11238.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

CLEAN, WRONG = 0, 1
ITERATIONS = 10
EDGE = 1e-4
"""Losses are kept so far from 0 and 1, where a beta law may have no density."""
FLOOR = 1e-12
LOOKUP = 100
"""Places of the table of the posterior."""


@dataclass(frozen=True)
class BetaMixture:
    """p(x) = sum over k of pi_k Beta(x; a_k, b_k), of x in (0, 1); component 1 is that of wrong labels."""

    a: tuple[float, float] = (1.0, 2.0)
    b: tuple[float, float] = (2.0, 1.0)
    pi: tuple[float, float] = (0.5, 0.5)

    def joint(self, x: np.ndarray) -> np.ndarray:
        """pi_k Beta(x; a_k, b_k), float64 [2, N], of x [N]."""
        from scipy.special import betaln, xlog1py, xlogy  # noqa: PLC0415 (slow to import)

        a, b, pi = (np.array(values)[:, None] for values in (self.a, self.b, self.pi))
        density: np.ndarray = pi * np.exp(xlogy(a - 1, x) + xlog1py(b - 1, -x) - betaln(a, b))
        return density

    def posterior(self, x: np.ndarray) -> np.ndarray:
        """Probability [N] that a label is wrong whose loss is x [N]."""
        joint = self.joint(x)
        wrong: np.ndarray = joint[WRONG] / (joint.sum(axis=0) + FLOOR)
        return wrong

    def table(self) -> np.ndarray:
        """The posterior at 100 places from 0 to 1, float64, made to mean that a larger loss is no better a label.

        From its highest place on it is no lower again: in the tail both laws vanish, and there it falls. Below the mean
        loss of right labels it is no higher than there. The authors have only the first; where the law of wrong labels
        is the wider one, it is the higher one at 0 too, and without the second all labels would be wrong.
        """
        places = np.linspace(FLOOR, 1 - FLOOR, LOOKUP)
        found = self.posterior(places)
        usual = int(np.searchsorted(places, self.mean(CLEAN)))
        top = usual + int(found[usual:].argmax())
        found[top:] = found[top]
        found[:usual] = np.minimum(found[:usual], found[usual])
        return found

    def mean(self, component: int) -> float:
        """Of the losses of right labels, 0, or of wrong ones, 1."""
        return self.a[component] / (self.a[component] + self.b[component])

    def fitted(self, x: np.ndarray, iterations: int = ITERATIONS) -> Self:
        """By expectation and maximisation from here on, moments weighted by responsibility in place of likelihoods."""
        x, found = np.clip(x, EDGE, 1 - EDGE), self
        for _ in range(iterations):
            joint = np.maximum(found.joint(x), FLOOR)
            found = found._maximised(x, joint / joint.sum(axis=0))
        return found

    def _maximised(self, x: np.ndarray, share: np.ndarray) -> Self:
        """A component whose losses have no spread, or too much of it for any beta law, stays as it was."""
        laws = [moments(x, one) or old for one, old in zip(share, zip(self.a, self.b, strict=True), strict=True)]
        (a_clean, b_clean), (a_wrong, b_wrong) = laws
        clean, wrong = share.mean(axis=1).tolist()
        return type(self)((a_clean, a_wrong), (b_clean, b_wrong), (clean, wrong))


def moments(x: np.ndarray, weight: np.ndarray) -> tuple[float, float] | None:
    """The beta law (a, b) with the weighted mean and variance of x [N]; None where there is none."""
    mean = float((weight * x).sum() / weight.sum())
    variance = float((weight * (x - mean) ** 2).sum() / weight.sum())
    if variance <= FLOOR or mean * (1 - mean) <= variance:
        return None
    a = mean * (mean * (1 - mean) / variance - 1)
    return a, a * (1 - mean) / mean
