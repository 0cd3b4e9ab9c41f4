"""What a classifier on a pretrained network is given before anything is trained."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from lt_bench.data.augment import Augmentation
from lt_bench.data.sets import image_sets
from lt_bench.data.split import Split
from lt_bench.data.types import Batch, IntArray, first_of_each
from lt_bench.models import Network, build_backbone
from lt_bench.models.starts import Given, begin
from lt_bench.recipe import Recipe
from lt_bench.training.features import features_of
from lt_bench.training.loop import EVALUATION_BATCH
from lt_bench.training.runtime import Runtime


def start_classifier(recipe: Recipe, split: Split, network: Network, runtime: Runtime, workers: int) -> float:
    """Let the classifier of a fresh network begin as `model.start` says. Returns the seconds that it took.

    Raises UserError where that cannot be.
    """
    begun = time.perf_counter()
    choice, parts = recipe.start_choice(), recipe.backbone_choice()
    assert choice is not None
    backbone, component = parts.component(parts.config), choice.component(choice.config)

    def features(per_class: int | None) -> tuple[Tensor, Tensor]:
        chosen = first_of_each(split.training.labels, per_class)
        untuned = build_backbone(backbone).to(runtime.device).eval()
        return features_of(untuned, _plain(recipe, split, runtime, chosen, workers), runtime)

    component.check(split.class_names)
    given = Given(backbone, split.class_names, features, runtime.device)
    begin(network.classifiers[0], component.directions(given))
    return time.perf_counter() - begun


def _plain(recipe: Recipe, split: Split, runtime: Runtime, chosen: IntArray, workers: int) -> Iterator[Batch]:
    """Training images at some positions: as they are, or the shorter side at the network's size and the middle cut."""
    part = replace(split, train=split.training.take(chosen), given=None)
    seen = uncropped(recipe.protocol.augmentation)
    return image_sets(part, seen, runtime.device, workers, varied=False).train.clean(EVALUATION_BATCH)


def uncropped(augmentation: Augmentation) -> Augmentation:
    """With nothing cut off the shorter side in evaluation."""
    resized = augmentation.kind == "resized-crop"
    return augmentation.model_copy(update={"test_resize": augmentation.size}) if resized else augmentation
