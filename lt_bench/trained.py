"""Trained networks outside the suite: ready to predict, or as weights of the ResNet that everybody has."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lt_bench.data.cards import load_card
from lt_bench.data.device_set import normalisation
from lt_bench.data.opening import open_split
from lt_bench.data.split import class_sizes
from lt_bench.data.types import ClassStats, IntArray
from lt_bench.errors import UserError
from lt_bench.methods import Method, Task
from lt_bench.methods.standard import Standard
from lt_bench.models import Network
from lt_bench.models.backbones.cifar_resnet import CifarBlock
from lt_bench.models.heads import CosineClassifier
from lt_bench.training.network import build_recipe_network
from lt_bench.training.weights import Weights, read_weights


class TrainedNetwork(nn.Module):
    """A network as its run evaluated it: images to logits float32 [B, C], read as the run's loss reads them.

    It normalises by itself: images [B, 3, H, W] are RGB in uint8 or, as torchvision's ToTensor gives them, float32 in
    0..1. Raises UserError for others. H and W are those of the run. `class_names` [C] say what its outputs stand for;
    None where weights were made before they kept them.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Network, method: Method, weights: Weights) -> None:
        super().__init__()
        self.network, self.method, self.recipe = network, method, weights.recipe
        self.class_names, self.looks = weights.class_names, weights.looks
        mean, std = self.recipe.protocol.augmentation.normalisation(self.looks)
        scale, shift = normalisation(mean, std, torch.device("cpu"))
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    @property
    def num_classes(self) -> int:
        """C, what its outputs stand for."""
        return len(self.class_names) if self.class_names is not None else load_card(self.recipe.data.name).classes

    def forward(self, images: Tensor) -> Tensor:
        return self.method.scores(self.network, self.normalised(images)).float()

    def normalised(self, images: Tensor) -> Tensor:
        """Images as the network was trained on them. Raises UserError where they are none."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise UserError(f"images: expected RGB of the shape [B, 3, H, W], found {list(images.shape)}")
        if images.dtype != torch.uint8:
            if not ((images >= 0) & (images <= 1)).all():
                raise UserError("images: should be uint8, or float in 0..1; the network normalises them by itself")
            images = images * 255
        return images.float() * self.scale + self.shift

    @torch.inference_mode()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The classes int64 [B] of images, and the confidence float32 [B] in each."""
        confidence, classes = self(images).softmax(1).max(1)
        return classes, confidence


def load_network(weights: str | Path, data_root: str | Path | None = None) -> TrainedNetwork:
    """The network of a run from its `weights.safetensors`, in evaluation mode, on the CPU.

    The data, for which `data_root` says where it lies, and the card of one's own set, are needed only for weights of
    before these kept them: the card always, the data where prediction depends on class sizes in its files.
    Raises UserError for another file.
    """
    read = read_weights(Path(weights))
    recipe, choice = read.recipe, read.recipe.method_choice()
    counts = _class_sizes(read, None if data_root is None else Path(data_root))
    network = build_recipe_network(recipe, len(counts), read.seed, trained=True)
    read.load_into(network)
    labels = np.repeat(np.arange(len(counts)), counts)
    method: Method = choice.component(Task(labels, ClassStats.of_counts(counts), recipe.phase_choices()), choice.config)
    return TrainedNetwork(network, method, read).eval().requires_grad_(False)


def _class_sizes(read: Weights, data_root: Path | None) -> IntArray:
    """Training images per class [C] by the labels that were trained on, made up where nothing depends on them.

    They are read from the data where a formula does not give them: from list files, and from labels of which some are
    wrong. Raises UserError where those have moved to other labels.
    """
    if read.counts is not None:
        return np.array(read.counts)
    recipe = read.recipe
    card = load_card(recipe.data.name)
    spec = recipe.data.resolve(card)
    loss = recipe.phase_choices()[-1].loss
    if recipe.method_choice().component is Standard and not loss.component.changes_scores(loss.config):
        return np.ones(card.classes, dtype=np.int64)
    if spec.noise is None and spec.profile is not None and spec.n_max is not None and spec.factor is not None:
        return np.array(class_sizes(card.classes, spec.n_max, spec.factor, spec.profile))
    split = read.as_trained(open_split(spec, data_root))
    return np.bincount(split.training.labels, minlength=card.classes)


