"""PADDLES without semi-supervision: early stopping by spectrum, then training on confirmed labels.

Paper: Huang, Kang, Liu, Salvado, Rakotoarivelo, Wang, Liu, PADDLES: Phase-Amplitude Spectrum Disentangled Early
Stopping for Learning with Noisy Labels, ICCV 2023, arXiv 2212.03462; it builds on PES (Bai et al., NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.methods.early_stopping import EarlyStopping, stops
from lt_bench.models.network import Network
from lt_bench.registry import Info


class Paddles(EarlyStopping):
    """Learns last stage and classifier anew, then the classifier alone, then the trunk on confirmed labels.

    Their classes weigh mean(n) / n_c, of the n images that are confirmed. An epoch on them is as long as they are many.
    The authors keep a tenth of the images to choose an epoch by; here `data.validation_per_class` does.
    """

    name = "paddles"
    info = Info("amplitudes stop to learn before phases, then confirmed labels", "Huang et al., ICCV 2023", 2023)
    refined = ("stage", "classifier")

    class Config(EarlyStopping.Config):
        """How long late layers are learned anew."""

        amplitude_stop: int = Field(default=19, ge=0)
        """T_A, the first epoch without gradient through amplitudes."""
        stage_passes: int = Field(default=7, ge=1)
        """T_2, passes over all images for the last stage and the classifier."""
        classifier_passes: int = Field(default=5, ge=0)
        """T_3, further passes for the classifier alone, set back once more."""

    config: Config

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        stop = stops(self.config, epoch.total)[1]
        if epoch.index > stop:
            return {"main": self.shuffled(epoch, positions=self.chosen())}
        passes = self.config.stage_passes + self.config.classifier_passes
        return {"main": self.shuffled(epoch, times=passes if epoch.index == stop else 1)}

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        batch, epoch, config = batches["main"], step.epoch, self.config
        stop = stops(config, epoch.total)[1]
        if epoch.index < stop:
            return self.given_loss(network, batch, epoch)
        if epoch.index > stop:
            self.release(network, step)
            return F.cross_entropy(network(batch.images).float(), batch.labels, self.class_weights)
        # A pass ends inside of a batch where the images do not divide; the parts are whole batches.
        second = round(step.total * config.stage_passes / (config.stage_passes + config.classifier_passes))
        if step.index == 0:
            self.begin_refinement(network, self.refined)
        if step.index == second:
            self.begin_refinement(network, ("classifier",))
        return self.refinement_loss(network, batch)
