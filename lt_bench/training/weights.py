"""The weights of a finished run: written by rename, read without executing anything."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from lt_bench import __version__
from lt_bench.data.cards import card_names, load_card
from lt_bench.data.looks import Looks
from lt_bench.data.split import Split
from lt_bench.errors import UserError
from lt_bench.models import Network
from lt_bench.recipe import Recipe
from lt_bench.recipe.resolve import check_plugins
from lt_bench.settings import Settings
from lt_bench.tensor_files import UNREADABLE, read_tensors, write_tensors

FILE = "weights.safetensors"


@dataclass(frozen=True)
class Trained:
    """How a run went, for the record of a second stage that starts from its weights; None: not kept in its time."""

    wall_s: float | None = None
    """Seconds that it took."""
    top1: float | None = None
    """On the test images after the last epoch, a fraction."""
    precision: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Weights:
    """The tensors of a run's network, with what is needed to rebuild the network around them."""

    recipe: Recipe
    seed: int
    trained: Trained
    tensors: dict[str, Tensor]
    path: Path
    """The file they came from."""
    split: str
    """Digest of the data they were trained on."""
    class_names: tuple[str, ...] | None = None
    """What each of the network's outputs stands for [C]; None, of this and what follows: not kept in its time."""
    kept_looks: Looks | None = None
    """How images were shown in training."""
    counts: tuple[int, ...] | None = None
    """Training images per class [C], by the labels that were trained on."""

    @property
    def title(self) -> str:
        """Whose they are, in a line."""
        return f"{self.recipe.data.name}/{self.recipe.name} seed {self.seed}"

    def are_of(self, recipe: Recipe, split: str, seed: int) -> bool:
        """Whether they are those of this very run."""
        return (self.recipe.sha256(), self.split, self.seed) == (recipe.sha256(), split, seed)

    @property
    def looks(self) -> Looks:
        """How images were shown in training, or else by the card as it is now. Raises UserError without a card."""
        return self.kept_looks or load_card(self.recipe.data.name).looks

    def as_trained(self, split: Split) -> Split:
        """The split with its images shown as in training, whatever its card says of that now.

        Raises UserError where classes have moved since the training; where it was other data, says so on stderr.
        """
        split = replace(split, card=split.card.model_copy(update=dict(self.looks)))
        self._check_classes(split)
        return split

    def _check_classes(self, split: Split) -> None:
        now, data = split.class_names, split.card.name
        then = now if self.class_names is None else self.class_names
        if len(then) != len(now):
            raise UserError(f"{self.path}: trained on {len(then)} classes, and {data} has {len(now)} now")
        others = [label for label, name in enumerate(then) if name != now[label]]
        for label in others:
            if then[label] in now:
                moved = f"class {label} of {data} was {then[label]!r}, which is class {now.index(then[label])} now"
                raise UserError(f"{self.path}: trained when {moved}")
        if self.split != split.digest:
            doubts = [f"class {label} was {then[label]!r} and is {now[label]!r}" for label in others[:1]]
            doubts += ["classes may stand in another order"] if self.class_names is None else []
            print(
                f"{self.path}: trained on another split ({self.split[:12]}) than {data} has now ({split.digest[:12]}): "
                f"{', '.join([*doubts, 'test images may be training images'])}",
                file=sys.stderr,
            )

    def load_into(self, network: Network) -> None:
        """Give the network these weights. Raises UserError, naming the file they came from, if they do not fit."""
        try:
            network.load_state_dict(self.tensors)
        except RuntimeError as error:
            raise UserError(f"{self.path}: does not fit its own recipe: {' '.join(str(error).split())[:200]}") from None


def save_weights(path: Path, network: Network, recipe: Recipe, split: Split, seed: int, trained: Trained) -> None:
    """Write a run's final weights; `split` is its data. Raises UserError, leaving no file behind."""
    metadata = {"recipe": json.dumps(recipe.resolved()), "split": split.digest, "seed": str(seed)}
    metadata |= {"class_names": json.dumps(split.class_names), "trained": json.dumps(asdict(trained))}
    counts = np.bincount(split.training.labels, minlength=split.card.classes)
    metadata |= {"looks": split.card.looks.model_dump_json(), "counts": json.dumps(counts.tolist())}
    write_tensors(path, "weights", network.state_dict(), metadata | {"lt_bench": __version__})


def read_weights(path: Path) -> Weights:
    """The weights of a run. Raises UserError for any other file, also for one that is not as it was written."""
    try:
        tensors, metadata = read_tensors(path)
        recipe = Recipe.read(json.loads(metadata["recipe"]))
        trained = Trained(**json.loads(metadata["trained"]))
        _check_whole(recipe, alone="looks" in metadata)
        return Weights(recipe, int(metadata["seed"]), trained, tensors, path, metadata["split"], **_kept(metadata))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if os.path.lexists(path / FILE):  # False also of a name too long, for which `Path.exists` raises an error
            reason = f"a folder, with {path / FILE} in it"
        raise UserError(f"{path}: not the weights of a run ({reason})") from None


def _kept(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What weights of today tell of their data, as far as these do. Raises ValueError for what is none of it."""
    told = _Kept.read({name: json.loads(metadata[name]) for name in _Kept.model_fields if name in metadata})
    return {"class_names": told.class_names, "counts": told.counts, "kept_looks": told.looks}


class _Kept(Settings):
    """In metadata: of each, the field of `Weights`."""

    class_names: tuple[str, ...] | None = None
    counts: tuple[Annotated[int, Field(ge=0, lt=10**8)], ...] | None = None
    looks: Looks | None = None

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if self.class_names and self.counts and len(self.class_names) != len(self.counts):
            raise ValueError(f"{len(self.class_names)} class_names and {len(self.counts)} counts")
        return self


def _check_whole(recipe: Recipe, *, alone: bool) -> None:
    """Raise an error if the recipe was not resolved by this program, with these plug-ins: if what a network is built
    from is missing or is another. Weights that tell of their data stand `alone`, without the card of one's own set.
    """
    recipe.method_choice(), recipe.head_choice(), recipe.backbone_choice()
    if not alone or recipe.data.name in card_names():
        recipe.data.resolve(load_card(recipe.data.name))
    ends = [phase.until for phase in recipe.phase_choices()]
    if ends[-1] != max(1, recipe.training.epochs):
        raise ValueError(f"phases until {ends} in {recipe.training.epochs} epochs")
    check_plugins(recipe)
