"""A resolved recipe: every component with all its settings, so that its sha256 identifies what was run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, FiniteFloat

from lt_bench.corrections import settings_of
from lt_bench.data.augment import Augmentation
from lt_bench.data.cards import load_card
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError
from lt_bench.identity import recipe_sha256, run_identity
from lt_bench.protocol import SGD, Protocol, Schedule, shipped_protocol
from lt_bench.recipe.files import Node
from lt_bench.registry import Choice, Phase, lookup, named
from lt_bench.settings import Line, Settings, added
from lt_bench.validation import validated

if TYPE_CHECKING:
    from lt_bench.regularisers import Regulariser


def _named(node: Node) -> Node:
    if not isinstance(node.get("name"), str):
        raise ValueError("expected the name of a component in it")
    return node


Named = Annotated[Node, AfterValidator(_named)]
"""A component's name with all its settings."""

PHASE_FAMILIES = ("sampler", "mix", "loss")


class Reported(Settings):
    """A figure that a paper or repository published for this recipe."""

    paper: Line
    protocol: Line | None = None
    """Name of the protocol it was obtained under; only under that one is a difference shown."""
    factor: FiniteFloat | None = None
    """Imbalance factor it was obtained at; a recipe run at another factor drops it."""
    noise: Line | None = added(None)
    """Label noise it was obtained under, such as `symmetric 0.4`; a recipe run under another, or none, drops it."""
    top1: float | None = Field(default=None, ge=0, le=100)
    many: float | None = Field(default=None, ge=0, le=100)
    medium: float | None = Field(default=None, ge=0, le=100)
    few: float | None = Field(default=None, ge=0, le=100)
    verified: bool = True
    """Whether the figure was found at the source that `paper` names."""


class ModelSettings(Settings):
    """The network: a backbone and the head that completes it."""

    backbone: str | Named
    """A bare word where the backbone has no settings."""
    head: Named
    tuner: Named | None = added(None)
    """What of a pretrained network learns. None: all of it, and it need not be pretrained."""
    start: Named | None = added(None)
    """What the classifier on a pretrained network begins as. None: as its head draws it."""
    trunk_lr_factor: float = added(1.0, ge=0, le=1, allow_inf_nan=False)
    """Factor on the learning rate of what all branches share. 0: it stands still, its running statistics too."""


class Composition(Settings):
    """What an epoch is trained with."""

    sampler: Named
    mix: Named
    loss: Named


class PhaseSettings(Composition):
    """What holds from the end of the previous phase until before epoch `until`."""

    until: int


class SecondStage(Composition):
    """What becomes of the trained network's classifier, and what it is trained with."""

    stage: Named


class FirstStage(Settings):
    """What the recipe of the first stage says beside its identity: the run of that recipe is an ordinary one."""

    name: Line
    reported: tuple[Reported, ...] = ()
    notes: str = ""
    overrides: tuple[Line, ...] = ()
    plugins: dict[str, str] = Field(default={})


