"""Any network of timm: `timm/resnet18`, or `{name: timm/vit_tiny_patch16_224, arguments: {patch_size: 8}}`."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from lt_bench.errors import UserError, in_one_line, unknown
from lt_bench.files import sha256_of
from lt_bench.models.backbones import Provenance, Staged
from lt_bench.models.backbones.cutting import Pooled, stages_of
from lt_bench.models.backbones.trained_weights import check_unchanged, wait_once, with_digest
from lt_bench.models.network import Level
from lt_bench.registry import Info
from lt_bench.settings import Line
from lt_bench.validation import in_words

SUFFIX = ".safetensors"


class Timm(Staged):
    """A network of the library timm, by the name that it has there, with timm's initialisation or trained weights.

    It is cut before its last stage where its structure allows: ResNet, RegNet, ConvNeXt, Swin and vision transformers
    and what timm builds of the same classes. Others serve the heads of one branch, and those of whole networks.
    """

    name = "timm"
    info = Info("timm/NAME: any network of the library timm", "Wightman, GitHub 2019", 2019)

    class Config(Staged.Config):
        """Which network, and where its weights are from."""

        model: Line
        """timm's name, with or without the tag of its weights: `resnet18`, `resnet18.a1_in1k`."""
        pretrained: bool = False
        """Start from the weights that timm downloads for this name."""
        weights: Line | None = None
        """Start from this .safetensors file, which holds the network's state as timm names it."""
        weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
        """Of that file, filled in when a recipe is read."""
        image_size: int | None = Field(default=None, ge=1)
        """Pixels on a side, where the network is built for one size: filled in when a recipe is read."""
        arguments: dict[Line, bool | int | float | str] = Field(default={})
        """Further ones for timm.create_model, such as drop_path_rate."""

        @field_validator("model")
        @classmethod
        def _known(cls, model: str) -> str:
            import timm  # noqa: PLC0415 (3 s)

            if not timm.is_model(model):
                raise in_words(unknown("network of timm", model, timm.list_models()))
            return model

        @model_validator(mode="after")
        def _one_source(self) -> Self:
            import timm  # noqa: PLC0415 (3 s)

            if self.pretrained and self.weights:
                raise in_words("either timm's pretrained weights or a file of weights, found both")
            if self.pretrained and not timm.models.is_model_pretrained(self.model):
                raise in_words(f"timm has no pretrained weights for {self.model}")
            if self.weights and not self.weights.endswith(SUFFIX):
                raise in_words(f"weights: should be a {SUFFIX} file, found {self.weights}")
            return self

    config: Config

    @classmethod
    def fitted(cls, config: Config, side: int) -> Config:
        import timm  # noqa: PLC0415 (3 s)

        known = timm.get_pretrained_cfg(config.model)
        filled: dict[str, Any] = {}
        if config.pretrained and known is not None:
            filled["model"] = ".".join(filter(None, (known.architecture, known.tag)))  # the tag says which weights
        if config.image_size is None and known is not None and known.fixed_input_size:
            filled["image_size"] = side
        settings: Timm.Config = with_digest(config.model_copy(update=filled))
        return settings

    def check_images(self, side: int) -> None:
        self._features(side)

    def untrained(self) -> Self:
        return type(self)(self.config.model_copy(update={"pretrained": False, "weights": None, "weights_sha256": None}))

    @cached_property
    def feature_dim(self) -> int:  # type: ignore[override]
        return self._features(self.config.image_size or 224)

    def whole(self) -> tuple[nn.Module, nn.Module]:
        model = self._model()
        stages = stages_of(model)
        if stages is None:
            return nn.Sequential(), Pooled(model)
        *early, last = (Level(*stage) for stage in stages)
        return nn.Sequential(*early), last

    def provenance(self) -> Provenance | None:
        config = self.config
        file = self._downloaded() if config.weights is None else Path(config.weights)
        if file is None:
            return None
        source = "timm" if config.weights is None else file.name
        data = config.model.partition(".")[2] or "unnamed data"
        digest = config.weights_sha256 or sha256_of(file)  # of which the network has made sure
        return Provenance(f"timm/{config.model}", source, data, digest)

    def stages(self) -> list[nn.Sequential]:
        model = self._model()
        stages = stages_of(model)
        if stages is None:
            kind = type(model).__name__
            raise UserError(
                f"model.backbone: timm/{self.config.model} is a {kind}, which has no last stage that could be cut off "
                "for a branch of its own; it serves heads of one branch, and the head ensemble"
            )
        return stages

    def _model(self) -> nn.Module:
        """A fresh network without classifier, with its weights if it starts from some."""
        import timm  # noqa: PLC0415 (3 s)

        config = self.config
        arguments: dict[str, Any] = {"num_classes": 0, **config.arguments}
        if config.image_size is not None:
            arguments["img_size"] = config.image_size
        if config.weights is not None:
            check_unchanged(config.weights, config.weights_sha256)
            arguments["pretrained_cfg_overlay"] = {"file": config.weights}
        generator = torch.get_rng_state()
        try:
            model: nn.Module = timm.create_model(config.model, config.pretrained or bool(config.weights), **arguments)
        except Exception as error:  # whatever timm, a download or the reading of a file raises
            wait_once(error)
            hint = f"; {self._to_fetch()}" if config.pretrained else ""
            raise UserError(f"model.backbone: timm/{config.model} cannot be built: {_reason(error)}{hint}") from None
        if config.weights is not None:
            self._check_loaded(model, generator)
        return model

    def _check_loaded(self, model: nn.Module, generator: Tensor) -> None:
        """Raise UserError where a tensor is still as it was drawn: timm is content with a file that lacks it.

        `generator` is the state of torch's before the network was built, and is drawn from once more.
        """
        loaded = model.state_dict()
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(generator)
            drawn, again = (self.untrained()._model().state_dict() for _ in range(2))
        random = [name for name in loaded if not torch.equal(drawn[name], again[name])]
        if missing := [name for name in random if torch.equal(loaded[name], drawn[name])]:
            lacking = f"{len(missing)} of the tensors of timm/{self.config.model} are not in it, as {missing[0]}"
            raise UserError(f"model.backbone.weights: {self.config.weights}: {lacking}")

    def _downloaded(self) -> Path | None:
        """The file in the hub's cache that timm has loaded; None where it has loaded none, or from elsewhere."""
        from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415

        names = (f"model{SUFFIX}", "pytorch_model.bin") if self.config.pretrained and self._home else ()
        found = (try_to_load_from_cache(self._home, name) for name in names)
        return next((Path(file) for file in found if isinstance(file, str)), None)

    def _to_fetch(self) -> str:
        """What to do where weights cannot be downloaded."""
        with torch.device("meta"):
            size = sum(one.numel() for one in self.untrained()._model().parameters()) * 4 / 1e6
        home = f"huggingface.co/{self._home}" if self._home else "where timm says"
        return (
            f"fetch model{SUFFIX}, about {size:.0f} MB, from {home}, put it anywhere and say "
            "model.backbone.pretrained=false model.backbone.weights=FILE"
        )

    @property
    def _home(self) -> str:
        """Where the hub has the weights, empty where they are from elsewhere."""
        import timm  # noqa: PLC0415 (3 s)

        known: Any = timm.get_pretrained_cfg(self.config.model)
        return known.hf_hub_id or ""

    def _features(self, side: int) -> int:
        """The width of the pooled features of images of this size. Raises UserError if the network cannot take them."""
        return _width(self.untrained().config.model_dump_json(), side)


@cache
def _width(settings: str, side: int) -> int:
    """As `Timm._features`, of settings as JSON: one network stands behind many recipes, and takes half a second."""
    network = Timm(Timm.Config.model_validate_json(settings))
    with torch.device("meta"), torch.inference_mode():
        model = network._model().eval()
        try:
            width: int = model(torch.empty(2, 3, side, side)).shape[1]
        except Exception as error:  # whatever the forward of some network raises
            raise UserError(
                f"model.backbone: timm/{network.config.model} does not take images of {side} pixels: {_reason(error)}"
            ) from None
    return width


def _reason(error: Exception) -> str:
    return in_one_line(f"{type(error).__name__}: {error}")[:200]
