"""The `data:` block of a recipe: which split of which data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from lt_bench.data.cards import FolderSource, Profile
from lt_bench.data.noise import Noise
from lt_bench.errors import UserError
from lt_bench.settings import Settings, added

if TYPE_CHECKING:
    from lt_bench.data.cards import Card


class DataSpec(Settings):
    """One long-tailed split. What is None is the card's default."""

    name: str
    factor: float | None = Field(default=None, ge=1, le=10**9, allow_inf_nan=False)
    """Images of the largest class over those of the smallest, at least 1 (balanced)."""
    profile: Profile | None = None
    subset_seed: int = Field(default=0, ge=0, lt=2**32)
    """Chooses the images of the split; another axis than the seed of the training."""
    n_max: int | None = Field(default=None, ge=1, le=10**9)
    """Images of the largest class."""
    validation_per_class: int = Field(default=0, ge=0, le=10**9)
    """Size of the balanced validation part, taken from unused training images."""
    noise: Noise | None = added(None, discriminator="name")
    """Which of the training labels are wrong; see `lt_bench.data.noise`."""

    def resolve(self, card: Card) -> DataSpec:
        """Fill in the card's defaults.

        Image files keep their natural counts where neither the spec nor the card has a factor. Raises UserError where
        nothing is drawn and something is set all the same, where what is drawn is not said in full, and where a class
        would be empty.
        """
        factor, n_max = self.factor or card.factor, self.n_max or card.n_max
        if isinstance(card.source, FolderSource):
            published, validation = card.source.published, card.source.validation
            if published or factor is None:
                return self._natural(card, published)
            if n_max is None:
                raise UserError(f"data.n_max: the card of {card.name} has none; set the images of the largest class")
            if validation is not None:
                raise UserError(
                    f"data.factor: {card.name} has a list of validation images, which belongs to its natural counts;"
                    " take source.validation off its card"
                )
        profile = self.profile or card.profile or "exponential"
        if factor and n_max and int(n_max * (1 / factor)) == 0:
            left = f"{factor:g} leaves the smallest class no image where the largest has {n_max}"
            raise UserError(f"data.factor: {left}; lower it or raise data.n_max")
        return self.model_copy(update={"factor": float(factor or 1), "profile": profile, "n_max": n_max})

    def _natural(self, card: Card, published: bool) -> DataSpec:
        why = "is given by its list files" if published else "keeps its natural counts without data.factor"
        for field in ("factor", "profile", "subset_seed", "n_max", "validation_per_class"):
            if (found := getattr(self, field)) != type(self).model_fields[field].default:
                raise UserError(f"data.{field}: {card.name} {why}, so {field} must not be set (found {found!r})")
        return self
