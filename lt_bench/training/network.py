"""The network that a recipe says, for a training or only to see whether its parts fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lt_bench.data.cards import load_card
from lt_bench.errors import UserError
from lt_bench.models import Network, build_network, place_tuner
from lt_bench.recipe import Recipe
from lt_bench.regularisers import place_all
from lt_bench.stages import DecoupledNetwork, Stage
from lt_bench.training.weights import Weights


def build_recipe_network(
    recipe: Recipe,
    num_classes: int,
    seed: int,
    start: Weights | None = None,
    *,
    trained: bool = False,
    empty: bool = False,
) -> Network:
    """The recipe's network, initialised by the seed, that of a second stage from the weights `start`.

    Where weights will be loaded into it, for it is `trained`, pretrained ones are not asked for, unless a tuner leaves
    them as they are: then what is loaded does not have them. An `empty` network is only looked at.
    """
    parts, stage = (recipe.backbone_choice(), recipe.head_choice()), recipe.stage_choice()
    backbone, head = (part.component(part.config) for part in parts)
    tuner = recipe.tuner_choice()
    loaded = (trained or start is not None) and tuner is None
    network = build_network(backbone.untrained() if loaded or empty else backbone, head, num_classes, seed)
    if tuner is not None:
        place_tuner(tuner.component(tuner.config), network, num_classes, seed)
    if recipe.model.trunk_lr_factor != 1:
        network.slow_trunk(recipe.model.trunk_lr_factor)
    regularisers = recipe.regularisers()
    for regulariser in regularisers:
        regulariser.initialise(network)
    if start is not None:
        start.load_into(network)
    if stage is not None:
        assert isinstance(stage.config, Stage.Config)
        network = DecoupledNetwork(network, stage.component, stage.config, seed)
    place_all(regularisers, network)
    return network


def check_network(recipe: Recipe) -> None:
    """Raise UserError, naming the recipe, if its head cannot complete its backbone. Takes no memory for weights."""
    try:
        with torch.device("meta"), _Undrawn():
            classes, stage = load_card(recipe.data.name).classes, recipe.stage_choice()
            backbone = recipe.backbone_choice()
            backbone.component(backbone.config).check_source()
            network = build_recipe_network(recipe.first() or recipe, classes, seed=0, empty=True)
            if stage is not None:
                stage.component.adapted(network.branches[0].get_submodule("stage"))
    except UserError as error:
        raise UserError(f"{recipe.data.name}/{recipe.name}: {error}") from None


def check_given(recipe: Recipe) -> None:
    """Raise UserError, naming the recipe, if it cannot be trained before its user names a file, such as a teacher's."""
    stages = [stage for stage in (recipe.first(), recipe) if stage is not None]
    try:
        for mix in (phase.mix for stage in stages for phase in stage.phase_choices()):
            mix.component.check_given(mix.config)
    except UserError as error:
        raise UserError(f"{recipe.data.name}/{recipe.name}: {error}") from None


class _Undrawn(TorchFunctionMode):
    """Draws no weights: on a device without memory torch would import its compiler for it, which takes a second."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return args[0] if func in (torch.Tensor.normal_, torch.Tensor.uniform_) else func(*args, **(kwargs or {}))
