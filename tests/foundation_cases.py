"""A CLIP and a ViT of four blocks, drawn and saved: what tests tune in the place of those of hundreds of MB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from lt_bench.models import Network, build_network
from lt_bench.models.backbones.clip import Clip
from lt_bench.models.backbones.timm import Timm
from lt_bench.recipe import Recipe, load_recipe

SIDE = 32
CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": SIDE, "layers": 4, "width": 24, "patch_size": 16, "head_width": 12},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
VIT: dict[str, Any] = {"embed_dim": 24, "depth": 4, "num_heads": 2, "patch_size": 16}
WIDTH, DEPTH, CLASSES = 24, 4, 10


def clip_file(folder: Path) -> Path:
    """Weights of the tiny CLIP."""
    import open_clip

    torch.manual_seed(0)
    return _saved(open_clip.CLIP(**CLIP), folder / "clip.safetensors")


def vit_file(folder: Path) -> Path:
    """Weights of the tiny ViT."""
    import timm

    torch.manual_seed(1)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=SIDE, **VIT)
    return _saved(model, folder / "vit.safetensors")


def _saved(model: torch.nn.Module, file: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)
    return file


def clip(**settings: Any) -> Clip:
    return Clip(model="ViT-B-16-quickgelu", arguments=CLIP, **settings)


def vit(**settings: Any) -> Timm:
    return Timm(model="vit_tiny_patch16_224", image_size=SIDE, arguments=VIT, **settings)


def network(backbone: Clip | Timm, seed: int = 0) -> Network:
    return build_network(backbone, "scaled-cosine", CLASSES, seed)


def backbone_override(file: Path, **settings: Any) -> str:
    """The backbone in a command line: by the name of the file, the tiny CLIP or the tiny ViT."""
    name, arguments = ("clip/ViT-B-16-quickgelu", CLIP) if "clip" in file.name else ("timm/vit_tiny_patch16_224", VIT)
    node = {"name": name, "weights": str(file), "arguments": arguments, **settings}
    return f"model.backbone={yaml.safe_dump(node, default_flow_style=True, width=10**6).strip()}"


def tiny_recipe(file: Path, tuner: str = "adaptformer", *overrides: str) -> Recipe:
    """Logit adjustment on some digits, three epochs of two steps."""
    short = ("data.n_max=6", "data.factor=2", "protocol.epochs=3", "protocol.batch_size=32")
    parts = ("model.head=scaled-cosine", f"model.tuner={tuner}", "model.start=class-means")
    schedule = "protocol.schedule={name: cosine, warmup_epochs: 0}"
    return load_recipe("digits-lt/logit-adjustment", [*short, schedule, backbone_override(file), *parts, *overrides])
