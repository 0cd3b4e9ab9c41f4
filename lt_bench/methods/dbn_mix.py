"""DBN-Mix: a dual-branch network trained on bilateral mixup with class-wise temperatures.

Paper: Baik, Yoon, Choi, DBN-Mix: Training Dual Branch Network Using Bilateral Mixup Augmentation for
Long-Tailed Visual Recognition, Pattern Recognition 147, 2024, arXiv 2207.02173. Where abstract and
released code differ in the second sampler, the code's class-balanced one is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.samplers import ClassBalanced, Instance, Reverse
from lt_bench.data.types import Batch, ClassStats, Epoch, IntArray, Step
from lt_bench.losses.class_balanced import log_probabilities
from lt_bench.methods import Method, Task
from lt_bench.mixing import permuted
from lt_bench.models.network import Network
from lt_bench.registry import Info

CONVENTIONAL, REBALANCING = 0, 1


class DBNMix(Method):
    """Mixes a uniform with a re-balanced stream both ways; each mixture trains the branch it leans to."""

    name = "dbn-mix"
    info = Info("dual branch, bilateral mixup, class-wise temperatures", "Baik et al., PR 2024", 2024, cost="2x")
    heads = frozenset({"dual-branch"})

    class Config(Method.Config):
        """Mixing, temperatures and the sampler of the second stream."""

        beta: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of lambda; 0 switches mixing off."""
        temperature_epsilon: float = Field(default=0.6, ge=0, le=1)
        """Weight of the class sizes in the temperatures; 0 switches them off."""
        temperature_eta: FiniteFloat = Field(default=7.0, gt=0)
        """Root taken of the temperatures; the released scripts use 3 on CIFAR-10-LT and 7 on CIFAR-100-LT."""
        rebalanced_sampler: Literal["class-balanced", "reverse"] = "class-balanced"

    config: Config
    temperature: Tensor

    def prepare(self, task: Task) -> None:
        rebalanced = Reverse if self.config.rebalanced_sampler == "reverse" else ClassBalanced
        self.uniform = Instance(task.labels, task.stats.num_classes)
        self.rebalanced = rebalanced(task.labels, task.stats.num_classes)
        temperature = class_temperature(task.stats, self.config.temperature_epsilon, self.config.temperature_eta)
        self.register_buffer("temperature", temperature, persistent=False)

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        return {
            "uniform": self.uniform.order(epoch, epoch.rng("uniform")),
            "rebalanced": self.rebalanced.order(epoch, epoch.rng("rebalanced")),
        }

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        uniform, rebalanced = permuted(batches["uniform"], step.rng), batches["rebalanced"]
        lam = draw_lambda(self.config.beta, step.rng)
        conventional = self._branch_loss(network, CONVENTIONAL, uniform, rebalanced, lam)
        rebalancing = self._branch_loss(network, REBALANCING, rebalanced, uniform, lam)
        return 0.5 * (conventional + rebalancing)

    def _branch_loss(self, network: Network, branch: int, major: Batch, minor: Batch, lam: float) -> Tensor:
        images, target = mix_soft(major, minor, lam, len(self.temperature))
        logits = network.branch_logits(images, branch)
        return softmax_bce(logits.float() / self.temperature, target)


def draw_lambda(beta: float, rng: np.random.Generator) -> float:
    """Lambda = max(l, 1 - l) with l ~ Beta(beta, beta), so in [0.5, 1]; 1 for beta = 0."""
    drawn = float(rng.beta(beta, beta)) if beta > 0 else 1.0
    return max(drawn, 1 - drawn)


def mix_soft(major: Batch, minor: Batch, lam: float, num_classes: int) -> tuple[Tensor, Tensor]:
    """Lam * major + (1 - lam) * minor, of images [B, 3, H, W] and of one-hot labels [B, C] alike."""
    images = torch.lerp(minor.images, major.images, lam)
    one_hot = [F.one_hot(batch.labels, num_classes).float() for batch in (minor, major)]
    return images, torch.lerp(one_hot[0], one_hot[1], lam)


def class_temperature(stats: ClassStats, epsilon: float, eta: float) -> Tensor:
    """Temperatures [C]: 1 for the largest class, growing as classes get rarer.

    With s_k = epsilon * C * n_k / n_max + 1 - epsilon, T_k = (max_j s_j / s_k) ** (1 / eta).
    """
    counts = stats.counts.double()
    size = epsilon * stats.num_classes * counts / counts.max() + 1 - epsilon
    return (size.max() / size).pow(1 / eta).float()


def softmax_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy over softmax probabilities, summed over classes, averaged over the batch.

    Logits and soft targets are [B, C]. The released code takes log(1 - p) as it is, which can give 0 * -inf.
    """
    log_p, log_not_p = log_probabilities(logits)
    return -(target * log_p + (1 - target) * log_not_p).sum(1).mean()
