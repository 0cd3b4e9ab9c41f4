"""The `data:` block of a recipe: which split of which data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from lt_bench.data.cards import Profile
from lt_bench.errors import UserError
from lt_bench.settings import Settings

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

    def resolve(self, card: Card) -> DataSpec:
        """Fill in the card's defaults. Raises UserError where a fixed list leaves nothing to choose."""
        if card.profile is None:
            for field in ("factor", "profile", "subset_seed", "n_max", "validation_per_class"):
                if getattr(self, field) != type(self).model_fields[field].default:
                    raise UserError(
                        f"data.{field}: {card.name} is given by its list files, so {field} must not be set"
                        f" (found {getattr(self, field)!r})"
                    )
            return self
        return self.model_copy(
            update={
                "factor": float(self.factor if self.factor is not None else card.factor or 1),
                "profile": self.profile or card.profile,
                "n_max": self.n_max or card.n_max,
            }
        )
