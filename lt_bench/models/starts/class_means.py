"""A classifier begins as the mean features of the classes."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from lt_bench.models.starts import Given, Start, unit_means
from lt_bench.registry import Info


class ClassMeans(Start):
    """w_k = unit(mean f) over the training images of a class, each resized and cut in the middle (Shi et al., 2024)."""

    name = "class-means"
    info = Info("mean features of each class", "Shi et al., ICML 2024", 2024)

    class Config(Start.Config):
        """Of how many images."""

        per_class: int | None = Field(default=None, ge=1)
        """At most so many of each class, those that come first in the split. None: all. LIFT+ takes 100."""

    def directions(self, given: Given) -> Tensor:
        features, labels = given.features(self.config.per_class)
        return unit_means(features, labels, len(given.class_names))
