"""How training images are varied: settings only, apart from the code that needs torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, FiniteFloat, model_validator

from lt_bench.data.cards import Card, Channels, FolderSource
from lt_bench.data.looks import Looks
from lt_bench.errors import UserError
from lt_bench.settings import Settings, added

_ONLY = {
    "crop-flip": ("padding", "padding_mode", "rotation", "autoaugment", "cutout", "enlarge"),
    "resized-crop": (
        *("size", "scale", "minimalist", "color_jitter"),
        *("test_resize", "test_views", "interpolation"),
    ),
}

_RISES: dict[str, Callable[[float], float]] = {
    "convex": lambda t: 1 - math.sqrt(1 - t * t),
    "linear": lambda t: t,
    "concave": lambda t: math.sqrt(1 - (1 - t) ** 2),
    "min": lambda t: 0.0,
    "max": lambda t: 1.0,
}
"""How far the smallest crop has grown at a time from 0, the first epoch, to 1, the last."""

Interpolation = Literal["bilinear", "bicubic"]
"""How pixels between pixels are made, as Pillow does: where an image shrinks, over as many pixels as one will show."""

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class Normalisation(NamedTuple):
    """How the images that a network is given follow from pixels in [0, 1]: (pixel - mean) / std, channel by channel."""

    mean: Channels = (0.0, 0.0, 0.0)
    std: Channels = (1.0, 1.0, 1.0)


AS_PIXELS = Normalisation()
"""Of a network that is given pixels in [0, 1]."""


class Augmentation(Settings):
    """Order of the steps: crop, flip, colour jitter, then what `steps` names, and the normalisation."""

    kind: Literal["crop-flip", "resized-crop"] = "crop-flip"
    """`crop-flip` for small, device-resident images; `resized-crop` for image files, and for small images that are
    to be seen as these are."""
    flip: bool | None = None
    """Mirror half of the images. None: as the card says."""
    mean: tuple[Share, Share, Share] | None = None
    """Of the normalisation, on the scale 0 to 1. None: the card's."""
    std: tuple[Share, Share, Share] | None = None

    padding: int = Field(default=4, ge=0, le=64)
    """Pixels on each side before a random crop back to the image's size."""
    padding_mode: Literal["zero", "reflect"] = "zero"
    """`zero` is black, before normalisation, as in the field's protocols."""
    rotation: FiniteFloat = added(0.0, ge=0, le=180)
    """Turn every image by up to so many degrees either way, to the nearest pixel, with black corners."""
    autoaugment: bool = False
    """The CIFAR-10 policy of Cubuk et al., CVPR 2019."""
    cutout: int = Field(default=0, ge=0, le=1024)
    """Side of one black square, in pixels (DeVries and Taylor 2017). 0: none."""
    enlarge: int | None = added(None, ge=1, le=4096)
    """Pixels on a side that the images, of test as well, are brought to first, bilinearly. None: as they are."""

    then: dict[str, dict[str, Any]] = added({})
    """Further ways of varying images, by name with their settings."""

    size: int = Field(default=224, gt=0, le=4096)
    """Side of the images fed to the network (`resized-crop`)."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's share of the image area (`resized-crop`)."""
    minimalist: Literal["convex", "linear", "concave", "min", "max"] | None = added(None)
    """Square crops (`resized-crop`) whose smallest share of the image rises over the epochs from the lower end of
    `scale` to the upper: minimalist data augmentation (Shi et al., 2025). `min` stays at the lower end, `max` at the
    upper. None: the range of `scale` in every epoch, with sides in ratios from 3/4 to 4/3."""
    color_jitter: FiniteFloat = Field(default=0.4, ge=0, le=10)
    """Strength of the brightness, contrast and saturation jitter (`resized-crop`)."""
    test_resize: int | None = Field(default=None, gt=0, le=4096)
    """Shorter side at test time, before the crop (`resized-crop`). None: size * 256 / 224."""
    test_views: Literal["centre", "five-crop"] = added("centre")
    """What is predicted of a test image (`resized-crop`): the square in the middle, or the mean logits of that and of
    the four in the corners."""
    interpolation: Interpolation = added("bilinear")
    """Of every resize (`resized-crop`)."""

    def steps(self) -> dict[str, dict[str, Any]]:
        """All augmentations that it names beside crop, flip and the jitter of image files, with their settings."""
        found: dict[str, dict[str, Any]] = {}
        if self.rotation:
            found["rotation"] = {"degrees": self.rotation}
        if self.autoaugment:
            found["auto-augment"] = {}
        if self.cutout:
            found["cutout"] = {"side": self.cutout}
        return found | self.then

    def scale_at(self, progress: float, epochs: int) -> tuple[float, float]:
        """Range of the crop's share of the image area in the epoch before which a share `progress` of `epochs` is over.

        A rise ends in the last epoch, which is the only one too.
        """
        if self.minimalist is None:
            return self.scale
        time = min(1.0, round(progress * epochs) / (epochs - 1)) if epochs > 1 else 1.0
        low, high = self.scale
        return low + _RISES[self.minimalist](time) * (high - low), high

    @property
    def own_side(self) -> int | None:
        """Pixels on a side of what the network sees, None where that is the size of a data set's images."""
        return self.size if self.kind == "resized-crop" else self.enlarge

    def side(self, card: Card) -> int:
        """Pixels on a side of what the network sees of a data set's images."""
        return self.own_side or card.image_size

    def normalisation(self, looks: Looks) -> Normalisation:
        """Its own, or that of a data set."""
        return Normalisation(self.mean or looks.mean, self.std or looks.std)

    def check(self, card: Card) -> None:
        """Raise UserError if it is not made for the images of a data set: files are not all of one size."""
        if isinstance(card.source, FolderSource) and self.kind != "resized-crop":
            raise UserError(f"augmentation.kind: {card.name} needs resized-crop, found {self.kind}")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for kind, fields in _ONLY.items():
            for name in fields:
                if kind != self.kind and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} belongs to {kind}, the kind is {self.kind}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must rise within 0..1, found {list(self.scale)}")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std must be positive, found {list(self.std)}")
        if self.test_resize is not None and self.test_resize < self.size:
            raise ValueError(f"test_resize must be at least size ({self.size}), found {self.test_resize}")
        return self
