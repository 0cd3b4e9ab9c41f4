"""torchvision's residual networks, for images of 64 pixels and more."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator
from torch import nn

from lt_bench.errors import UserError
from lt_bench.files import sha256_of
from lt_bench.models.backbones import Backbone, Provenance, kaiming_normal
from lt_bench.models.backbones.trained_weights import (
    State,
    check_unchanged,
    downloaded_file,
    downloaded_state,
    load_without_classifier,
    published_as,
    read_state,
    with_digest,
)
from lt_bench.models.network import Level
from lt_bench.registry import Info
from lt_bench.settings import Line, added
from lt_bench.validation import in_words

if TYPE_CHECKING:
    from torchvision.models import ResNet


class ImageNetResNet(Backbone):
    """torchvision's ResNet family, for images of 64 pixels and more: its initialisation, or trained weights."""

    layers: ClassVar[tuple[int, int, int, int]]
    bottleneck: ClassVar[bool] = False
    groups: ClassVar[int] = 1
    width_per_group: ClassVar[int] = 64
    builder: ClassVar[str] = ""
    """torchvision's own name of the network; empty where it has none."""
    published: ClassVar[tuple[str, ...]] = ("IMAGENET1K_V1",)
    """Names of the weights that torchvision has for it."""

    class Config(Backbone.Config):
        """Where its weights are from, if not drawn."""

        pretrained: Literal["IMAGENET1K_V1", "IMAGENET1K_V2"] | None = added(None)
        """torchvision's weights of this name, which it downloads once."""
        weights: Line | None = added(None)
        """A file of the network's state as torchvision names it: .safetensors, or torch's own, such as
        resnet152-394f9c45.pth. The classifier in it is left out."""
        weights_sha256: str | None = added(None, pattern=r"^[0-9a-f]{64}$")
        """Of that file, filled in when a recipe is read."""

        @model_validator(mode="after")
        def _one_source(self) -> Self:
            if self.pretrained and self.weights:
                raise in_words("either torchvision's weights or a file of weights, found both")
            return self

    config: Config

    @classmethod
    def fitted(cls, config: Config, side: int) -> Config:
        if config.pretrained is not None and config.pretrained not in (cls.published if cls.builder else ()):
            known = ", ".join(cls.published) if cls.builder else "none"
            raise UserError(f"model.backbone.pretrained: torchvision has for {cls.name}: {known}")
        settings: ImageNetResNet.Config = with_digest(config)
        return settings

    def untrained(self) -> Self:
        return type(self)()

    def provenance(self) -> Provenance | None:
        config, digest = self.config, self.config.weights_sha256
        if config.pretrained is not None:
            digest = sha256_of(downloaded_file(self.builder, config.pretrained))
        if digest is None:
            return None
        tag = published_as(self.builder, digest)
        source = "torchvision" if config.weights is None else Path(config.weights).name
        data = "unnamed data" if tag is None else f"ImageNet ({tag})"
        return Provenance(f"torchvision/{self.name}", source, data, digest)

    def trunk(self) -> nn.Module:
        net = self._whole()
        return nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, *_levels(net.layer1, net.layer2, net.layer3))

    def last_stage(self) -> nn.Module:
        return Level(*self._whole().layer4)

    def early_stages(self) -> nn.Module:
        """Stem and first two stages."""
        net = self._whole()
        return nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, *_levels(net.layer1, net.layer2))

    def late_stages(self, width: float = 1.0) -> nn.Module:
        """Third and fourth stage. Narrower ones are freshly drawn: trained weights are of the full width."""
        if width != 1 and self._state is not None:
            raise UserError("model.head.reduce_dimension: trained weights are of the full width; set it to false")
        net = self._whole()
        late = (net.layer3, net.layer4) if width == 1 else self._narrower(net, width)
        return nn.Sequential(*_levels(*late))

    def _narrower(self, net: ResNet, width: float) -> list[nn.Sequential]:
        """At three quarters 192 and 384 planes instead of 256 and 512, as in RIDE's code (Wang et al., ICLR 2021)."""
        block = type(net.layer3[0])
        net.inplanes = 128 * block.expansion
        planes = zip((256, 512), self.layers[2:], strict=True)
        return [kaiming_normal(net._make_layer(block, int(n * width), m, stride=2), "fan_out") for n, m in planes]

    def _whole(self) -> ResNet:
        from torchvision.models import resnet  # noqa: PLC0415 (as slow to import as torch itself)

        block = resnet.Bottleneck if self.bottleneck else resnet.BasicBlock
        net = resnet.ResNet(block, list(self.layers), groups=self.groups, width_per_group=self.width_per_group)
        if self._state is not None:
            what = f"model.backbone: {self.config.weights or self.config.pretrained} for {self.name}"
            load_without_classifier(net, self._state, "fc", what)
        return net

    @cached_property
    def _state(self) -> State | None:
        """What it starts from, read once for all branches."""
        if self.config.weights is not None:
            check_unchanged(self.config.weights, self.config.weights_sha256)
            return read_state(self.config.weights)
        return None if self.config.pretrained is None else downloaded_state(self.builder, self.config.pretrained)


