"""UniMix: mixup with partners drawn towards rare classes and a share shifted by the class sizes of the pair."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import Batch, ClassStats, Step
from lt_bench.mixing import Mix, Mixed, sent
from lt_bench.ranks.division import for_images
from lt_bench.registry import Info, between


class UniMix(Mix):
    """x = l x_i + (1 - l) x_j and the same for the labels, with an l of its own for every pair.

    Partners come from the batch itself, with replacement, in proportion to n_y ** tau. l = b + t, less 1 where
    that exceeds 1, with b ~ Beta(alpha, alpha) and t = n_j / (n_i + n_j). Because the shift wraps round, at alpha
    0.8 no t brings the expected share of the rarer class above 0.54: the draw of partners is what favours it.
    The paper's other half, the Bayias loss, is the loss `balanced-softmax` where the test prior is uniform.
    """

    name = "unimix"
    info = Info("mixup with rare partners and a share shifted by class sizes", "Xu et al., NeurIPS 2021", 2021)

    class Config(Mix.Config):
        """The law of the shares and of the partners, as in the authors' code, and for how long."""

        alpha: FiniteFloat = Field(default=0.8, gt=0)
        """Both parameters of the Beta law of b. 1 makes shares uniform whatever the class sizes."""
        tau: FiniteFloat = Field(default=-0.5, le=0)
        """Exponent of an image's weight in the batch: -0.5 on CIFAR-10-LT, -0.1 on CIFAR-100-LT. 0 is uniform;
        over many batches a class is drawn in proportion to n ** (1 + tau)."""
        stop_epoch: int | None = Field(default=None, ge=0)
        """The first epoch that no longer mixes. None: all mix, as in the authors' 200 of 200."""

    config: Config
    counts: Tensor
    timing = "stop_epoch {stop_epoch}"

    @classmethod
    def active_epochs(cls, config: Config, epochs: range, total: int) -> range:
        return between(epochs, 0, total if config.stop_epoch is None else config.stop_epoch)

    def prepare(self, stats: ClassStats) -> None:
        self.register_buffer("counts", stats.counts.float(), persistent=False)

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        total = step.epoch.total
        if step.epoch.index not in self.active_epochs(self.config, range(total), total):
            return Mixed.plain(batch)
        other = partner or self.draw_partners(batch, step.rng)
        b = for_images(len(batch.labels), lambda n: step.rng.beta(self.config.alpha, self.config.alpha, n))
        share = shifted(sent(b, batch.labels.device), self.partner_part(batch.labels, other.labels))
        images = torch.lerp(other.images, batch.images, share[:, None, None, None])
        return Mixed(images, ((batch.labels, share), (other.labels, 1 - share)))

    def partner_part(self, own: Tensor, other: Tensor) -> Tensor:
        """The part t [B] of the other class in the training images of both classes of a pair."""
        n_i, n_j = self.counts[own], self.counts[other]
        return n_j / (n_i + n_j)

    def partner_law(self, labels: Tensor) -> Tensor:
        """Probabilities [B] of the images of a batch to be drawn as a partner."""
        # As a softmax, so that no exponent can make all weights of a batch vanish.
        return (self.config.tau * self.counts[labels].log()).softmax(dim=0)

    def draw_partners(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """As many images as the batch has, by `partner_law`. An image may meet itself."""
        # By inversion on the device, where the labels are: only the uniform draws come from the host.
        edges = self.partner_law(batch.labels).cumsum(dim=0)
        u = sent(for_images(len(edges), rng.random), edges.device)
        drawn = torch.searchsorted(edges, u * edges[-1], right=True)
        # Rounding can put u * total exactly on the last edge; the clamp keeps such a draw inside.
        chosen = drawn.clamp_max(len(edges) - 1)
        return batch[chosen]


def shifted(b: Tensor, t: Tensor) -> Tensor:
    """The sum b + t on a circle of circumference 1, both in [0, 1]; a sum of exactly 1 stays 1."""
    total = b + t
    return torch.where(total > 1, total - 1, total)
