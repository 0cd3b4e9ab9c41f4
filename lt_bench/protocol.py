"""Training protocols: the settings that methods must share before their numbers may be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, FiniteFloat, Tag, model_validator

from lt_bench.data.augment import Augmentation
from lt_bench.epochs import with_whole_epochs
from lt_bench.identity import protocol_sha256
from lt_bench.resources import resource_folder
from lt_bench.settings import Settings, added
from lt_bench.validation import in_words
from lt_bench.yaml_files import read_yaml

# --- optimizers --------------------------------------------------------------------------------------


class _AnyOptimizer(Settings):
    """What all have; further settings are called as the arguments of the class that does the steps."""

    name: str
    lr: FiniteFloat = Field(gt=0)
    decay_norms_and_biases: bool = added(True)
    """Whether weight decay acts on all parameters, as in the field's code. False: not on biases, parameters of one
    dimension or none, and what a network names in `no_weight_decay`, such as the embeddings of positions."""
    decay_norms: bool = added(True)
    """False: weight decay acts on biases, but not on what a normalisation has learned."""


class SGD(_AnyOptimizer):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    lr: FiniteFloat = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: FiniteFloat = Field(default=2e-4, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> SGD:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


Beta = Annotated[float, Field(ge=0, lt=1)]


class _Adaptive(_AnyOptimizer):
    """What follows running means of the gradient and of its square."""

    lr: FiniteFloat = Field(default=1e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Of the two running means."""
    weight_decay: FiniteFloat = Field(default=0.01, ge=0)


class AdamW(_Adaptive):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    name: Literal["adamw"] = "adamw"
    eps: FiniteFloat = Field(default=1e-8, gt=0)


class Lamb(_Adaptive):
    """Adam with a trust ratio for each parameter (You et al., ICLR 2020), as in timm."""

    name: Literal["lamb"] = "lamb"
    eps: FiniteFloat = Field(default=1e-6, gt=0)
    max_grad_norm: FiniteFloat | None = Field(default=1.0, gt=0)
    """The gradient of all parameters is brought down to this norm first. None: never."""


def _named(given: Any) -> str:
    """The name of an optimizer in plain data, where it may be left out, or of its settings."""
    name = given.get("name", "sgd") if isinstance(given, Mapping) else getattr(given, "name", "sgd")
    return str(name)


Optimizer = Annotated[
    Annotated[SGD, Tag("sgd")] | Annotated[AdamW, Tag("adamw")] | Annotated[Lamb, Tag("lamb")], Discriminator(_named)
]


# --- learning rate -----------------------------------------------------------------------------------


class Schedule(Settings):
    """The learning rate as a factor of the base rate. Epochs count from 0."""

    name: Literal["step", "cosine"] = "step"
    warmup_epochs: FiniteFloat = Field(default=5, ge=0)
    """How long the rate rises. Files may give a percentage of the epochs."""
    warmup_per: Literal["epoch", "iteration"] = "epoch"
    """`epoch`: (e + 1) / warmup_epochs during epoch e; `iteration`: linear from 0 over the iterations."""
    warmup_from: float | None = added(None, ge=0, le=1)
    """Start at this factor f and rise linearly: f + (1 - f) e / warmup_epochs during epoch e, or at the iteration e."""
    warmup_lr: FiniteFloat | None = added(None, ge=0)
    """The same start as a rate, whatever the base rate is."""
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """First epochs at which the factor of the same place in `factors` holds (step only). Files may give percentages."""
    factors: tuple[Annotated[FiniteFloat, Field(ge=0)], ...] = ()
    cosine_per: Literal["epoch", "iteration"] = added("epoch")
    """How often the rate of a cosine falls."""
    cosine_from: Literal["warmup", "start"] = added("warmup")
    """Where half a cosine begins: behind the warm-up, or at the start, under it, as in timm."""
    minimum_lr: FiniteFloat = added(0.0, ge=0)
    """The rate at which a cosine ends."""
    cooldown_epochs: int = added(0, ge=0)
    """Last epochs of the training, at the minimum (cosine only). Files may give a percentage of the epochs."""

    @model_validator(mode="after")
    def _consistent(self) -> Schedule:
        if len(self.milestones) != len(self.factors):
            raise ValueError(f"{len(self.milestones)} milestones but {len(self.factors)} factors")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must increase")
        if self.warmup_from is not None and self.warmup_lr is not None:
            raise ValueError("warmup_from and warmup_lr both say where the warm-up starts")
        if self.name == "cosine" and self.milestones:
            raise ValueError("a cosine schedule has no milestones; beside it `milestones` and `factors` have to be []")
        for name in ("cosine_per", "cosine_from", "minimum_lr", "cooldown_epochs"):
            if self.name != "cosine" and getattr(self, name) != Schedule.model_fields[name].default:
                raise ValueError(f"{name} belongs to a cosine schedule")
        return self

    def factor(self, epoch: int, iteration: int, iterations: int, epochs: int, base: float = 1.0) -> float:
        """The factor on the rate `base` at `iteration` of `iterations` in `epoch` of `epochs`."""
        time = {"epoch": epoch, "iteration": epoch + iteration / iterations}
        if time[self.warmup_per] < self.warmup_epochs:
            return self._rising(time[self.warmup_per], base)
        if self.name == "cosine":
            return self._cosine(time[self.cosine_per], epochs - self.cooldown_epochs, self.minimum_lr / base)
        passed = [factor for start, factor in zip(self.milestones, self.factors, strict=True) if epoch >= start]
        return passed[-1] if passed else 1.0

    def _rising(self, time: float, base: float) -> float:
        start = self.warmup_from if self.warmup_lr is None else self.warmup_lr / base
        if start is None and self.warmup_per == "epoch":
            return min(1.0, (time + 1) / self.warmup_epochs)
        start = start or 0.0
        return start + (1 - start) * time / self.warmup_epochs

    def _cosine(self, time: float, end: float, lowest: float) -> float:
        if time >= end:
            return lowest
        begin = self.warmup_epochs if self.cosine_from == "warmup" else 0
        return lowest + (1 - lowest) * (0.5 * (1 + math.cos(math.pi * (time - begin) / (end - begin))))