class _Plain(NamedTuple):
    """A ResNet of another code: its names by the beginnings of ours, its classifier, and the parts of our trunk."""

    names: dict[str, str]
    classifier: str
    parts: int


_CIFAR = _Plain(
    {"trunk.0.0": "conv1", "trunk.0.1": "bn1", "trunk.1": "layer1", "trunk.2": "layer2", "branches.0.stage": "layer3"},
    "linear",
    parts=3,
)
_TORCHVISION = _Plain(
    {"trunk.0": "conv1", "trunk.1": "bn1", "branches.0.stage": "layer4"}
    | {f"trunk.{3 + stage}": f"layer{stage}" for stage in (1, 2, 3)},
    "fc",
    parts=7,
)


def plain_state_dict(network: Network | TrainedNetwork) -> dict[str, Tensor]:
    """Weights for the ResNet that everybody has: conv1, bn1, layer1.0.conv1, ..., and the classifier.

    From a CIFAR ResNet for that of the field's code, whose classifier is `linear`; from one of the larger images
    (`resnet10` to `resnext50`) for torchvision's, where it is `fc`.
    A cosine head becomes the weight of LDAM's NormedLinear, [D, C], whose cosines lack the loss's scale. A second
    stage, or a loss that adds something to the logits at test time, becomes part of the linear layer.
    Raises UserError for a network of another shape. It takes images normalised as the run's were.
    """
    trained, network = (network, network.network) if isinstance(network, TrainedNetwork) else (None, network)
    plain = _plain(network)
    read = (lambda part, images: part(images)) if trained is None else trained.method.scores
    state = {}
    for name, tensor in network.state_dict().items():
        old = next((old for old in plain.names if name.startswith(f"{old}.")), None)
        if old is not None:
            state[plain.names[old] + name.removeprefix(old)] = tensor.detach().clone()
    classifier = deepcopy(network.classifiers[0]).eval()  # before which a dropout may stand
    linear = _linear(classifier, lambda features: read(classifier, features))  # type: ignore[arg-type]
    return state | {f"{plain.classifier}.{name}": tensor for name, tensor in linear.items()}


def _plain(network: Network) -> _Plain:
    """The other code's ResNet that a network is. Raises UserError where it is none."""
    for regulariser in network.regularisers:
        if regulariser.in_evaluation:
            raise UserError(f"the plain ResNet has no place for {regulariser.name}, which acts in evaluation as well")
    parts = [*network.trunk] if isinstance(network.trunk, nn.Sequential) else []
    blocks = {type(block) for part in parts[1:] if isinstance(part, nn.Sequential) for block in part}
    for plain in (_CIFAR, _TORCHVISION):
        if len(network.branches) == 1 and len(parts) == plain.parts and blocks and blocks <= _blocks(plain):
            return plain
    raise UserError(
        "the plain ResNet has one branch of CIFAR's or torchvision's blocks: this network does not fit into it"
    )


def _blocks(plain: _Plain) -> set[type[nn.Module]]:
    if plain is _CIFAR:
        return {CifarBlock}
    from torchvision.models import resnet  # noqa: PLC0415 (as slow to import as torch itself)

    return {resnet.BasicBlock, resnet.Bottleneck}


def _linear(classifier: nn.Module, read: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Weight and bias of the linear layer; `read` gives logits [B, C] of features [B, D] as at test time."""
    if type(classifier) is CosineClassifier and not classifier.gamma:
        with torch.no_grad():
            added = read(torch.zeros(1, classifier.weight.shape[1]))  # to cosines of 0
        if not added.any():
            return {"weight": classifier.weight.detach().T.clone()}
    dim = next(tensor.shape[1] for tensor in classifier.state_dict().values() if tensor.ndim == 2)
    with torch.no_grad():
        features = torch.rand(64, dim, generator=torch.Generator().manual_seed(0))
        logits = read(features)
        if isinstance(classifier, nn.Linear) and torch.equal(classifier(features), logits):
            return {name: tensor.detach().clone() for name, tensor in classifier.state_dict().items()}
        # What is affine is known by what it makes of zero and of the unit vectors.
        bias = read(torch.zeros(1, dim))[0]
        weight = (read(torch.eye(dim)) - bias).T.contiguous()
        if not torch.allclose(features @ weight.T + bias, logits, rtol=1e-4, atol=1e-4):
            raise UserError("the plain ResNet ends in a linear layer: what ends this network is none")
    return {"weight": weight, "bias": bias}
