"""The shipped recipes on the shipped settings, and what does not fit."""

from __future__ import annotations

from lt_bench.recipe.files import shipped_recipes

SMALL = "augmentation.kind: .* needs resized-crop, found crop-flip"
MISFITS = {
    **{f"imagenet-{size}/{name}-own-protocol": SMALL for size in ("lt", "mini") for name in ("bbn", "dbn-mix")},
    "imagenet-lt/glmc-wide": "resnet32-w4 is made for images of up to 64 pixels, found 224",
    "imagenet-lt/shake-shake": "shake-shake-26-2x32d is made for images of up to 64 pixels, found 224",
    "imagenet-lt/mixrnet": "resnet50-preact-gelu is made for images of up to 64 pixels, found 224",
}
"""What is refused, with the reason."""
NOISY = {"cifar10-lt-noisy": "symmetric", "cifar10n-lt": "cifar10n"}
"""Settings with wrong labels, on which everything fits that fits without: not tried with every method once more."""
BALANCED = ("cifar10", "cifar100")
"""Settings of factor 1, on which what fits CIFAR-10-LT and CIFAR-100-LT fits: not tried with every method either."""
SHIPPED = [
    name for name in shipped_recipes() if name not in MISFITS and name.partition("/")[0] not in (*NOISY, *BALANCED)
]
