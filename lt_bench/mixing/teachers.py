"""Where in an image its class is, as a trained network sees it: maps of the training images, made once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from lt_bench.data.types import ImageSet
from lt_bench.errors import UserError, in_one_line
from lt_bench.files import in_words as system_words
from lt_bench.files import sha256_of
from lt_bench.settings import Line, Settings
from lt_bench.tensor_files import UNREADABLE, read_tensors, write_tensors
from lt_bench.validation import in_words

BATCH = 250
TOP = 5
"""Classes that a cell scores, the others are 0 in it: as in the label maps that TokenMix was published with."""

Scores = Callable[[Tensor], Tensor]
"""Images uint8 [B, 3, H, W] to the logits of every cell, [B, C, h, w]."""


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

    def scores(self, num_classes: int, device: torch.device) -> Scores:
        """The network, on the device, which says of every cell which class it shows.

        Raises UserError for a file that is another than the recipe was read with, for a network of other classes, and
        for one whose classifier does not read the mean of a map.
        """
        path = Path(self.weights)
        try:
            found = sha256_of(path)
        except OSError as error:
            raise UserError(f"mix.teacher: {path}: {system_words(error)}") from None
        if found != self.sha256:
            raise UserError(f"mix.teacher: {path} is another file than the recipe was read with")
        if self.model:
            return _of_timm(path, self.model, num_classes, device)
        return _of_a_run(path, num_classes, device)


def _named(given: Any) -> Any:
    """`teacher: FILE` means the run whose weights it holds."""
    return {"weights": given} if isinstance(given, str) else given


GivenTeacher = Annotated[Teacher | None, BeforeValidator(_named)]
"""The type of a setting."""


def label_maps(
    teacher: Teacher, train: ImageSet, split: str, num_classes: int, folder: Path, device: torch.device
) -> Tensor:
    """How much of its own class each cell of each whole training image shows: float32 [N, h, w], in 0..1.

    They lie in the folder, by the hash of the teacher and the digest of the split; without a file there it is made, by
    the network on the device.
    """
    key = hashlib.sha256(f"{teacher.sha256} {teacher.model} {split} {TOP}".encode()).hexdigest()
    path = folder / f"{key[:16]}.safetensors"
    if path.exists():
        try:
            tensors, text = read_tensors(path)
            if text["key"] == key:
                return tensors["maps"]
        except UNREADABLE as error:
            reason = in_one_line(f"{type(error).__name__}: {error}")
            raise UserError(f"{path}: not a teacher's maps ({reason}); without this file they are made anew") from None
    maps = _measured(teacher.scores(num_classes, device), train, device)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(path, "teacher's maps", {"maps": maps}, {"key": key})
    return maps


@torch.inference_mode()
def _measured(scores: Scores, train: ImageSet, device: torch.device) -> Tensor:
    labels = torch.split(torch.from_numpy(train.labels).to(device), BATCH)
    batches = zip(train.whole(BATCH), labels, strict=True)
    return torch.cat([own_class(scores(images.to(device)), own).cpu() for images, own in batches])


def own_class(logits: Tensor, labels: Tensor) -> Tensor:
    """The probability of the own class in every cell, [B, h, w], of logits [B, C, h, w]; 0 if it is not among TOP."""
    probability = logits.float().softmax(1)
    least = probability.topk(min(TOP, logits.shape[1]), 1).values[:, -1]
    own = probability[torch.arange(len(labels), device=labels.device), labels]
    return own * (own >= least)


def _of_a_run(path: Path, num_classes: int, device: torch.device) -> Scores:
    from lt_bench.data.cards import load_card  # noqa: PLC0415
    from lt_bench.trained import load_network  # noqa: PLC0415 (it needs the mixes)

    trained = load_network(path).to(device)
    network = trained.network
    if (found := load_card(trained.recipe.data.name).classes) != num_classes:
        raise UserError(f"mix.teacher: {path} knows {found} classes, the data has {num_classes}")
    branches: Any = network.branches

    def scores(images: Tensor) -> Tensor:
        shared = network.trunk(trained.normalised(images))
        return torch.stack([_each_cell(branch.classifier, branch.stage(shared)) for branch in branches]).mean(0)

    return scores


def _of_timm(path: Path, name: str, num_classes: int, device: torch.device) -> Scores:
    import timm  # noqa: PLC0415 (3 s)

    from lt_bench.data.device_set import normalisation  # noqa: PLC0415

    try:
        overlay = {"file": str(path)}
        model: Any = timm.create_model(name, True, num_classes=num_classes, pretrained_cfg_overlay=overlay)
    except Exception as error:  # whatever timm or the reading of a file raises
        reason = in_one_line(f"{type(error).__name__}: {error}")[:200]
        raise UserError(f"mix.teacher: timm/{name} cannot be built with {path}: {reason}") from None
    model = model.to(device).eval()
    scale, shift = normalisation(model.pretrained_cfg["mean"], model.pretrained_cfg["std"], device)

    def scores(images: Tensor) -> Tensor:
        normalised = images.float() * scale + shift
        cells = _each_cell(model.get_classifier(), model.forward_features(normalised))
        if not torch.allclose(cells.mean((2, 3)), model(normalised), rtol=1e-3, atol=1e-3):
            raise UserError(f"mix.teacher: timm/{name} has no linear classifier of a mean over cells, which maps need")
        return cells

    return scores


def _each_cell(classifier: nn.Module, features: Tensor) -> Tensor:
    """Logits [B, C, h, w] of every cell of feature maps [B, D, h, w]."""
    if features.ndim != 4 or features.shape[2] * features.shape[3] == 1:
        raise UserError("mix.teacher: its network ends in no map of cells, so that it cannot say where a class is")
    cells = features.movedim(1, -1)
    logits: Tensor = classifier(cells.flatten(0, 2))
    return logits.reshape(*cells.shape[:3], -1).movedim(-1, 1)
