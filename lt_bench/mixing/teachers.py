"""Where in an image its class is, or anything, as a trained network sees it: maps of all images, made once and kept."""

from __future__ import annotations

import hashlib
from abc import ABC
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import ClassStats, ImageSet, Views
from lt_bench.errors import UserError, in_one_line
from lt_bench.files import in_words as system_words
from lt_bench.files import sha256_of
from lt_bench.mixing import MapsOf, Mix
from lt_bench.settings import Line, Settings
from lt_bench.tensor_files import UNREADABLE, read_tensors, write_tensors
from lt_bench.validation import in_words

BATCH = 250
TOP = 5
"""Classes that a cell scores, the others are 0 in it: as in the label maps that TokenMix was published with."""

Kind = Literal["own-class", "activation"]
"""What a map shows: the probability of the image's own class, or how active the last features are, of any meaning."""
Cells = Callable[[Tensor], Tensor]
"""Images uint8 [B, 3, H, W] to what a network says of every cell, [B, C, h, w]: logits, or features."""


class Teacher(Settings):
    """A trained network, which is never trained further."""

    weights: Line
    """The weights.safetensors of a run of this suite, or those of a network of timm."""
    model: Line | None = None
    """timm's name of the network, None for a run of this suite."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the file, filled in when a recipe is read."""

    @model_validator(mode="before")
    @classmethod
    def _withsha256_of(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("weights"), str) and given.get("sha256") is None:
            try:
                return {**given, "sha256": sha256_of(Path(given["weights"]))}
            except OSError as error:
                raise in_words(f"{given['weights']}: {system_words(error)}") from None
        return given

    def cells(self, kind: Kind, num_classes: int, device: torch.device) -> Cells:
        """The network, on the device, which says of every cell what is in it.

        Raises UserError for a file that is another than the recipe was read with and for a network that ends in no map;
        where its classes are asked for, also for one of other classes, or whose classifier reads no mean of a map.
        """
        path = Path(self.weights)
        try:
            found = sha256_of(path)
        except OSError as error:
            raise UserError(f"mix.teacher: {path}: {system_words(error)}") from None
        if found != self.sha256:
            raise UserError(f"mix.teacher: {path} is another file than the recipe was read with")
        wanted = num_classes if kind == "own-class" else None
        return _of_timm(path, self.model, wanted, device) if self.model else _of_a_run(path, wanted, device)


def _named(given: Any) -> Any:
    """`teacher: FILE` means the run whose weights it holds."""
    return {"weights": given} if isinstance(given, str) else given


GivenTeacher = Annotated[Teacher | None, BeforeValidator(_named)]
"""The type of a setting."""


class Taught(Mix, ABC):
    """A mix with a teacher, its setting `teacher`, whose maps of the whole training images it keeps once taught."""

    config: Any
    kind: ClassVar[Kind]
    """Of its maps."""
    maps: Tensor

    def prepare(self, stats: ClassStats) -> None:
        self.register_buffer("maps", torch.empty(0), persistent=False)

    def teach(self, maps_of: MapsOf) -> None:
        self.check_given(self.config)
        if self.config.teacher is not None:
            self.maps = maps_of(self.config.teacher, self.kind)

    @classmethod
    def reads_views(cls, config: Any) -> bool:
        return config.teacher is not None

    def seen(self, views: Views, height: int, width: int) -> Tensor:
        """The maps [B, height, width] of what augmented images show; 0 where that lies outside of the image."""
        from torchvision.ops import roi_align  # noqa: PLC0415 (0.5 s)

        whole = self.maps[views.positions].float()
        sides = torch.tensor(whole.shape[:0:-1], device=whole.device).repeat(2)  # w, h, w, h
        index = torch.arange(len(whole), device=whole.device)[:, None]
        boxes = torch.cat([index, views.boxes * sides], 1)
        cropped: Tensor = roi_align(whole[:, None], boxes, (height, width), aligned=True)[:, 0]
        return torch.where(views.mirrored[:, None, None], cropped.flip(-1), cropped)


def teach(part: nn.Module, maps_of: MapsOf) -> None:
    """Give the mixes in a method, or in a mix, the maps of their teachers."""
    for mix in part.modules():
        if isinstance(mix, Mix):
            mix.teach(maps_of)


def training_maps(
    teacher: Teacher,
    kind: Kind,
    train: ImageSet,
    split: str,
    num_classes: int,
    folder: Path,
    device: torch.device,
) -> Tensor:
    """What a teacher sees in each cell of each whole training image: float32 [N, h, w], none below 0.

    They lie in the folder, by the hash of the teacher and the digest of the split; without a file there it is made, by
    the network on the device.
    """
    key = hashlib.sha256(
        f"{teacher.sha256} {teacher.model} {split} {num_classes} {kind} {TOP} enlarged".encode()
    ).hexdigest()
    path = folder / f"{key[:16]}.safetensors"
    if path.exists():
        try:
            tensors, text = read_tensors(path)
            if text["key"] == key:
                return tensors["maps"]
        except UNREADABLE as error:
            reason = in_one_line(f"{type(error).__name__}: {error}")
            raise UserError(f"{path}: not a teacher's maps ({reason}); without this file they are made anew") from None
    maps = _measured(teacher.cells(kind, num_classes, device), kind, train, device)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(path, "teacher's maps", {"maps": maps}, {"key": key})
    return maps


