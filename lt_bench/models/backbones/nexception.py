"""NEXcepTion: Xception made anew, depthwise separable convolutions with what later networks have found."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from lt_bench.errors import UserError
from lt_bench.models.backbones import Backbone, Staged, convolution
from lt_bench.models.residual import ResidualBlock
from lt_bench.registry import Info

SMALL = 32
"""Pixels on a side of images that the stem does not halve."""


class Block(ResidualBlock):
    """main(x) + shortcut(x); nothing follows the sum."""

    def __init__(self, main: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.main = main
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x) + self.shortcut(x)
        return y

    @property
    def end(self) -> nn.Module:
        return self.main


def separable(width_in: int, width: int, kernel: int) -> nn.Sequential:
    """A depthwise convolution and, directly behind it, a pointwise one."""
    return nn.Sequential(convolution(width_in, width_in, kernel, groups=width_in), convolution(width_in, width, 1))


def halving(width_in: int, width: int, middle: int, drop_path: float) -> Block:
    """A block that halves the sides of the maps, `middle` channels between its two convolutions.

    The maximum has stride 1 and the blur stride 2, as in the authors' code; their tables have it otherwise.
    """
    from timm.layers.blur_pool import BlurPool2d  # noqa: PLC0415 (seconds)

    main = nn.Sequential(
        *(separable(width_in, middle, 5), nn.BatchNorm2d(middle), nn.GELU()),
        *(separable(middle, width, 5), nn.BatchNorm2d(width)),
        *(nn.MaxPool2d(3, stride=1, padding=1), BlurPool2d(width, filt_size=3, stride=2)),
        *_scaled_and_dropped(width, drop_path),
    )
    return Block(main, nn.Sequential(convolution(width_in, width, 1, stride=2), nn.BatchNorm2d(width)))


def bottleneck(width: int, drop_path: float) -> Block:
    """Three convolutions, inverted: three times the channels inside."""
    main = nn.Sequential(
        *(separable(width, 3 * width, 5), nn.BatchNorm2d(3 * width), nn.GELU()),
        *(separable(3 * width, width, 5), nn.BatchNorm2d(width)),
        *(separable(width, width, 5), *_scaled_and_dropped(width, drop_path)),
    )
    return Block(main, nn.Identity())


def _scaled_and_dropped(width: int, drop_path: float) -> tuple[nn.Module, nn.Module]:
    """Squeeze and excitation through a sixteenth of the channels, in eights, and stochastic depth."""
    from timm.layers.drop import DropPath  # noqa: PLC0415
    from timm.layers.squeeze_excite import SqueezeExcite  # noqa: PLC0415

    excite = SqueezeExcite(width, rd_ratio=1 / 16, rd_divisor=8, act_layer=nn.GELU, norm_layer=nn.BatchNorm2d)
    return excite, DropPath(drop_path)


def _exit(width_in: int, width: int) -> nn.Module:
    return nn.Sequential(separable(width_in, width, 3), nn.BatchNorm2d(width), nn.GELU())


class NEXcepTion(Staged):
    """Stages: stem and entry flow, middle flow, exit flow (Shavit et al. 2023); torch's own initialisation."""

    feature_dim = 2048
    width: ClassVar[int]
    """Of the middle flow."""

    class Config(Backbone.Config):
        """Regularisation and resolution."""

        drop_path: float = Field(default=0.05, ge=0, lt=1)
        """Probability of leaving a block out for an image, the same in all blocks."""
        stem_stride: int | None = Field(default=None, ge=1, le=2)
        """2 is the published one, which of images of 32 pixels would leave one value a channel. None: in a recipe 1 for
        images of up to 32 pixels, which is this project's choice, and otherwise 2."""

    config: Config

    @classmethod
    def fitted(cls, config: Config, side: int) -> Config:
        stride = config.stem_stride or (1 if side <= SMALL else 2)
        return config.model_copy(update={"stem_stride": stride})

    def check_images(self, side: int) -> None:
        super().check_images(side)
        smallest = 16 * self.stem_stride
        if side < smallest:
            known = f"halves images of less than {smallest} pixels down to nothing"
            raise UserError(f"model.backbone: {self.name} {known}, found {side}")

    @property
    def stem_stride(self) -> int:
        """Pixels on a side of what the stem makes one of."""
        return self.config.stem_stride or 2

    def stages(self) -> list[nn.Sequential]:
        drop_path, width = self.config.drop_path, self.width
        entry = [halving(a, b, b, drop_path) for a, b in ((96, 128), (128, 256), (256, width))]
        exits = [_exit(1024, 1536), _exit(1536, 2048)]
        return [
            nn.Sequential(self.stem(), *entry),
            nn.Sequential(*(bottleneck(width, drop_path) for _ in range(8))),
            nn.Sequential(halving(width, 1024, width, drop_path), *exits),
        ]

    def stem(self) -> nn.Module:
        """Patches of 2x2 pixels: images to maps of 96 channels."""
        return nn.Sequential(nn.Conv2d(3, 96, 2, self.stem_stride), nn.GELU(), nn.BatchNorm2d(96))


class NEXcepTionT(NEXcepTion):
    """24.5 million parameters at 1000 classes."""

    name = "nexception-t"
    info = Info("NEXcepTion, tiny: a modern Xception", "Shavit et al. 2023", 2023)
    width = 512


class NEXcepTionS(NEXcepTion):
    """43.4 million parameters at 1000 classes."""

    name = "nexception-s"
    info = Info("NEXcepTion, small: a wider middle flow", "Shavit et al. 2023", 2023)
    width = 752


class NEXcepTionTP(Staged):
    """26.6 million parameters at 1000 classes: four stages like ConvNeXt's; torch's own initialisation.

    The features are normalised behind the pooling, so the last stage ends in maps of one pixel.
    """

    name = "nexception-tp"
    info = Info("NEXcepTion, tiny, as a pyramid of four stages", "Shavit et al. 2023", 2023)
    feature_dim = 768
    widths: ClassVar[tuple[int, ...]] = (96, 192, 384, 768)
    blocks: ClassVar[tuple[int, ...]] = (3, 4, 9, 3)

    class Config(Backbone.Config):
        """Regularisation."""

        drop_path: float = Field(default=0.05, ge=0, lt=1)
        """Probability of leaving the last block out for an image; it rises linearly from 0 in the first."""

    config: Config

    def stages(self) -> list[nn.Sequential]:
        rates = iter(torch.linspace(0, self.config.drop_path, sum(self.blocks), device="cpu").tolist())
        made: list[list[nn.Module]] = [
            [bottleneck(width, next(rates)) for _ in range(count)]
            for width, count in zip(self.widths, self.blocks, strict=True)
        ]
        made[0].insert(0, nn.Sequential(nn.Conv2d(3, self.widths[0], 4, 4), nn.BatchNorm2d(self.widths[0])))
        for blocks, width_in, width in zip(made[1:], self.widths, self.widths[1:], strict=False):
            blocks[:0] = [nn.BatchNorm2d(width_in), nn.Conv2d(width_in, width, 2, 2)]
        made[-1][-1] = nn.Sequential(made[-1][-1], nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(self.feature_dim))
        return [nn.Sequential(*blocks) for blocks in made]
