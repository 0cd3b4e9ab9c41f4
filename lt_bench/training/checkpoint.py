"""The state of a run at an epoch boundary, saved by rename and read without executing anything."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lt_bench.errors import RunError, UserError


@dataclass
class State:
    """What training changes. Everything else of a run follows from recipe, data and seed."""

    network: nn.Module
    method: nn.Module
    optimizer: torch.optim.Optimizer
    curve: list[dict[str, Any]] = field(default_factory=list)
    """One entry per finished epoch."""
    selections: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The evaluation that each selection rule picks so far."""
    predictions: dict[str, Tensor] = field(default_factory=dict)
    """Predicted class and confidence of every test image at the last evaluation."""
    train_s: float = 0.0
    wall_s: float = 0.0
    images: int = 0
    resumed: int = 0


PLAIN = ("curve", "selections", "predictions", "train_s", "wall_s", "images", "resumed")


def save_checkpoint(path: Path, state: State, setting: dict[str, str]) -> None:
    """Write the state; a crash at any moment leaves the previous checkpoint or this one, never half of it."""
    content = {
        "setting": setting,
        "network": state.network.state_dict(),
        "method": state.method.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        **{name: getattr(state, name) for name in PLAIN},
    }
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise RunError(f"{path}: the checkpoint could not be written: {error}") from None


def load_checkpoint(path: Path, state: State, setting: dict[str, str]) -> None:
    """Bring `state` to where the checkpoint stands. Raises UserError if it was made another way."""
    try:
        _check_bytes(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check_setting(path, content["setting"], setting)
        state.network.load_state_dict(content["network"])
        state.method.load_state_dict(content["method"])
        state.optimizer.load_state_dict(content["optimizer"])
        for name in PLAIN:
            setattr(state, name, content[name])
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise UserError(f"{path}: not a checkpoint of this run ({reason}); --no-resume trains anew") from None
    state.resumed += 1


def _check_bytes(path: Path) -> None:
    """Compare the checksums in the file with its bytes, which torch.load does not."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged")


def _check_setting(path: Path, made: dict[str, str], setting: dict[str, str]) -> None:
    for key, value in made.items():
        if setting.get(key) != value:
            raise UserError(
                f"{path}: made with {key} {value}, now {key} is {setting.get(key)}; "
                f"go on with --{key} {value} or begin anew with --no-resume"
            )
