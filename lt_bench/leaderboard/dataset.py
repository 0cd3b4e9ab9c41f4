"""What a record holds of its data."""

from __future__ import annotations

from operator import gt
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from lt_bench.data.looks import Looks
from lt_bench.leaderboard.fields import Counts, Name, Sha256, check_sum, same_length
from lt_bench.leaderboard.test_parts import part_of
from lt_bench.settings import Settings, added


class GivenLabels(Settings):
    """The training labels under `data.noise`, of which some are wrong; counts per class."""

    given_sha256: Sha256
    wrong: Counts
    """Images of the class with a wrong label."""
    given: Counts
    """Images with the label of the class."""
    given_wrong: Counts
    """Those of them that are of another class."""

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        same_length(wrong=self.wrong, given=self.given, given_wrong=self.given_wrong)
        if sum(self.wrong) != sum(self.given_wrong) or any(map(gt, self.given_wrong, self.given)):
            raise ValueError("wrong, given and given_wrong count different images")
        return self


class Dataset(Settings):
    """The exact training images."""

    name: Name
    version: int | Name
    factor: Annotated[FiniteFloat, Field(ge=1)] | None
    """Size of the largest class over the smallest, None where the profile has no such parameter."""
    profile: Literal["exponential", "step"] | None
    subset_seed: Annotated[int, Field(ge=0, lt=2**32)]
    index_sha256: Sha256
    content_sha256: Sha256
    content_kind: Name
    """What the content digest is taken over."""
    test_sha256: Sha256
    """Of the test images and labels in the order of the predictions."""
    test_fingerprint: Sha256 | None = added(None)
    """Of the same in any order, see `lt_bench.data.cards.Fingerprint`; None where only one order is met."""
    validation_sha256: Sha256 | None
    """Digest of the validation indices, None without a validation part."""
    split_sha256: Sha256 | None = added(None)
    """Of the split as a whole, as identities contain it."""
    looks: Looks | None = added(None)
    """Of one's own set, whose card may change; None for one that ships, whose version tells."""
    class_names: tuple[Name, ...]
    train_counts: tuple[Annotated[int, Field(ge=1)], ...]
    """By the right labels."""
    noise: GivenLabels | None = added(None)

    @property
    def test_part(self) -> str:
        return part_of(self.test_sha256, self.test_fingerprint)

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        images = check_sum("train_counts", self.train_counts)
        if self.noise is not None:
            same_length(train_counts=self.train_counts, given=self.noise.given)
            if sum(self.noise.given) != images or any(map(gt, self.noise.wrong, self.train_counts)):
                raise ValueError("noise: other images than train_counts")
        return self