@torch.inference_mode()
def _measured(cells: Cells, kind: Kind, train: ImageSet, device: torch.device) -> Tensor:
    labels = torch.split(torch.from_numpy(train.labels).to(device), BATCH)
    found = ((cells(images.to(device)), own) for images, own in zip(train.whole(BATCH), labels, strict=True))
    return torch.cat([(own_class(said, own) if kind == "own-class" else activation(said)).cpu() for said, own in found])


def activation(features: Tensor) -> Tensor:
    """The mean over the channels of feature maps [B, D, h, w], each [h, w] above its least cell."""
    mean = features.float().mean(1)
    return mean - mean.amin((1, 2), keepdim=True)


def own_class(logits: Tensor, labels: Tensor) -> Tensor:
    """The probability of the own class in every cell, [B, h, w], of logits [B, C, h, w]; 0 if it is not among TOP."""
    probability = logits.float().softmax(1)
    least = probability.topk(min(TOP, logits.shape[1]), 1).values[:, -1]
    own = probability[torch.arange(len(labels), device=labels.device), labels]
    return own * (own >= least)


def _of_a_run(path: Path, num_classes: int | None, device: torch.device) -> Cells:
    """The logits of so many classes, or the features, by the branches of a run's network."""
    from lt_bench.trained import load_network  # noqa: PLC0415 (it needs the mixes)

    trained = load_network(path).to(device)
    network = trained.network
    if num_classes is not None:
        _check_classes(path, trained.num_classes, num_classes)
    branches: Any = network.branches

    def cells(images: Tensor) -> Tensor:
        shared = network.trunk(trained.normalised(images))
        maps = [(branch.classifier, _map(branch.stage(shared))) for branch in branches]
        if num_classes is None:
            return torch.cat([features for _, features in maps], 1)
        return torch.stack([_each_cell(*pair) for pair in maps]).mean(0)

    return cells


def _of_timm(path: Path, name: str, num_classes: int | None, device: torch.device) -> Cells:
    """The logits of so many classes, or the features, by a network of timm."""
    import timm  # noqa: PLC0415 (3 s)

    from lt_bench.data.device_set import normalisation  # noqa: PLC0415

    try:
        # Of as many classes as the file has, or timm would leave its classifier out without a word.
        known: Any = timm.get_pretrained_cfg(name)
        found = _classes_in(path, known.classifier)
        overlay = {"file": str(path), "num_classes": found}
        model: Any = timm.create_model(name, True, num_classes=found, pretrained_cfg_overlay=overlay)
    except Exception as error:  # whatever timm or the reading of a file raises
        reason = in_one_line(f"{type(error).__name__}: {error}")[:200]
        raise UserError(f"mix.teacher: timm/{name} cannot be built with {path}: {reason}") from None
    if num_classes is not None:
        _check_classes(path, found, num_classes)
    model = model.to(device).eval()
    scale, shift = normalisation(model.pretrained_cfg["mean"], model.pretrained_cfg["std"], device)

    side = model.pretrained_cfg["input_size"][-1]

    def cells(images: Tensor) -> Tensor:
        normalised = enlarged(images.float(), side) * scale + shift
        features = _map(model.forward_features(normalised))
        if num_classes is None:
            return features
        logits = _each_cell(model.get_classifier(), features)
        if not torch.allclose(logits.mean((2, 3)), model(normalised), rtol=1e-3, atol=1e-3):
            raise UserError(f"mix.teacher: timm/{name} has no linear classifier of a mean over cells, which maps need")
        return logits

    return cells


def enlarged(images: Tensor, side: int) -> Tensor:
    """Images [B, 3, H, W] at the size that a network was trained on, if they are smaller: else it sees no parts."""
    height, width = images.shape[-2:]
    if max(height, width) >= side:
        return images
    size = [side * height // max(height, width), side * width // max(height, width)]
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def _classes_in(path: Path, classifier: str) -> int:
    """How many classes a file of timm's weights has."""
    from safetensors import safe_open  # noqa: PLC0415

    with safe_open(path, framework="pt") as file:
        return int(file.get_slice(f"{classifier}.weight").get_shape()[0])


def _check_classes(path: Path, found: int, num_classes: int) -> None:
    if found != num_classes:
        raise UserError(f"mix.teacher: {path} knows {found} classes, the data has {num_classes}")


def _map(features: Tensor) -> Tensor:
    """The features themselves, if they are maps [B, D, h, w] of cells."""
    if features.ndim != 4 or features.shape[2] * features.shape[3] == 1:
        raise UserError("mix.teacher: its network ends in no map of cells, so that it cannot say where something is")
    return features


def _each_cell(classifier: nn.Module, features: Tensor) -> Tensor:
    """Logits [B, C, h, w] of every cell of feature maps [B, D, h, w]."""
    cells = features.movedim(1, -1)
    logits: Tensor = classifier(cells.flatten(0, 2))
    return logits.reshape(*cells.shape[:3], -1).movedim(-1, 1)
