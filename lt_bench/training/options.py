"""What a run is told beside its recipe and seed, and what comes of it. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from lt_bench.errors import UserError, unknown
from lt_bench.resources import RECORDS, refuse_installed

if TYPE_CHECKING:
    from lt_bench.training.progress import Progress

Precision = Literal["auto", "float32", "bf16"]
Compile = Literal["auto", "on", "off"]
T = TypeVar("T", bound=str)


@dataclass(frozen=True)
class Options:
    """Where a run reads and writes, and on what it computes: nothing that changes what is computed."""

    data_root: Path | None = None
    work: Path = Path("runs")
    """Checkpoints, logs and weights, one folder a run."""
    records: Path = RECORDS
    device: str = "auto"
    precision: Precision = "auto"
    compile: Compile = "auto"
    workers: int = 2
    """Decoding processes per stream, for data sets of image files."""
    force: bool = False
    """Train again although a record exists; the new record stands beside the old one."""
    restart: bool = False
    """Begin anew although a checkpoint exists."""
    progress: Callable[..., Progress] | None = None
    """Makes what a person sees of a training, from what `Progress` takes; None: a bar on a terminal, else lines."""
    title: str = ""
    """What a run is called on the screen; empty: by its data, method and seed."""
    track: str | None = None
    """What follows the curves beside the log; see `tracking.TRACKERS`."""
    first_of: str = ""
    """The method whose first stage is trained, where it is trained for that."""
    wait: bool = False
    """Wait for another process that trains the same run; else that is an error."""
    deadline: float | None = None
    """On the clock of `time.monotonic`: the run stops at the first epoch boundary after it."""

    def __post_init__(self) -> None:
        refuse_installed("--records", self.records)


@dataclass(frozen=True)
class Outcome:
    """Where the record of a run stands, its top-1 (a fraction) at the last epoch, and whether this call trained it."""

    record: Path
    top1: float
    trained: bool


class BudgetSpent(Exception):  # noqa: N818 (not an error)
    """The deadline passed. The run's checkpoint stands at the last finished epoch."""


def device_named(name: str, *, elsewhere: bool = False) -> str:
    """A device from the command line. Raises UserError for any other word, and for a device that is not there.

    Of a device `elsewhere` only the machine there can tell.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {name}: allowed are auto, cpu, cuda")
    if name == "cuda" and not elsewhere and not _cuda_is_available():
        raise UserError("--device cuda: torch finds no CUDA device on this machine; use --device cpu")
    return name


def precision_named(name: str) -> Precision:
    """A precision from the command line. Raises UserError for any other word."""
    return _one_of(name, "precision", get_args(Precision))


def compile_named(name: str) -> Compile:
    """Whether to compile, from the command line. Raises UserError for any other word."""
    return _one_of(name, "compile", get_args(Compile))


def _one_of(name: str, option: str, allowed: tuple[T, ...]) -> T:
    found = next((word for word in allowed if word == name), None)
    if found is None:
        raise UserError(f"--{option} {unknown(f'value of --{option}', name, allowed)}")
    return found


def _cuda_is_available() -> bool:
    import torch  # noqa: PLC0415 (slow to import, and other devices can be told without it)

    return torch.cuda.is_available()
