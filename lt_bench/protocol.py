"""Training protocols: the settings that methods must share before their numbers may be compared."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator

from lt_bench.data.augment import Augmentation
from lt_bench.epochs import with_whole_epochs
from lt_bench.identity import protocol_sha256
from lt_bench.resources import resource_folder
from lt_bench.settings import Settings, added
from lt_bench.yaml_files import read_yaml


class Optimizer(Settings):
    """Stochastic gradient descent; weight decay acts on all parameters, as in the field's code."""

    name: Literal["sgd"] = "sgd"
    lr: FiniteFloat = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: FiniteFloat = Field(default=2e-4, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Optimizer:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Schedule(Settings):
    """The learning rate as a factor of the base rate. Epochs count from 0."""

    name: Literal["step", "cosine"] = "step"
    warmup_epochs: FiniteFloat = Field(default=5, ge=0)
    """How long the rate rises. Files may give a percentage of the epochs."""
    warmup_per: Literal["epoch", "iteration"] = "epoch"
    """`epoch`: (e + 1) / warmup_epochs during epoch e; `iteration`: linear from 0 over the iterations."""
    warmup_from: float | None = added(None, ge=0, le=1)
    """Per epoch, start at this factor and rise linearly: f + (1 - f) e / warmup_epochs during epoch e."""
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """First epochs at which the factor of the same place in `factors` holds (step only). Files may give percentages."""
    factors: tuple[Annotated[FiniteFloat, Field(ge=0)], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Schedule:
        if len(self.milestones) != len(self.factors):
            raise ValueError(f"{len(self.milestones)} milestones but {len(self.factors)} factors")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must increase")
        if self.warmup_from is not None and self.warmup_per == "iteration":
            raise ValueError("warmup_from belongs to a warm-up per epoch")
        if self.name == "cosine" and self.milestones:
            raise ValueError("a cosine schedule has no milestones")
        return self

    def factor(self, epoch: int, iteration: int, iterations: int, epochs: int) -> float:
        """The factor at `iteration` of `iterations` in `epoch` of `epochs`."""
        if self.warmup_per == "iteration":
            progress = epoch + iteration / iterations
            if progress < self.warmup_epochs:
                return progress / self.warmup_epochs
        elif epoch < self.warmup_epochs and self.warmup_from is not None:
            return self.warmup_from + (1 - self.warmup_from) * epoch / self.warmup_epochs
        elif epoch < self.warmup_epochs:
            return min(1.0, (epoch + 1) / self.warmup_epochs)
        if self.name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (epoch - self.warmup_epochs) / (epochs - self.warmup_epochs)))
        passed = [factor for start, factor in zip(self.milestones, self.factors, strict=True) if epoch >= start]
        return passed[-1] if passed else 1.0


class Protocol(Settings):
    """A budget class. Runs of two protocols never share a table."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """That of a shipped protocol where its settings are changed: records tell the two apart."""
    version: int = Field(default=1, ge=1, le=10**6)
    epochs: int = Field(ge=1, le=10**6)
    batch_size: int = Field(default=128, ge=2, le=10**6)
    evaluate_every: int = Field(default=1, ge=1, le=10**6)
    """Epochs between evaluations for the curve and the diagnostic best-on-test; the last epoch always counts."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()

    def sha256(self) -> str:
        """Identity of the protocol's settings."""
        return protocol_sha256(self.model_dump(mode="json"))

    def lr(self, epoch: int, iteration: int = 0, iterations: int = 1) -> float:
        """The learning rate used at an iteration of an epoch, both counted from 0."""
        return self.optimizer.lr * self.schedule.factor(epoch, iteration, iterations, self.epochs)


def shipped_protocol(name: str) -> Protocol | None:
    """The protocol that ships under this name, in whole epochs."""
    shipped = {path.stem: path for path in (resource_folder("recipes") / "protocols").glob("*.yaml")}
    return Protocol.read(with_whole_epochs(read_yaml(shipped[name])["protocol"])) if name in shipped else None
