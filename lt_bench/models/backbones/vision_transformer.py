"""Vision transformers, built for the size of the images: 8 by 8 patches of small ones, timm's architecture."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator
from torch import nn

from lt_bench.errors import UserError
from lt_bench.models.backbones import Staged
from lt_bench.models.backbones.cutting import stages_of
from lt_bench.registry import Info

SMALL_IMAGES = 32
"""Pixels on a side where nobody says."""
LARGE_IMAGES = 128
"""Pixels on a side from which patches are those of ImageNet."""


class VisionTransformer(Staged):
    """ViT (Dosovitskiy et al., ICLR 2021) with a class token and learned positions, timm's initialisation.

    Dual-branch and experts heads get quarters of its 12 blocks as stages.
    """

    num_heads: ClassVar[int]
    depth: ClassVar[int] = 12

    class Config(Staged.Config):
        """What depends on the size of the images."""

        image_size: int | None = Field(default=None, ge=1)
        """Pixels on a side; None: those of the recipe's images."""
        patch_size: int | None = Field(default=None, ge=1)
        """Pixels on a patch's side; None: 16 from 128 pixels on, and an eighth of the side of smaller images."""
        drop_path: float = Field(default=0.0, ge=0, lt=1)
        """Rate of stochastic depth in the last block, rising linearly from 0 in the first."""

        @model_validator(mode="after")
        def _whole_patches(self) -> Self:
            if self.image_size is not None and self.patch_size is not None and self.image_size % self.patch_size:
                raise ValueError(f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}")
            return self

    config: Config

    @classmethod
    def fitted(cls, config: Config, side: int) -> Config:
        side = config.image_size or side
        patch = config.patch_size or (16 if side >= LARGE_IMAGES else max(1, side // 8))
        if side % patch:
            raise UserError(
                f"model.backbone.patch_size: images of {side} pixels do not come apart into patches of {patch}"
            )
        return config.model_copy(update={"image_size": side, "patch_size": patch})

    def check_images(self, side: int) -> None:
        if self.config.image_size not in (None, side):
            raise UserError(
                f"model.backbone: {self.name} is built for images of {self.config.image_size} pixels, found {side}"
            )

    def stages(self) -> list[nn.Sequential]:
        from timm.models import VisionTransformer  # noqa: PLC0415 (3 s)

        config = self.fitted(self.config, SMALL_IMAGES)
        assert config.image_size is not None
        assert config.patch_size is not None
        stages = stages_of(
            VisionTransformer(
                img_size=config.image_size,
                patch_size=config.patch_size,
                embed_dim=self.feature_dim,
                depth=self.depth,
                num_heads=self.num_heads,
                drop_path_rate=config.drop_path,
                num_classes=0,
            )
        )
        assert stages is not None
        return stages


class ViTTiny(VisionTransformer):
    """5.7 million parameters at 224 pixels and 1000 classes, 5.4 million at 32 pixels and 100."""

    name = "vit-tiny"
    info = Info("ViT-Ti: 12 blocks of width 192", "Dosovitskiy et al., ICLR 2021", 2021)
    feature_dim = 192
    num_heads = 3


class ViTSmall(VisionTransformer):
    """22.1 million parameters at 224 pixels and 1000 classes."""

    name = "vit-small"
    info = Info("ViT-S: 12 blocks of width 384", "Dosovitskiy et al., ICLR 2021", 2021)
    feature_dim = 384
    num_heads = 6


class DeiT(VisionTransformer):
    """The same networks with stochastic depth, as DeiT trains them without distillation (Touvron et al., ICML 2021)."""

    class Config(VisionTransformer.Config):
        """Those of a vision transformer."""

        drop_path: float = Field(default=0.1, ge=0, lt=1)
        """Rate of stochastic depth in the last block, rising linearly from 0 in the first."""


class DeiTTiny(DeiT):
    """vit-tiny with stochastic depth of 0.1."""

    name = "deit-tiny"
    info = Info("DeiT-Ti: vit-tiny with stochastic depth", "Touvron et al., ICML 2021", 2021)
    feature_dim = ViTTiny.feature_dim
    num_heads = ViTTiny.num_heads


class DeiTSmall(DeiT):
    """vit-small with stochastic depth of 0.1."""

    name = "deit-small"
    info = Info("DeiT-S: vit-small with stochastic depth", "Touvron et al., ICML 2021", 2021)
    feature_dim = ViTSmall.feature_dim
    num_heads = ViTSmall.num_heads
