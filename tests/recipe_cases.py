"""The shipped recipes on the shipped settings, and what does not fit."""

from __future__ import annotations

from itertools import product

from lt_bench.recipe import Recipe
from lt_bench.recipe.files import shipped_recipes

SMALL = "augmentation.kind: .* needs resized-crop, found crop-flip"
OWN = ("bbn", "dbn-mix", "m-dyr-h", "md-dyr-sh", "paco", "paddles", "paddles-semi", "paddles-semi-cifar-n")
FOUNDATION = (
    "zero-shot",
    "linear-probe",
    "full-fine-tuning",
    "lift",
    "lift-plus",
    "lift-tte",
    "lift-plus-tte",
    "lift-in21k",
)
"""LIFT's, on a pretrained transformer."""
TUNED = (*FOUNDATION, "mixup-extra-block", "mislas-extra-block")
"""Recipes with protocols of their own, of pretrained networks that take images of 224 pixels and no others."""
OF_64_PIXELS = ("imagenet-mini", "tiny-imagenet-lt")
FILES = ("imagenet-lt", "inaturalist2018", "places-lt", *OF_64_PIXELS)
"""Settings of image files."""
TOO_LARGE = {
    "glmc-wide": "resnet32-w4 is made for images of up to 64 pixels, found 224",
    "shake-shake": "shake-shake-26-2x32d is made for images of up to 64 pixels, found 224",
    "mixrnet": "resnet50-preact-gelu is made for images of up to 64 pixels, found 224",
}
MISFITS = {
    **{
        f"{setting}/{name}-own-protocol": SMALL
        for setting, name in product(FILES, OWN)
        if (setting, name) != ("imagenet-lt", "paco")
    },
    "places-lt/zero-init": "the network starts from trained weights",
    **{f"{setting}/{name}": why for setting in FILES if setting not in OF_64_PIXELS for name, why in TOO_LARGE.items()},
}
"""What is refused, with the reason."""
NOISY = {"cifar10-lt-noisy": "symmetric", "cifar10n-lt": "cifar10n"}
"""Settings with wrong labels, on which everything fits that fits without: not tried with every method once more."""
BALANCED = ("cifar10", "cifar100")
"""Settings of factor 1, on which what fits CIFAR-10-LT and CIFAR-100-LT fits: not tried with every method either."""
LARGE = ("inaturalist2018", "places-lt", "tiny-imagenet-lt")
"""Settings on which fits what fits on ImageNet-LT or its small relative: not tried with every method once more."""
LISTED = [
    name for name in shipped_recipes() if name not in MISFITS and name.partition("/")[0] not in (*NOISY, *BALANCED)
]
"""What docs/methods.md says to fit."""
SHIPPED = [name for name in LISTED if name.partition("/")[0] not in LARGE]


def phase_parts(recipe: Recipe, kind: str) -> list[str]:
    return [getattr(phase, kind)["name"] for phase in recipe.phases]
