"""The image tower of a CLIP model of open_clip, `clip/ViT-B-16-quickgelu`, and what its text tower says of classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from lt_bench.data.reading import reason
from lt_bench.data.types import cut
from lt_bench.errors import UserError, unknown
from lt_bench.files import sha256_of
from lt_bench.models.backbones import Provenance, Staged
from lt_bench.models.backbones.trained_weights import check_unchanged, wait_once, with_digest
from lt_bench.registry import Info
from lt_bench.settings import Line
from lt_bench.validation import in_words

SUFFIX = ".safetensors"
STAGES = 4
TEXTS_AT_ONCE = 256
OTHER_VISION = frozenset({"timm_model_name", "pool_type", "attentional_pool", "final_ln_after_pool"})
OTHER_TEXT = frozenset({"hf_model_name", "hf_tokenizer_name"})
"""What the configuration of a tower says that is not as in CLIP."""
TRAINED_ON = {
    "openai": "OpenAI's 400 million pairs of image and text",
    "laion400m_e31": "LAION-400M",
    "laion400m_e32": "LAION-400M",
    "laion2b_s34b_b88k": "LAION-2B",
    "datacomp_xl_s13b_b90k": "DataComp-1B",
}
"""By open_clip's tag of the weights."""


class Clip(Staged):
    """CLIP (Radford et al., ICML 2021): features are the class token behind the last norm, [B, D, 1, 1].

    Weights trained with the quick form of GELU need a model whose name ends in `-quickgelu`; that is checked. Its
    blocks come in four stages of equal depth, so that heads of several branches can be built on it.
    """

    name = "clip"
    info = Info("clip/NAME: the image tower of a CLIP model of open_clip", "Radford et al., ICML 2021", 2021)
    reads_text: ClassVar[bool] = True

    class Config(Staged.Config):
        """Which model, and where its weights are from."""

        model: Line
        """open_clip's name: `ViT-B-16-quickgelu`."""
        pretrained: Line | None = None
        """open_clip's tag of weights for this model, such as `openai`: downloaded once, unless `weights` holds them."""
        weights: Line | None = None
        """This .safetensors file of both towers, as open_clip names their tensors."""
        weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
        """Of that file, filled in when a recipe is read."""
        projected: bool = False
        """Whether features are projected into the space of image and text, as for zero-shot classification."""
        arguments: dict[Line, Any] = Field(default={})
        """Entries of open_clip's model configuration that take the place of those with this name."""

        @field_validator("model")
        @classmethod
        def _known(cls, model: str) -> str:
            configurations = {path.stem for path in _configurations().glob("*.json")}
            if model not in configurations:
                raise in_words(unknown("model of open_clip", model, sorted(configurations)))
            return model

        @model_validator(mode="after")
        def _a_safe_file(self) -> Self:
            if self.weights and not self.weights.endswith(SUFFIX):
                raise in_words(f"weights: should be a {SUFFIX} file, found {self.weights}")
            return self

    config: Config

    @classmethod
    def fitted(cls, config: Config, side: int) -> Config:
        settings: Clip.Config = with_digest(config)
        return settings

    def check_images(self, side: int) -> None:
        made_for = self._vision.get("image_size", 224)
        if side != made_for:
            raise UserError(
                f"model.backbone: {self.title} takes images of {made_for} pixels, found {side}; "
                f"say protocol.augmentation.size={made_for} (kind: resized-crop)"
            )

    def untrained(self) -> Self:
        return type(self)(self.config.model_copy(update={"pretrained": None, "weights": None, "weights_sha256": None}))

    @property
    def title(self) -> str:
        return f"clip/{self.config.model}"

    @property
    def feature_dim(self) -> int:  # type: ignore[override]
        width: int = self._architecture["embed_dim"] if self.config.projected else self._vision.get("width", 768)
        return width

    def check_source(self) -> None:
        if self.config.pretrained is not None:
            self._entry(self.config.pretrained)

    def stages(self) -> list[nn.Sequential]:
        visual = self._model().visual
        blocks = list(visual.transformer.resblocks)
        ends = [round(stage * len(blocks) / STAGES) for stage in range(STAGES + 1)]
        first, *rest, last = ([*blocks[start:end]] for start, end in pairwise(ends))
        last.append(ClassToken(visual, self.config.projected))
        return [nn.Sequential(Embedding(visual), *first), *(nn.Sequential(*stage) for stage in (*rest, last))]

    @torch.no_grad()
    def text_vectors(self, prompts: Sequence[Sequence[str]], device: torch.device | str = "cpu") -> Tensor:
        import open_clip  # noqa: PLC0415 (4 s)

        model = self._model().to(device).eval()
        tokenize = open_clip.SimpleTokenizer(context_length=model.context_length)
        sentences = [sentence for several in prompts for sentence in several]
        parts = (tokenize(sentences[place]).to(device) for place in cut(len(sentences), TEXTS_AT_ONCE))
        vectors = torch.cat([F.normalize(model.encode_text(part).float(), dim=1) for part in parts])
        of_each = torch.split(vectors, [len(several) for several in prompts])
        text = F.normalize(torch.stack([several.mean(0) for several in of_each]), dim=1)
        return text if self.config.projected else through_projection(model.visual.proj, text)

    def provenance(self) -> Provenance | None:
        file = self._file()
        if file is None:
            return None
        tag = self.config.pretrained or "unnamed data"
        data, given = TRAINED_ON.get(tag, tag), self.config.weights is not None
        if given and self.config.pretrained is not None:
            data += ", as its user says"  # who may have named any file
        digest = self.config.weights_sha256 or sha256_of(Path(file))  # of which `_file` has made sure
        return Provenance(self.title, Path(file).name if given else f"open_clip, {tag}", data, digest)

    @cached_property
    def _architecture(self) -> Mapping[str, Any]:
        written = json.loads((_configurations() / f"{self.config.model}.json").read_text(encoding="utf-8"))
        architecture: dict[str, Any] = {**written, **self.config.arguments}
        vision, text = architecture["vision_cfg"], architecture["text_cfg"]
        if isinstance(vision.get("layers"), list) or vision.keys() & OTHER_VISION or text.keys() & OTHER_TEXT:
            raise UserError(
                f"model.backbone: {self.title} is not made as CLIP is, of open_clip's own vision transformer with a "
                "class token and its own tokens of text; networks of timm are timm/NAME"
            )
        return architecture

    @property
    def _vision(self) -> Mapping[str, Any]:
        vision: Mapping[str, Any] = self._architecture["vision_cfg"]
        return vision

    def _model(self) -> Any:
        """Both towers, freshly initialised or with their weights. Raises UserError where that cannot be."""
        import open_clip  # noqa: PLC0415 (4 s)

        file = self._file()
        try:
            model = open_clip.CLIP(**{key: value for key, value in self._architecture.items() if key != "custom_text"})
            if file is not None:
                open_clip.load_checkpoint(model, file, strict=True, weights_only=True)
        except Exception as error:  # Whatever a library makes of a wrong configuration or another network's file.
            what = f"{self.title} cannot be built" if file is None else f"{file} does not fit {self.title}"
            raise UserError(f"model.backbone: {what}: {reason(error)[:200]}") from None
        return model

    def _file(self) -> str | None:
        """Where the weights lie, downloaded if need be; None for none."""
        config = self.config
        entry = {} if config.pretrained is None else self._entry(config.pretrained)
        if config.weights is not None:
            check_unchanged(config.weights, config.weights_sha256)
            return config.weights
        return self._downloaded(entry) if entry else None

    def _entry(self, tag: str) -> Mapping[str, Any]:
        """What open_clip knows of weights. Raises UserError for those of no such name, or of another network."""
        import open_clip  # noqa: PLC0415 (4 s)

        known = open_clip.list_pretrained_tags_by_model(self.config.model)
        if tag not in known:
            raise UserError(f"model.backbone.pretrained: {unknown(f'weights of {self.title}', tag, known)}")
        entry: Mapping[str, Any] = open_clip.get_pretrained_cfg(self.config.model, tag)
        if entry.get("quick_gelu", False) != self._architecture.get("quick_gelu", False):
            right = self.config.model.removesuffix("-quickgelu") + "-quickgelu" * bool(entry.get("quick_gelu"))
            raise UserError(f"model.backbone: the weights {tag} were trained with another GELU; they need clip/{right}")
        return entry

    def _downloaded(self, entry: Mapping[str, Any]) -> str:
        import open_clip  # noqa: PLC0415 (4 s)

        try:
            file: str = open_clip.download_pretrained(entry)
        except Exception as error:  # Whatever a download raises.
            wait_once(error)
            raise UserError(self._to_fetch(entry, error)) from None
        return file

    def _to_fetch(self, entry: Mapping[str, Any], error: Exception) -> str:
        """What to do where a download failed, in a line."""
        with torch.device("meta"):
            size = sum(one.numel() * one.element_size() for one in self.untrained()._model().parameters()) / 1e6
        home = entry.get("hf_hub", "").strip("/")
        place = f"open_clip_model{SUFFIX} from huggingface.co/{home}" if home else entry.get("url", "its makers")
        return (
            f"model.backbone: the weights {self.config.pretrained} of {self.title} could not be downloaded "
            f"({reason(error)[:200]}); fetch {place}, about {size:.0f} MB, put it anywhere and say "
            "model.backbone.weights=FILE"
        )