class ResNet10(ImageNetResNet):
    """The small network of ImageNet-LT papers."""

    name = "resnet10"
    info = Info("ImageNet ResNet, 1 basic block a stage, common on ImageNet-LT", "Liu et al., CVPR 2019", 2019)
    feature_dim = 512
    layers = (1, 1, 1, 1)


class ResNet18(ImageNetResNet):
    """11.7 million parameters at 1000 classes."""

    name = "resnet18"
    info = Info("ImageNet ResNet, 2 basic blocks a stage", "He et al., CVPR 2016", 2016)
    builder = "resnet18"
    feature_dim = 512
    layers = (2, 2, 2, 2)


class ResNet34(ImageNetResNet):
    """21.8 million parameters at 1000 classes."""

    name = "resnet34"
    info = Info("ImageNet ResNet, 3-4-6-3 basic blocks", "He et al., CVPR 2016", 2016)
    builder = "resnet34"
    feature_dim = 512
    layers = (3, 4, 6, 3)


class ResNet50(ImageNetResNet):
    """25.6 million parameters at 1000 classes."""

    name = "resnet50"
    info = Info("ImageNet ResNet, 3-4-6-3 bottlenecks", "He et al., CVPR 2016", 2016)
    builder = "resnet50"
    published = ("IMAGENET1K_V1", "IMAGENET1K_V2")
    feature_dim = 2048
    layers = (3, 4, 6, 3)
    bottleneck = True


class ResNet101(ImageNetResNet):
    """44.5 million parameters at 1000 classes."""

    name = "resnet101"
    info = Info("ImageNet ResNet, 3-4-23-3 bottlenecks", "He et al., CVPR 2016", 2016)
    builder = "resnet101"
    published = ("IMAGENET1K_V1", "IMAGENET1K_V2")
    feature_dim = 2048
    layers = (3, 4, 23, 3)
    bottleneck = True


class ResNet152(ImageNetResNet):
    """60.2 million parameters at 1000 classes."""

    name = "resnet152"
    info = Info("ImageNet ResNet, 3-8-36-3 bottlenecks", "He et al., CVPR 2016", 2016)
    builder = "resnet152"
    published = ("IMAGENET1K_V1", "IMAGENET1K_V2")
    feature_dim = 2048
    layers = (3, 8, 36, 3)
    bottleneck = True


class ResNeXt50(ImageNetResNet):
    """25.0 million parameters at 1000 classes."""

    name = "resnext50"
    info = Info("ResNeXt-50 32x4d", "Xie et al., CVPR 2017", 2017)
    builder = "resnext50_32x4d"
    published = ("IMAGENET1K_V1", "IMAGENET1K_V2")
    feature_dim = 2048
    layers = (3, 4, 6, 3)
    bottleneck = True
    groups = 32
    width_per_group = 4


def _levels(*stages: nn.Sequential) -> list[Level]:
    return [Level(*stage) for stage in stages]