# --- the whole ---------------------------------------------------------------------------------------


class Averaging(Settings):
    """Weights that follow those of the training and are what is evaluated, selected and saved."""

    decay: float = Field(ge=0, lt=1)
    """After every step of the optimizer the average becomes decay * average + (1 - decay) * weights."""


class Protocol(Settings):
    """A budget class. Runs of two protocols never share a table."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """That of a shipped protocol where its settings are changed: records tell the two apart."""
    version: int = Field(default=1, ge=1, le=10**6)
    epochs: int = Field(ge=1, le=10**6)
    batch_size: int = Field(default=128, ge=2, le=10**6)
    accumulate: int = added(1, ge=1, le=10**6)
    """Batches to a step of the optimizer, whose gradient is the mean over all of their images. Whatever else looks
    across images, as norms, mixes and weighted means do, sees one batch."""
    evaluate_every: int = Field(default=1, ge=1, le=10**6)
    """Epochs between evaluations for the curve and the diagnostic best-on-test; the last epoch always counts."""
    optimizer: Optimizer = SGD()
    clip_gradients: FiniteFloat | None = added(None, gt=0)
    """The norm that the gradient of all parameters is brought down to before a step. None: it is left as it is."""
    schedule: Schedule = Schedule()
    ema: Averaging | None = added(None)
    """An exponential moving average of the weights and running statistics, from those of the start on. None: none."""
    augmentation: Augmentation = Augmentation()
    repeated_augmentation: int = added(1, ge=1, le=100)
    """How often in a row an image comes, varied anew each time. An epoch is as long as without, with fewer images."""
    batch_augmentation: int = added(1, ge=1, le=10**4)
    """How often an image comes in its batch, varied anew each time. The batch is so many times larger."""

    @model_validator(mode="after")
    def _consistent(self) -> Protocol:
        for name in ("minimum_lr", "warmup_lr"):
            if (getattr(self.schedule, name) or 0) > self.optimizer.lr:
                found = getattr(self.schedule, name)
                raise in_words(f"schedule.{name} {found:g} is above optimizer.lr {self.optimizer.lr:g}")
        return self

    def sha256(self) -> str:
        """Identity of the protocol's settings."""
        return protocol_sha256(self.model_dump(mode="json"))

    def lr(self, epoch: int, iteration: int = 0, iterations: int = 1) -> float:
        """The learning rate at an iteration of an epoch, which is a step of the optimizer; both count from 0."""
        base = self.optimizer.lr
        return base * self.schedule.factor(epoch, iteration, iterations, self.epochs, base)

    @property
    def images_per_step(self) -> int:
        """Images that the optimizer learns from in one step, but for the last of an epoch."""
        return self.batch_size * self.accumulate


def shipped_protocol(name: str) -> Protocol | None:
    """The protocol that ships under this name, in whole epochs."""
    shipped = {path.stem: path for path in (resource_folder("recipes") / "protocols").glob("*.yaml")}
    return Protocol.read(with_whole_epochs(read_yaml(shipped[name])["protocol"])) if name in shipped else None