class Recipe(Settings):
    """A resolved recipe: nothing in it depends on another file any more."""

    name: Line
    """The stem of the method's file, which names the method in tables."""
    protocol: Protocol
    data: DataSpec
    model: ModelSettings
    augment: dict[str, Node] = added({})
    """Ways of varying training images beyond the protocol's, by name with all their settings, in no order."""
    views: dict[str, Augmentation] = added({})
    """How the images of single streams of the method are varied, in place of the protocol's and the recipe's ways."""
    regularise: dict[str, Node] = added({})
    """What keeps the network from overfitting, by name with all settings, in no order."""
    method: Named
    phases: tuple[PhaseSettings, ...]
    second_stage: SecondStage | None = added(None)
    """Follows the protocol's epochs, in a run of its own that starts from the weights of the run without it."""
    first_stage: FirstStage | None = added(None)
    reported: tuple[Reported, ...] = ()
    notes: str = ""
    overrides: tuple[Line, ...] = ()
    """The overrides that made this another method than the file's; protocol and data stand in tables anyway."""
    plugins: dict[str, str] = Field(default={})
    """sha256 of the plug-in file behind each component that did not ship with the package."""

    def sha256(self) -> str:
        """Identity of the recipe, independent of its name, reported figures and notes."""
        return recipe_sha256(self.resolved())

    def identity(self, split_digest: str, seed: int) -> str:
        """Identity of a run: resolved recipe, split and seed."""
        return run_identity(self.sha256(), split_digest, seed)

    def resolved(self) -> Node:
        """The recipe as plain data."""
        data: Node = self.model_dump(mode="json")
        return data

    def protocol_modified(self) -> bool:
        """Whether the protocol's settings differ from the shipped protocol of the same name."""
        return shipped_protocol(self.protocol.name) != self.protocol

    def first(self) -> Recipe | None:
        """The recipe whose trained network this one starts from, where it has a second stage."""
        if self.first_stage is None:
            return None
        return self.model_copy(update={**dict(self.first_stage), "second_stage": None, "first_stage": None})

    @property
    def training(self) -> Protocol:
        """What holds while this recipe itself trains: what regularisers and the second stage make of the protocol."""
        stage, protocol = self.stage_choice(), self.protocol
        for regulariser in self.regularisers():
            protocol = regulariser.trained_under(protocol)
        if stage is None:
            tuner = self.tuner_choice()
            return protocol if tuner is None or tuner.component.learns else protocol.model_copy(update={"epochs": 0})
        config: Any = stage.config  # a Stage.Config, whose module imports torch
        optimizer = protocol.optimizer if isinstance(protocol.optimizer, SGD) else SGD()
        optimizer = optimizer.model_copy(update={"lr": config.lr})
        if config.weight_decay is not None:
            optimizer = optimizer.model_copy(update={"weight_decay": config.weight_decay})
        changes = {"optimizer": optimizer, "schedule": Schedule(name="cosine", warmup_epochs=0), "ema": None}
        seen = protocol.augmentation
        side = seen.own_side or load_card(self.data.name).image_size
        try:
            changes["augmentation"] = stage.component.sees(config, seen, side)
        except (AttributeError, TypeError) as error:  # of one's own, written for other arguments
            raise UserError(f"stage {stage.component.name}: sees: {error}") from error
        return protocol.model_copy(update={"epochs": config.epochs, **changes})

    @property
    def plain_images(self) -> bool:
        """Whether it trains on images as evaluation sees them."""
        stage = self.stage_choice()
        return stage is not None and stage.component.plain_images

    def method_choice(self) -> Choice:
        """The training procedure; second stages have the standard one."""
        return choice("method", self.method if self.second_stage is None else {"name": "standard"})

    def stage_choice(self) -> Choice | None:
        return None if self.second_stage is None else choice("stage", self.second_stage.stage)

    def head_choice(self) -> Choice:
        return choice("head", self.model.head)

    def backbone_choice(self) -> Choice:
        return choice("backbone", self.model.backbone)

    def tuner_choice(self) -> Choice | None:
        return None if self.model.tuner is None else choice("tuner", self.model.tuner)

    def start_choice(self) -> Choice | None:
        return None if self.model.start is None else choice("start", self.model.start)

    def regularisers(self) -> Sequence[Regulariser]:
        """Those that it names, in the order in which they act."""
        if not self.regularise:
            return ()
        from lt_bench.regularisers import by_name  # noqa: PLC0415 (torch)

        return by_name(self.regularise)

    def phase_choices(self) -> tuple[Phase, ...]:
        """The phases of `training` with their components looked up."""
        if self.second_stage is not None:
            # One without training has an epoch 0 as well, in which it is evaluated.
            return (_phase(max(1, self.training.epochs), self.second_stage),)
        if not self.training.epochs:
            return (_phase(1, self.phases[-1]),)
        return tuple(_phase(phase.until, phase) for phase in self.phases)

    @property
    def compositions(self) -> tuple[Composition, ...]:
        """All that it names as sampler, mix and loss, in the order of coming into force."""
        return self.phases if self.second_stage is None else (*self.phases, self.second_stage)


def choice(kind: str, given: str | Node) -> Choice:
    """The component that a resolved node names, with its settings."""
    node = named(given)
    component = lookup(kind, node["name"])
    return Choice(component, validated(component.Config, settings_of(kind, node), Path("resolved recipe"), kind))


def _phase(until: int, parts: Composition) -> Phase:
    sampler, mix, loss = (choice(kind, getattr(parts, kind)) for kind in PHASE_FAMILIES)
    return Phase(until, sampler, mix, loss)
