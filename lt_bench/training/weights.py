"""The weights of a finished run: written by rename, read without executing anything."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lt_bench import __version__
from lt_bench.errors import UserError
from lt_bench.models import Network
from lt_bench.recipe import Recipe

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

    def load_into(self, network: Network) -> None:
        """Give the network these weights. Raises UserError, naming the file they came from, if they do not fit."""
        try:
            network.load_state_dict(self.tensors)
        except RuntimeError as error:
            raise UserError(f"{self.path}: does not fit its own recipe: {' '.join(str(error).split())[:200]}") from None


def save_weights(path: Path, network: Network, recipe: Recipe, seed: int, trained: Trained) -> None:
    """Write the final weights. Raises UserError, leaving no file behind, if that fails."""
    metadata = {"recipe": json.dumps(recipe.resolved()), "seed": str(seed), "lt_bench": __version__}
    metadata["trained"] = json.dumps(asdict(trained))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    partial = path.with_suffix(".partial")
    try:
        save_file(tensors, partial, metadata)
        partial.replace(path)
    except Exception as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path}: the weights could not be written: {error}") from None


def read_weights(path: Path) -> Weights:
    """The weights of a run. Raises UserError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        trained = Trained(**json.loads(metadata.get("trained", "{}")))
        return Weights(Recipe.read(json.loads(metadata["recipe"])), int(metadata["seed"]), trained, tensors, path)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"{path}: not the weights of a run ({reason})") from None
