"""Label noise, the `data.noise:` block of a recipe: which of the training labels are wrong, and how.

It comes after the long-tailed draw: images are chosen by their right labels, and those of the split are then labelled
anew. (The literature also draws the long tail from noisy labels; such numbers do not compare.) A training sees the
given labels alone, in its batches and as class counts; the right ones are kept to measure by.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from lt_bench.settings import Settings


class Drawn(Settings):
    """Noise that is drawn, apart from the split and from the training."""

    rate: float = Field(gt=0, lt=1)
    """Nominal share of the labels that change, each image by itself."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Chooses the images and their labels; another axis than the seeds of split and training."""


class Symmetric(Drawn):
    """With probability `rate` a label uniform over all C classes, the right one included: rate (1 - 1 / C) is wrong."""

    name: Literal["symmetric"] = "symmetric"


class SymmetricExclusive(Drawn):
    """With probability `rate` a label uniform over the C - 1 wrong classes."""

    name: Literal["symmetric-exclusive"] = "symmetric-exclusive"


class PairFlip(Drawn):
    """With probability `rate` the next class, (y + 1) mod C."""

    name: Literal["pair-flip"] = "pair-flip"


class Asymmetric(Drawn):
    """With probability `rate` a class that is like it: CIFAR-10's usual map, of which five classes change.

    On CIFAR-100 it is the next one in the same real super-class. (Code that flips inside of five consecutive labels
    has other noise: the labels are in alphabetical order.)
    """

    name: Literal["asymmetric"] = "asymmetric"


class InstanceDependent(Drawn):
    """By what is on the image: labels of a random linear classifier of its pixels (Xia et al., NeurIPS 2020).

    Each image has a rate of its own, from N(rate, 0.1²) cut to [0, 1].
    """

    name: Literal["instance-dependent"] = "instance-dependent"


class Cifar10N(Settings):
    """Human labels of the CIFAR-10 training images (Wei et al., ICLR 2022), from files below the data root."""

    name: Literal["cifar10n"] = "cifar10n"
    labels: Literal["aggregate", "random1", "random2", "random3", "worst"] = "worst"
    """The majority of three people, one of them, or a wrong one where there is any."""


Noise = Symmetric | SymmetricExclusive | PairFlip | Asymmetric | InstanceDependent | Cifar10N
NOISES: tuple[str, ...] = tuple(kind.model_fields["name"].default for kind in get_args(Noise))


def words(noise: Noise) -> str:
    """Which noise it is, as a figure under `reported` names it: `symmetric 0.4`, `cifar10n worst`."""
    return f"{noise.name} {noise.labels if isinstance(noise, Cifar10N) else f'{noise.rate:g}'}"


def given_words(given: Any) -> str | None:
    """The same of a mapping as a recipe has it; None for none, and for one that validation will refuse."""
    try:
        return None if given is None else words(TypeAdapter[Noise](Noise).validate_python(given))
    except ValidationError:
        return None
