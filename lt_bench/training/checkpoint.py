"""The state of a run at an epoch boundary, saved by rename and read without executing anything."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lt_bench import ranks
from lt_bench.data.types import IntArray
from lt_bench.errors import RunError, UserError
from lt_bench.evaluation.metrics import top1
from lt_bench.evaluation.predictions import Predictions
from lt_bench.files import in_words, write_atomically
from lt_bench.leaderboard.record import Curve, Selection
from lt_bench.training.averaging import WeightAverage

if TYPE_CHECKING:
    from lt_bench.training.loop import Job

FIGURES = {"last": "test_top1", "best-on-test": "test_top1", "best-on-val": "val_top1"}
"""What in an epoch's entry of the curve each selection rule goes by."""


@dataclass(kw_only=True)
class History:
    """What a run has left behind so far, for its record."""

    curve: list[dict[str, Any]] = field(default_factory=list)
    """One entry per finished epoch, as the log has it; what the record keeps of it are the fields of `Curve`."""
    selections: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The evaluation that each selection rule picks so far."""
    predictions: dict[str, Tensor] = field(default_factory=dict)
    """Predicted class and confidence of every test image at the last evaluation."""
    train_s: float = 0.0
    wall_s: float = 0.0
    images: int = 0
    resumed: int = 0
    ended: str = ""
    """When the last epoch ended, UTC. No two trainings end at once: it tells whether one has its record already."""

    def last_predictions(self, labels: IntArray) -> Predictions:
        """The predictions of the last evaluation, of test images with these labels."""
        predicted, confidence = (self.predictions[name].numpy() for name in ("predicted", "confidence"))
        return Predictions(labels, predicted, confidence)

    def check(self, job: Job) -> None:
        """Raise an error if this is not what the job leaves behind after some or all of its epochs."""
        epochs = max(1, job.protocol.epochs)
        numbers = [entry["epoch"] for entry in self.curve]
        if numbers != list(range(len(numbers))) or len(numbers) > epochs:
            raise ValueError(f"it has the epochs {numbers[:3]} to {numbers[-1:]}, the training {epochs}")
        Curve.of(self.curve)
        figures = (self.train_s, self.wall_s, self.images, self.resumed)
        if not all(0 <= figure < math.inf for figure in figures):
            raise ValueError(f"times and counts {figures}")
        chosen = {rule: Selection.read(summary) for rule, summary in self.selections.items()}
        if {rule: selection.epoch for rule, selection in chosen.items()} != self.chosen_epochs():
            raise ValueError("the selections are of other epochs than the curve says")
        for rule, selection in chosen.items():
            if top1(selection.correct, selection.total) != self.curve[selection.epoch]["test_top1"]:
                raise ValueError(f"{rule} selects another accuracy than the curve has")
        if chosen:
            last = chosen["last"]
            if last != Selection.of(self.last_predictions(job.sets.test.labels), last.epoch, job.num_classes):
                raise ValueError("the predictions are not those of the last evaluation")

    def chosen_epochs(self) -> dict[str, int]:
        """The epoch that each selection rule picks from the curve: of equals the first."""
        found = {}
        for rule, figure in FIGURES.items():
            values = {entry["epoch"]: entry[figure] for entry in self.curve if figure in entry}
            if values:
                found[rule] = max(values) if rule == "last" else max(values, key=values.__getitem__)
        return found


@dataclass
class State(History):
    """What training changes. Everything else of a run follows from recipe, data and seed."""

    network: nn.Module
    method: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None = None
    """Of the network's weights, where the protocol asks for it: then it is evaluated in their place."""

    def evaluated(self) -> AbstractContextManager[None]:
        """The network as it is to be evaluated, and as it trains again after."""
        return nullcontext() if self.average is None else self.average.in_network()


HISTORY = tuple(History.__dataclass_fields__)


@dataclass(frozen=True)
class Owner:
    """The run that a checkpoint belongs to: its whole identity, and on what it computes."""

    run: str
    """Data set, recipe and seed, for people."""
    recipe: str
    """sha256."""
    split: str
    """Digest."""
    seed: int
    setting: dict[str, str]
    """Device, precision and compilation, as the command line calls them: they change the arithmetic. What is left out
    of it may be anything."""


def save_checkpoint(path: Path, state: State, owner: Owner) -> None:
    """Write the state; a crash at any moment leaves the previous checkpoint or this one, never half of it."""
    content = {
        "owner": asdict(owner),
        "network": state.network.state_dict(),
        "method": state.method.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": None if state.average is None else state.average.average,
        **{name: getattr(state, name) for name in HISTORY},
    }
    # Through memory: torch's own writer hides why a file could not be written.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise RunError(f"{path}: the checkpoint could not be written: {in_words(error)}") from None


def load_checkpoint(path: Path, state: State, owner: Owner, job: Job, recorded: Set[str] = frozenset()) -> None:
    """Bring `state` to where the checkpoint stands, unless what it led to has its record already.

    Args:
        path: Of the checkpoint.
        state: That of the job, untrained.
        owner: The run whose checkpoint is expected.
        job: What is trained.
        recorded: When the trainings `ended` that have their records.

    Raises:
        UserError: It is that of another run, damaged, or made another way.
    """
    try:
        source = path if ranks.count() == 1 else io.BytesIO(ranks.from_first(path.read_bytes))
        _check_bytes(source)
        content = torch.load(source, map_location="cpu", weights_only=True)
        _check_owner(path, Owner(**content["owner"]), owner)
        if content["ended"] in recorded:
            return
        for name in HISTORY:
            setattr(state, name, content[name])
        state.check(job)
        state.network.load_state_dict(content["network"])
        state.method.load_state_dict(content["method"])
        state.optimizer.load_state_dict(content["optimizer"])
        if state.average is not None:
            state.average.load(content["average"])
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise UserError(f"{path}: not a checkpoint of this run ({reason}); --no-resume trains anew") from None
    state.resumed += 1


def _check_bytes(source: Path | io.BytesIO) -> None:
    """Compare the checksums in the file with its bytes, which torch.load does not."""
    if isinstance(source, Path) and not source.is_file():
        raise ValueError("not a regular file")
    with zipfile.ZipFile(source) as archive:
        damaged = archive.testzip()
    if isinstance(source, io.BytesIO):
        source.seek(0)
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged")


def _check_owner(path: Path, made: Owner, owner: Owner) -> None:
    other = [name for name in ("recipe", "split", "seed") if getattr(made, name) != getattr(owner, name)]
    if other:
        raise UserError(
            f"{path}: the checkpoint of another run, {made.run}, not of {owner.run} (another {', '.join(other)}); "
            "--no-resume trains anew"
        )
    for key, value in made.setting.items():
        if owner.setting.get(key, value) != value:
            raise UserError(
                f"{path}: made with {key} {value}, now {key} is {owner.setting[key]}; "
                f"go on with --{key} {value} or begin anew with --no-resume"
            )