class Embedding(nn.Module):
    """What stands before the blocks: images [B, 3, H, W] to tokens [B, 1 + patches, D], the class token first."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.conv1, self.ln_pre = visual.conv1, visual.ln_pre
        self.class_embedding, self.positional_embedding = visual.class_embedding, visual.positional_embedding

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are no weights."""
        return {"class_embedding", "positional_embedding"}

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens: Tensor = self.ln_pre(torch.cat([first, patches], 1) + self.positional_embedding.to(patches.dtype))
        return tokens


class ClassToken(nn.Module):
    """What stands behind the blocks: tokens [B, N, D] to features [B, D, 1, 1]."""

    def __init__(self, visual: Any, projected: bool) -> None:
        super().__init__()
        self.ln_post = visual.ln_post
        self.proj: nn.Parameter | None = visual.proj if projected else None

    def forward(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.ln_post(tokens[:, 0])
        if self.proj is not None:
            features = features @ self.proj
        return features[:, :, None, None]


def through_projection(projection: Tensor, text: Tensor) -> Tensor:
    """Directions unit(P t) [C, D] before a projection P [D, E] of those behind it, t [C, E]: <f, P t> = <f P, t>."""
    return F.normalize(text @ projection.detach().float().T, dim=1)


def _configurations() -> Path:
    """The folder of open_clip's model configurations, found without its import. Refuses where there is none."""
    found = find_spec("open_clip")
    if found is None or found.origin is None:
        raise in_words("needs open_clip, which is not installed: pip install 'lt-bench[foundation]'")
    return Path(found.origin).parent / "model_configs"
